"""A plain client for tests of the server: the wire protocol, over real TLS, and real MLS groups, in one thread.

It does only what it is told, so that a test can also do what no honest client does.
"""

import hashlib
import os
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.identity.certificate import RULES_EXTENSION, DeviceCertificate, credential, issue, leaf_validator
from securechat.identity.statements import EMPTY, Action, Head, Link, Statement, state
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.framing import MLSMessage
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Capabilities, Lifetime
from securechat.mls.proposals import Add, Proposal, Remove
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.welcome import Welcome
from securechat.policy import Identity, Rules, departure_data
from securechat.transport.tls_connection import TLSConnection
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.chain import OPERATORS_WORD
from securechat.wire.frames import encode_frame
from securechat.wire.possession import LABEL, Channel
from securechat.wire.protocol import ClientProtocol, Ended
from securechat_lab.cast.canaries import search

WAIT = 60.0
"""Seconds that a test waits for something that must come; never for something that must not."""

M = TypeVar("M")

SECRETS: set[bytes] = set()
"""Secrets that any client here has sent or received: none of them may be in a log."""

MIN_SECRET = 12
"""Bytes: a shorter secret may be in a log by chance, in one of its encodings."""

SECRET_FIELDS = ("secret", "token", "invite")


def note_secrets(message: object) -> None:
    """Remember what is secret in a message."""
    for name in SECRET_FIELDS:
        value = getattr(message, name, b"")
        secret = value.encode() if isinstance(value, str) else value
        if len(secret) >= MIN_SECRET and len(set(secret)) > 5:  # not `bytes(32)` and the like
            SECRETS.add(secret)


def secrets_in(log: bytes) -> list[str]:
    """The places in a log that hold one of SECRETS."""
    return search({"the log": log}, {f"secret {number}": secret for number, secret in enumerate(SECRETS)})


def commit_data(number: int) -> bytes:
    """The authenticated data of a commit that is made now."""
    return number.to_bytes(8, "big") + int(time.time() * 1000).to_bytes(8, "big")


