"""ngircd, and clients that speak IRC (RFC 2812): private messages, and a channel for each room."""

import itertools

from scripts.benchmarks.systems.packaged import Packaged, free_port
from scripts.benchmarks.systems.system import Client, stamp_of, stamped

END_OF_WELCOME = b" 376 "  # of the message of the day, which over TLS has a line at least
END_OF_NAMES = b" 366 "

# It wants a port without TLS, too.
CONFIGURATION = """
[Global]
Name = irc.bench.localhost
Listen = 127.0.0.1
Ports = {plain_port}
MotdFile = {folder}/none
PidFile = {folder}/pid

[Limits]
MaxConnections = 0
MaxConnectionsIP = 0
MaxJoins = 0
MaxPenaltyTime = 0
PingTimeout = 3600

[Options]
IncludeDir = {folder}/more
DNS = no
Ident = no
PAM = no

[SSL]
CertFile = {folder}/server.pem
KeyFile = {folder}/server-key.pem
Ports = {port}
"""


class IrcClient(Client):
    """A connection with a nick, which talks to one target."""

    def __init__(self, server: "Ngircd") -> None:
        super().__init__(server)
        self.nick = b"n%d" % next(server.numbers)
        self.target = self.nick

    def log_in(self) -> None:
        """See `Client`."""
        self.connect()
        self.queue(b"NICK %s\r\nUSER bench 0 * :bench\r\n" % self.nick)
        self.flush()
        self.read_to(END_OF_WELCOME)
        self.read_to(b"\r\n")

    def join(self, channel: bytes) -> None:
        """Enter a channel and talk there."""
        self.target = channel
        self.queue(b"JOIN %s\r\n" % channel)
        self.flush()
        self.read_to(END_OF_NAMES)
        self.read_to(b"\r\n")

    def say(self) -> None:
        """See `Client`."""
        self.unanswered += 1
        self.queue(b"PRIVMSG %s :%s\r\n" % (self.target, stamped()))

    def take(self) -> list[int]:
        """See `Client`."""
        *lines, rest = self._plaintext.split(b"\r\n")
        self._plaintext = rest
        stamps = []
        for line in lines:
            if line.startswith(b"PING"):
                self.queue(b"PONG%s\r\n" % line[4:])
            elif b" PRIVMSG " in line:
                stamps.append(stamp_of(bytes(line.split(b" :", 1)[1])))
        return stamps


class Ngircd(Packaged):
    """See the module."""

    package = program = "ngircd"

    def configure(self, port: int) -> tuple[list[str], dict[str, str]]:
        """See `Packaged`."""
        self.numbers, self._channels = itertools.count(), itertools.count()
        (self.folder / "more").mkdir()
        path = self.folder / "ngircd.conf"
        path.write_text(CONFIGURATION.format(port=port, plain_port=free_port(), folder=self.folder))
        return ["--nodaemon", "--config", str(path)], {}

    def pairs(self, count: int) -> list[tuple[Client, Client]]:
        """See `System`."""
        pairs: list[tuple[Client, Client]] = []
        for _ in range(count):
            one, two = IrcClient(self), IrcClient(self)
            one.target, two.target = two.nick, one.nick
            for client in (one, two):
                client.log_in()
            pairs.append((one, two))
        return pairs

    def room(self, count: int) -> list[Client]:
        """See `System`."""
        channel = b"#room%d" % next(self._channels)
        clients = [IrcClient(self) for _ in range(count)]
        for client in clients:
            client.log_in()
            client.join(channel)
        return list(clients)

    def newcomer(self) -> Client:
        """See `System`."""
        return IrcClient(self)
