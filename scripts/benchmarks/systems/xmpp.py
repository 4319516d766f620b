"""prosody and ejabberd, and clients that speak XMPP (RFC 6120): TLS from the first byte, SASL PLAIN, chat and MUC."""

import base64
import itertools
import re
from abc import abstractmethod
from pathlib import Path

from scripts.benchmarks.systems.packaged import Packaged
from scripts.benchmarks.systems.system import PAYLOAD, Client, stamp_of, stamped

DOMAIN = b"localhost"
ROOMS = b"rooms.localhost"

_MESSAGE = re.compile(rb"<message\b([^>]*)>.*?</message>", re.DOTALL)
_SELF_PRESENCE = re.compile(rb"<presence\b[^>]*>(?:(?!</presence>).)*code=['\"]110['\"].*?</presence>", re.DOTALL)


class XmppClient(Client):
    """A connection of a user of its own, which talks to one target."""

    def __init__(self, server: "XmppSystem") -> None:
        super().__init__(server)
        self.user = b"user%d" % next(server.numbers)
        self.address = self.user + b"@" + DOMAIN + b"/bench"
        self.target, self._kind = self.address, b"chat"
        self._echo = b"\0"  # in the head of an own message that comes back from a room

    def log_in(self) -> None:
        """See `Client`."""
        self.connect()
        self._open()
        credentials = base64.b64encode(b"\0%s\0password" % self.user)
        self._ask(
            b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>" % credentials, b"<success"
        )
        self.read_to(b">")
        self._open()
        bind = b"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>bench</resource></bind>"
        self._ask(b"<iq type='set' id='bind'>%s</iq>" % bind, b"</iq>")
        self.queue(b"<presence/>")
        self.flush()

    def _open(self) -> None:
        head = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client'"
        head += b" xmlns:stream='http://etherx.jabber.org/streams'"
        self._ask(head + b" to='%s' version='1.0'>" % DOMAIN, b"</stream:features>")

    def _ask(self, stanza: bytes, answer: bytes) -> None:
        self.queue(stanza)
        self.flush()
        self.read_to(answer)

    def join(self, room: bytes) -> None:
        """Enter a room and talk there."""
        self.target, self._kind = room + b"@" + ROOMS, b"groupchat"
        self._echo = self.target + b"/" + self.user
        muc = b"<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x>"
        self.queue(b"<presence to='%s'>%s</presence>" % (self._echo, muc))
        self.flush()
        while not (found := _SELF_PRESENCE.search(self._plaintext)):
            self.read()
        del self._plaintext[: found.end()]

    def say(self) -> None:
        """See `Client`."""
        self.unanswered += 1
        self.queue(b"<message to='%s' type='%s'><body>%s</body></message>" % (self.target, self._kind, stamped()))

    def take(self) -> list[int]:
        """See `Client`."""
        stamps, end = [], 0
        for message in _MESSAGE.finditer(self._plaintext):
            end = message.end()
            body = message[0].find(b"<body>")
            if body >= 0 and self._echo + b"'" not in message[1] and self._echo + b'"' not in message[1]:
                start = body + len(b"<body>")
                stamps.append(stamp_of(message[0][start : start + PAYLOAD]))
        del self._plaintext[:end]
        return stamps


class XmppSystem(Packaged):
    """What both servers share."""

    def configure(self, port: int) -> tuple[list[str], dict[str, str]]:
        """See `Packaged`."""
        self.numbers, self._rooms = itertools.count(), itertools.count()
        return self.configure_xmpp(port)

    @abstractmethod
    def configure_xmpp(self, port: int) -> tuple[list[str], dict[str, str]]:
        """See `Packaged.configure`."""

    def pairs(self, count: int) -> list[tuple[Client, Client]]:
        """See `System`."""
        pairs: list[tuple[Client, Client]] = []
        for _ in range(count):
            one, two = XmppClient(self), XmppClient(self)
            one.target, two.target = two.address, one.address
            for client in (one, two):
                client.log_in()
            pairs.append((one, two))
        return pairs

    def room(self, count: int) -> list[Client]:
        """See `System`."""
        name = b"room%d" % next(self._rooms)
        clients = [XmppClient(self) for _ in range(count)]
        for client in clients:
            client.log_in()
            client.join(name)
        return list(clients)

    def newcomer(self) -> Client:
        """See `System`."""
        return XmppClient(self)