class Client(ABC):
    """The client's end of one connection, whatever carries it."""

    hello: m.Hello

    @property
    @abstractmethod
    def shown(self) -> bytes:
        """SHA-256 of the certificate that the server has shown."""

    @property
    def channel(self) -> Channel:
        """What a device signs of this connection."""
        return Channel(self.hello.server_id, self.shown, self.hello.nonce)

    def begin(self, now: float, versions: Sequence[int] = (limits.PROTOCOL_VERSION,)) -> None:
        """Say hello, and wait for the server's. `versions`: of the protocol, that it claims to speak."""
        self.protocol = ClientProtocol("test", now)
        self.protocol._outgoing = [encode_frame(m.ClientHello(list(versions), "test"))]
        self.received: list[Any] = []
        """Everything from the server that has not been taken yet, in order."""
        try:
            self.hello = self.take(m.Hello)
        except BaseException:
            self.drop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    @abstractmethod
    def flush(self) -> None:
        """Send what waits."""

    @abstractmethod
    def pump(self, wait: float = WAIT) -> bool:
        """Send everything that waits, and receive once; False if nothing came."""

    @abstractmethod
    def drop(self) -> None:
        """Lose the connection."""

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes of the server."""
        messages = self.protocol.receive_data(data, now)
        for message in messages:
            note_secrets(message)
        self.received += messages

    def send(self, message: Any) -> None:
        note_secrets(message)
        self.protocol.send(message)
        self.flush()

    def take(self, kind: type[M], matches: Callable[[M], bool] = lambda _: True) -> M:
        """Wait for the first message of a type, and take it; earlier messages stay."""
        deadline = time.monotonic() + WAIT
        looked = 0
        while True:
            for index in range(looked, len(self.received)):
                message = self.received[index]
                if isinstance(message, kind) and matches(message):
                    del self.received[index]
                    return message
                if isinstance(message, Ended):
                    raise AssertionError(f"the connection ended, {kind.__name__} never came: {self.received}")
            looked = len(self.received)
            if time.monotonic() > deadline:
                raise AssertionError(f"no {kind.__name__} came: {self.received}")
            self.pump(max(0.01, deadline - time.monotonic()))

    def ask(self, kind: Callable[..., Any], *fields: Any, **named: Any) -> Any:
        """Send a request and wait for its reply."""
        request = self.protocol.next_id()
        self.send(kind(request, *fields, **named))
        return self.take(m.Reply, lambda reply: reply.id == request)

    def ended(self) -> Ended:
        """Wait for the end of the session."""
        deadline = time.monotonic() + WAIT
        while not any(isinstance(event, Ended) for event in self.received):
            assert time.monotonic() < deadline, self.received
            self.pump()
        return next(event for event in self.received if isinstance(event, Ended))

    def bye(self) -> None:
        self.protocol.close("bye")
        self.flush()
        self.drop()


class WireClient(Client):
    """One connection to a server over TLS."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        *,
        receive_buffer: int | None = None,
        source: str = "127.0.0.1",
        versions: Sequence[int] = (limits.PROTOCOL_VERSION,),
        announced: bytes = b"",
    ) -> None:
        """`source`: the address to connect from, `::1` by IPv6; Linux owns all of 127.0.0.0/8.

        `versions`: the protocol versions that it claims to speak. `announced`: bytes before its own, as of a proxy.
        """
        self.socket = socket.socket(socket.AF_INET6 if source == "::1" else socket.AF_INET)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the second of two waits 40 ms
        self.socket.bind((source, 0))
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(WAIT)
        self.socket.connect(("::1" if source == "::1" else "127.0.0.1", port))
        self.socket.sendall(announced)
        self.tls = TLSConnection(context, server_side=False, server_hostname="127.0.0.1")
        self.begin(time.monotonic(), versions)

    @property
    def shown(self) -> bytes:
        return self.tls.shown()

    def flush(self) -> None:
        if self.tls.established:
            self.tls.write(self.protocol.data_to_send())
        if data := self.tls.data_to_send():
            self.socket.settimeout(WAIT)  # whatever the last `pump` set
            self.socket.sendall(data)

    def pump(self, wait: float = WAIT) -> bool:
        """Send everything that waits, and receive once; False if nothing came."""
        self.flush()
        self.socket.settimeout(wait)
        try:
            data = self.socket.recv(1 << 16)
        except (TimeoutError, BlockingIOError):
            return False
        except ConnectionError:
            data = b""
        if data:
            self.receive(self.tls.receive(data), time.monotonic())
        else:
            self.received += self.protocol.receive_eof()
        self.flush()
        return bool(data)

    def send_raw(self, plaintext: bytes) -> None:
        """Send bytes that no protocol machine would send."""
        self.tls.write(plaintext)
        self.socket.sendall(self.tls.data_to_send())

    def drop(self) -> None:
        self.socket.close()


class Member(Client):
    """A client with an account, a device and groups."""

    @property
    def now(self) -> int:
        """Seconds since 1970, by this client's clock."""
        return int(time.time())

    def enroll(self, account: str) -> None:
        """Have a name, and keys that nobody knows yet."""
        self.account = account
        self.secret = hashlib.sha256(account.encode()).digest()
        self.device = os.urandom(16)
        self.identity = Ed25519PrivateKey.generate()
        self.signature = SignaturePrivateKey.generate(SUITE)
        self.chain: list[Link] = []
        self.bundles: list[KeyPackageBundle] = []
        self.groups: dict[bytes, Group] = {}
        self.numbers: dict[bytes, int] = {}
        self.cursors: dict[bytes, int] = {}
        self.staged: dict[bytes, StagedCommit] = {}
        self.texts: list[tuple[bytes, int, bytes, str]] = []
        """What was read: conversation, seq, device, text."""
        self.token = b""

    # --- logging in ---

    def register(self) -> Self:
        assert self.ask(m.Register, self.account, self.secret) == m.Registered(self.protocol._next_id - 1, self.account)
        return self

    def login(self, *, publish: bool = True) -> Self:
        reply = self.ask(m.Login, self.account, self.secret, self.device)
        assert isinstance(reply, m.LoggedIn), reply
        self.token = reply.token
        if publish and not reply.place and not reply.certificate:
            self.publish()
        return self

    @abstractmethod
    def again(self) -> "Member":
        """A new connection of the same device, resumed."""

    def take_over(self, earlier: "Member") -> Self:
        """Be the device of an earlier connection, resumed."""
        for name in (
            "device", "identity", "signature", "chain", "bundles", "groups", "numbers", "cursors", "staged", "texts",
            "token",
        ):  # fmt: skip
            setattr(self, name, getattr(earlier, name))
        reply = self.ask(m.Resume, *self.credentials(self.channel))
        assert isinstance(reply, m.LoggedIn), reply
        return self

    def credentials(self, channel: Channel) -> tuple[bytes, bytes, bytes]:
        """What `Resume` takes over a connection: token, device, and the proof that we have its key."""
        content = channel.possession(self.account, self.device)
        return self.token, self.device, self.signature.sign_with_label(LABEL, content)

    @property
    def identity_key(self) -> bytes:
        return self.identity.public_key().public_bytes_raw()

    @property
    def head(self) -> Head:
        """How far the chain has come that the identity key has signed."""
        return Head.after(self.chain[-1]) if self.chain else EMPTY

    def certificate(self) -> DeviceCertificate:
        """The newest one of this device, the first time a new one."""
        for link in reversed(self.chain):
            if isinstance(link, DeviceCertificate) and link.device_id == self.device:
                return link
        return self.certify()

    def certify(self) -> DeviceCertificate:
        """A new certificate of this device."""
        head = self.head
        link = issue(
            self.identity,
            server_id=self.hello.server_id,
            account=self.account,
            device_id=self.device,
            signature_key=self.signature.public_key,
            not_before=self.now - 86_400,
            not_after=self.now + 44 * 86_400,
            seq=head.seq + 1,
            previous=head.digest,
        )
        self.chain.append(link)
        return link

    def rotate(self) -> DeviceCertificate:
        """A certificate for a new signature key."""
        self.signature = SignaturePrivateKey.generate(SUITE)
        return self.certify()

    def renew(self) -> None:
        """Rotate as clients do each month: the directory has the new key first, then every group."""
        self.rotate()
        self.publish()
        for conversation in self.groups:
            reply = self.change(
                conversation, credential=credential(self.certificate()), signature_private=self.signature
            )
            assert isinstance(reply, m.Accepted), reply

    def state(self, action: Action, key: bytes, **more: Any) -> Statement:
        """The next statement; the arguments as in `statements.state`."""
        link = state(
            self.identity, self.head, action, server_id=self.hello.server_id, account=self.account,
            time=self.now, key=key, **more,
        )  # fmt: skip
        self.chain.append(link)
        return link

    def unpublished(self) -> list[bytes]:
        """What the identity key has signed and the server has not."""
        found = self.ask(m.FetchStatements, self.account, self.identity_key, 0)
        assert isinstance(found, m.Statements), found
        return [link.encode() for link in self.chain[len(found.links) :]]

    def publish(self, instead_of: "Member | None" = None) -> None:
        """Publish this device; `instead_of`: by whose identity key the account went until now."""
        if instead_of is not None:
            self.state("restart", instead_of.identity_key)
            self.certify()
        certificate = self.certificate().encode()
        packages = [self.key_package() for _ in range(3)]
        reply = self.ask(m.Publish, self.unpublished() or [certificate], packages[1:], packages[0])
        assert isinstance(reply, m.Published), reply
        assert reply.enrolled

    def bundle(self) -> KeyPackageBundle:
        certificate = self.certificate()
        return generate_key_package(
            SUITE, credential(certificate), self.signature,
            Capabilities(cipher_suites=(SUITE.value,), extensions=(RULES_EXTENSION,)),
            Lifetime(certificate.not_before, certificate.not_after),
        )  # fmt: skip

    def key_package(self) -> bytes:
        bundle = self.bundle()
        self.bundles.append(bundle)
        return MLSMessage(bundle.key_package).encode()

    # --- groups ---

    @property
    def validate(self) -> Any:
        return leaf_validator(self.hello.server_id, self.now)

    def number(self, conversation: bytes) -> int:
        return self.numbers.get(conversation, 0) + 1

    def found(self, rules: Rules) -> Group:
        return Group.create(os.urandom(32), self.bundle(), self.signature, extensions=(rules.extension(),))

    def make_commit(
        self, group: Group, *proposals: Proposal, number: int | None = None, **leaf: Any
    ) -> StagedCommit:
        if number is None:
            number = self.number(group.group_id)
        return group.commit(
            proposals, by_reference=None, authenticated_data=commit_data(number), tree_in_welcome=False,
            validate=self.validate, now=self.now, **leaf,
        )  # fmt: skip

    def adds(self, account: str) -> list[Add]:
        reply = self.ask(m.FetchKeyPackages, account)
        assert isinstance(reply, m.KeyPackages), reply
        found = []
        for encoded in reply.key_packages:
            body = MLSMessage.decode(encoded).body
            assert isinstance(body, KeyPackage)
            found.append(Add(body))
        return found

    def open_direct(self, peer: str, *, adds: list[Add] | None = None) -> Any:
        """Open a direct conversation; the reply. If accepted, the group is in `groups`."""
        group = self.found(Rules("direct"))
        staged = self.make_commit(group, *(adds or self.adds(peer)))
        assert staged.group is not None
        reply = self.ask(
            m.OpenDirect, group.group_id, peer, group.group_info(with_tree=True), staged.message, staged.welcome,
            staged.group_info,
        )  # fmt: skip
        if isinstance(reply, m.Accepted):
            self.take_part(group.group_id, staged.group, number=1, cursor=1)
        return reply

    def open_room(self, name: str, kind: str = "open") -> Any:
        if (kind, name) == ("open", "#lobby"):
            rules = Rules("open", name, site_key=self.hello.site_key)
        else:
            rules = Rules(kind, name, owners=(Identity.of(self.certificate()),))  # type: ignore[arg-type]  # a kind
        group = self.found(rules)
        reply = self.ask(
            m.OpenRoom, group.group_id, group.group_info(with_tree=True), group.group_info(with_tree=False)
        )
        if isinstance(reply, m.Done):
            self.take_part(group.group_id, group, number=0, cursor=0)
        return reply

    def take_part(self, conversation: bytes, group: Group, *, number: int, cursor: int) -> None:
        self.groups[conversation] = group
        self.numbers[conversation] = number
        self.cursors[conversation] = cursor

    def external_commit(self, offer: m.JoinOffer, *, old: Any = None) -> StagedCommit:
        body = MLSMessage.decode(offer.group_info).body
        assert isinstance(body, GroupInfo)
        return Group.join_external(
            body, RatchetTree.decode(offer.tree), self.signature, credential=credential(self.certificate()),
            capabilities=Capabilities(cipher_suites=(SUITE.value,), extensions=(RULES_EXTENSION,)),
            authenticated_data=commit_data(offer.number + 1), remove_own_old_leaf=old,
            validate=self.validate, now=self.now,
        )  # fmt: skip

    def join(self, room: str) -> bytes:
        """Enter an open room; its conversation's id."""
        while True:
            offer = self.ask(m.Join, room)
            assert isinstance(offer, m.JoinOffer), offer
            staged = self.external_commit(offer)
            number = offer.number + 1
            reply = self.ask(m.Commit, offer.conversation, number, staged.message, b"", staged.group_info)
            if isinstance(reply, m.Refused) and reply.code in ("stale-epoch", "leased"):
                continue
            assert isinstance(reply, m.Accepted), reply
            assert len(reply.chain) == 32
            assert staged.group is not None
            self.take_part(offer.conversation, staged.group, number=number, cursor=reply.seq)
            return offer.conversation

    def accept_welcome(self) -> bytes:
        """Wait for a Welcome in the inbox and join; return the conversation's id."""
        welcomed = self.take(m.Welcomed)
        body = MLSMessage.decode(welcomed.welcome).body
        assert isinstance(body, Welcome)
        for bundle in self.bundles:
            if bundle.key_package.reference(SUITE) in body.new_member_refs:
                group = Group.join(
                    body, bundle, self.signature, tree=RatchetTree.decode(welcomed.tree), validate=self.validate,
                    now=self.now,
                )  # fmt: skip
                self.take_part(welcomed.conversation, group, number=0, cursor=welcomed.join_seq)
                self.send(m.Acknowledge(self.device, welcomed.seq))
                return welcomed.conversation
        raise AssertionError("the Welcome is for none of our key packages")

    def subscribe(self, conversation: bytes, after: int | None = None) -> Any:
        if after is None:
            after = self.cursors.get(conversation, 0)
        return self.ask(m.Subscribe, conversation, after)

    def read_inbox(self) -> None:
        assert isinstance(self.ask(m.Subscribe, self.device, 0), m.Subscribed)

    # --- messages ---

    def encrypt(self, conversation: bytes, text: str) -> m.Submit:
        """A `Submit` of a text; counts the number."""
        number = self.number(conversation)
        self.numbers[conversation] = number
        payload = self.groups[conversation].encrypt(text.encode(), authenticated_data=number.to_bytes(8, "big"))
        return m.Submit(self.protocol.next_id(), conversation, number, payload)

    def say(self, conversation: bytes, text: str) -> Any:
        """Submit a text and wait for the reply."""
        submit = self.encrypt(conversation, text)
        self.send(submit)
        return self.take(m.Reply, lambda reply: reply.id == submit.id)

    def read(self, conversation: bytes, count: int = 1) -> list[tuple[int, str]]:
        """Wait until `count` more texts of others have arrived in a conversation; return them with their seq."""
        found: list[tuple[int, str]] = []
        while len(found) < count:
            entry = self.take(m.Entry, lambda entry: entry.conversation == conversation)
            text = self.process(entry)
            if text is not None:
                found.append((entry.seq, text))
        return found

    def process(self, entry: m.Entry) -> str | None:
        """Take an entry into the group; the text, if it holds one."""
        self.cursors[entry.conversation] = entry.seq
        if entry.kind == OPERATORS_WORD:
            return None
        if entry.device == self.device:
            staged = self.staged.pop(entry.conversation, None)
            if staged is not None and staged.message == entry.payload and staged.group is not None:
                self.groups[entry.conversation] = staged.group
            return None
        group = self.groups[entry.conversation]
        body = MLSMessage.decode(entry.payload).body
        if type(body).__name__ == "PrivateMessage":
            text = group.decrypt(entry.payload).plaintext.decode()
            self.texts.append((entry.conversation, entry.seq, entry.device, text))
            return text
        if type(body.content.content).__name__ != "Commit":  # type: ignore[union-attr]  # a PublicMessage
            return None  # a departure
        validate = leaf_validator(self.hello.server_id, entry.time // 1000)
        after = group.stage(entry.payload, validate=validate, now=entry.time // 1000).group
        if after is None:
            del self.groups[entry.conversation]
        else:
            self.groups[entry.conversation] = after
        return None

    def change(self, conversation: bytes, *proposals: Proposal, **leaf: Any) -> Any:
        """Commit; the reply. If accepted, the group moves on. `leaf`: what changes in ours, as in `Group.commit`."""
        number = self.number(conversation)
        staged = self.make_commit(self.groups[conversation], *proposals, **leaf)
        reply = self.ask(m.Commit, conversation, number, staged.message, staged.welcome or b"", staged.group_info)
        if isinstance(reply, m.Accepted):
            assert staged.group is not None
            self.groups[conversation] = staged.group
            self.numbers[conversation] = number
        return reply

    def leave(self, conversation: bytes) -> Any:
        number = self.number(conversation)
        group = self.groups[conversation]
        data = departure_data(number, group.public.member(group.own_leaf))
        proposal = group.propose(Remove(group.own_leaf), authenticated_data=data)
        reply = self.ask(m.Leave, conversation, number, proposal)
        if isinstance(reply, m.Accepted):
            self.numbers[conversation] = number
        return reply


class Person(Member, WireClient):
    """Such a client over TLS."""

    def __init__(self, port: int, context: ssl.SSLContext, account: str, **options: Any) -> None:
        super().__init__(port, context, **options)
        self.context = context
        self.port = port
        self.enroll(account)

    def again(self, **options: Any) -> "Person":
        return Person(self.port, self.context, self.account, **options).take_over(self)


assert limits.PROTOCOL_VERSION == 1