# Without Nagle's algorithm, which it has by default: it would only spoil the latency.
PROSODY = """
modules_enabled = {{ "disco", "roster", "saslauth", "tls", "ping" }}
modules_disabled = {{ "s2s", "offline" }}
admins = {{}}
authentication = "insecure"
insecure_open_authentication = "Yes please, I know what I'm doing!"
storage = "memory"
data_path = "{folder}"
pidfile = "{folder}/prosody.pid"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{}}
c2s_direct_tls_ports = {{ {port} }}
c2s_direct_tls_ssl = {{ certificate = "{folder}/server.pem", key = "{folder}/server-key.pem", protocol = "tlsv1_3" }}
network_settings = {{ nagle = false }}
log = {{ error = "*console" }}
VirtualHost "localhost"
  ssl = {{ certificate = "{folder}/server.pem", key = "{folder}/server-key.pem" }}
Component "rooms.localhost" "muc"
  muc_room_locking = false
  muc_room_default_history_length = 0
"""


class Prosody(XmppSystem):
    """See the module."""

    package = program = "prosody"

    def configure_xmpp(self, port: int) -> tuple[list[str], dict[str, str]]:
        """See `Packaged`."""
        path = self.folder / "prosody.cfg.lua"
        path.write_text(PROSODY.format(port=port, folder=self.folder))
        return ["--config", str(path), "-F"], {}


EJABBERD = """
hosts: [localhost]
loglevel: error
certfiles: ["{folder}/server.pem", "{folder}/server-key.pem"]
ca_file: "{folder}/server.pem"
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
listen:
  - port: {port}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    tls: true
    backlog: 1024
    protocol_options: [no_sslv3, no_tlsv1, no_tlsv1_1, no_tlsv1_2]
modules:
  mod_disco: {{}}
  mod_ping: {{}}
  mod_roster: {{}}
  mod_muc:
    hosts: [rooms.localhost]
    max_users: 1000
    history_size: 0
"""


class Ejabberd(XmppSystem):
    """See the module. Erlang is started as `ejabberdctl` does, but without a node's name, so that no epmd stays behind.

    Its threads do not spin while they wait, as they do by default: that would count as work.
    """

    package = "ejabberd"
    program = "erl"

    @classmethod
    def installed(cls) -> str | None:
        """See `Packaged`."""
        return super().installed() if cls._libraries() else None

    @staticmethod
    def _libraries() -> str:
        """The folder of Erlang's libraries with ejabberd among them; empty: there is none."""
        applications = Path("/usr/lib").glob("*/ejabberd-*/ebin/ejabberd.app")
        return next((str(application.parents[2]) for application in applications), "")

    def configure_xmpp(self, port: int) -> tuple[list[str], dict[str, str]]:
        """See `Packaged`."""
        path = self.folder / "ejabberd.yml"
        path.write_text(EJABBERD.format(port=port, folder=self.folder))
        command = ["-noinput", "-mnesia", "dir", f'"{self.folder}/mnesia"', "-s", "ejabberd"]
        command += ["+K", "true", "+P", "250000"]
        for threads in ("+sbwt", "+sbwtdcpu", "+sbwtdio"):
            command += [threads, "none"]
        return command, {
            "ERL_LIBS": self._libraries(),
            "EJABBERD_CONFIG_PATH": str(path),
            "EJABBERD_LOG_PATH": str(self.folder / "ejabberd.log"),
            "ERL_CRASH_DUMP_BYTES": "0",
        }
