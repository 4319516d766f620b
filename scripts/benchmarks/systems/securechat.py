"""securechat as a system under load: a real server process, and clients that speak its wire protocol.

Conversations are opened with real MLS groups, because the server checks those; the messages that follow carry a genuine
header and filling instead of a ciphertext, which is all that a blind server can see. The accounts are in
`accounts.json` before the server starts, and resume tokens for their devices, so that a crowd enters without Argon2.
The server's rates are set, as an operator would, to what a load generator needs that plays all clients at once.
"""

import contextlib
import hashlib
import secrets
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import argon2
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scripts.benchmarks.systems.system import (
    PAYLOAD,
    Client,
    Process,
    ServerFailedError,
    System,
    stamp_of,
    stamped,
    trusting,
)
from securechat.client.device import CAPABILITIES, SUITE
from securechat.identity.certificate import DeviceCertificate, certificate_of, credential, issue, leaf_validator
from securechat.identity.statements import EMPTY, Head
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.framing import MLSMessage
from securechat.mls.group import Group
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Lifetime
from securechat.mls.proposals import Add
from securechat.policy import Identity, Rules
from securechat.server.accounts.file import write_accounts
from securechat.server.accounts.passwords import COST
from securechat.server.accounts.records import Account
from securechat.server.config import ACCOUNTS_FILE, STORE_FILE
from securechat.server.store.records import ChainLink, Device, Token
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.tlscodec import Writer
from securechat.transport.tls import digest_of
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.possession import LABEL, Channel

PROGRAM = Path(sys.executable).with_name("securechat")
MEMBERS = 400  # accounts with one device each
CROWD = 6_400  # further devices, DEVICES an account: so many can hold a resume token
DEVICES = 16
SENDERS = 20  # to one reader: more, so that no conversation holds as much unread as the server lets a reader leave
NONCE = bytes(28)
SETTINGS = """
max_clients = 10000
connections_per_address = "100000 + 10000/s"
requests_per_account = "1000000 + 10000/s"
submissions_per_account = "1000000 + 1000000/s"
fetches_per_account = "10000 + 1000/s"
"""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(m.FromServer).decode
_LENGTH = struct.Struct(">I")


class Enrolled(NamedTuple):
    """A published device of an account, with the keys and the token that it resumes with."""

    account: str
    device: bytes
    certificate: DeviceCertificate
    signature: SignaturePrivateKey
    token: bytes


class Peer(Client):
    """One device of an account, with its resume token."""

    confirms = True
    server: "SecureChat"

    def __init__(self, server: "SecureChat", enrolled: Enrolled) -> None:
        super().__init__(server)
        self.conversations: list[bytes] = []  # the conversations that it reads
        self.account, self.device, self.certificate, self.signature, self.token = enrolled
        self.number = 0  # of its newest submission
        self._unacknowledged = 0
        self._next_id = 0

    def send(self, message: m.Message) -> None:
        """Queue one message."""
        body = _encode(message)
        self.queue(_LENGTH.pack(len(body)) + body)

    def messages(self) -> Iterator[m.Message]:
        """What has arrived."""
        data, start = self._plaintext, 0
        try:
            while len(data) - start >= _LENGTH.size:
                end = start + _LENGTH.size + _LENGTH.unpack_from(data, start)[0]
                if end > len(data):
                    return
                try:
                    message = _decode(data[start + _LENGTH.size : end])
                except msgspec.DecodeError as error:
                    raise ServerFailedError(f"{self.server.name} speaks another protocol: {error}") from error
                start = end
                yield message
        finally:
            del data[:start]

    def next_id(self) -> int:
        """A fresh request id."""
        self._next_id += 1
        return self._next_id

    def greet(self) -> None:
        """Connect and exchange hellos."""
        self.connect()
        self.send(m.ClientHello(versions=[limits.PROTOCOL_VERSION], agent="bench"))
        self.flush()
        while not (messages := list(self.messages())):
            self.read()
        (hello,) = messages
        if not isinstance(hello, m.Hello):
            raise ServerFailedError(f"{self.server.name} greets with {hello}")
        self.channel = Channel(hello.server_id, digest_of(self._tls.getpeercert(binary_form=True)), hello.nonce)

    def call(self, request: m.Request) -> m.Message:
        """Send a request and wait for its reply; events in between are dropped."""
        self.send(request)
        self.flush()
        while True:
            reply = None
            for message in self.messages():
                if isinstance(message, m.Refused) and message.id == request.id:
                    why = f"{message.code}: {message.text}"
                    raise ServerFailedError(f"{self.server.name} refused {type(request).__name__}: {why}")
                if isinstance(message, m.Reply) and message.id == request.id:
                    reply = message
            if reply is not None:
                return reply
            self.read()

    def log_in(self) -> None:
        """See `Client`. With the token: it is what a client does whose connection was lost."""
        self.greet()
        content = self.channel.possession(self.account, self.device)
        proof = self.signature.sign_with_label(LABEL, content)
        answer = self.call(m.Resume(self.next_id(), self.token, self.device, proof))
        assert isinstance(answer, m.LoggedIn), answer
        self.token = answer.token

    def log_in_with_password(self) -> None:
        """Connect and log in with what the server takes for a password, which it hashes with Argon2id."""
        self.greet()
        answer = self.call(m.Login(self.next_id(), self.account, self.server.secret, self.device))
        assert isinstance(answer, m.LoggedIn), answer
        self.token = answer.token

    def keep_alive(self) -> None:
        """See `Client`. Says something, too: whom the server has heard it does not ask for as long."""
        self.send(m.Ping())
        super().keep_alive()

    def goodbye(self) -> None:
        """End the session in order."""
        self.send(m.Closing("bye"))
        self.flush()
        self.close()

    # --- conversations ----------------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Publish a key package, so that the device can be in conversations."""
        self.validate = leaf_validator(self.channel.server_id, int(time.time()))
        self.bundle = self.new_key_package()

    def new_key_package(self) -> KeyPackageBundle:
        """Publish a key package and return it with its secrets."""
        now = int(time.time())
        lifetime = Lifetime(now - 60, self.certificate.not_after)
        bundle = generate_key_package(SUITE, credential(self.certificate), self.signature, CAPABILITIES, lifetime)
        self.call(m.PublishKeyPackages(self.next_id(), [MLSMessage(bundle.key_package).encode()], b""))
        return bundle

    def fetch(self, account: str) -> KeyPackage:
        """Take one key package of somebody."""
        answer = self.call(m.FetchKeyPackages(self.next_id(), account))
        assert isinstance(answer, m.KeyPackages), answer
        package = MLSMessage.decode(answer.key_packages[0]).body
        assert isinstance(package, KeyPackage), package
        return package

    def enter(self, conversation: bytes, number: int) -> None:
        """Speak in a conversation from now on; `number` is the last one this device used in it."""
        self.conversation, self.number = conversation, number
        # The header of the PrivateMessages to come: version, wire format, group, epoch 1, application.
        self._header = bytes(Writer().u16(1).u16(2).vector(conversation).u64(1).u8(1))

    def subscribe(self, conversation: bytes) -> None:
        """Read a conversation from its first message on."""
        self.conversations.append(conversation)
        self.call(m.Subscribe(self.next_id(), conversation, 1))

    def subscribe_again(self) -> None:
        """The same for all conversations, on a new connection."""
        for conversation in self.conversations:
            self.send(m.Subscribe(self.next_id(), conversation, 1))
        self.flush()

    def say(self) -> None:
        """See `Client`."""
        self.unanswered += 1
        self.number += 1
        authenticated = Writer().vector(struct.pack(">Q", self.number)).vector(NONCE).vector(stamped())
        self.send(m.Submit(self.next_id(), self.conversation, self.number, self._header + bytes(authenticated)))

    def take(self) -> list[int]:
        """See `Client`. Acknowledges as a client does, what it has said itself as well."""
        stamps = []
        for message in self.messages():
            if isinstance(message, m.Entry):
                stamps.append(stamp_of(message.payload[-PAYLOAD:]))
            elif isinstance(message, m.Accepted):
                self.unanswered -= 1
            elif isinstance(message, m.Ping):
                self.send(m.Pong())
            elif isinstance(message, m.Refused):
                raise ServerFailedError(f"{self.server.name} refused a message: {message.code}: {message.text}")
            if isinstance(message, m.Entry | m.Accepted):
                self._unacknowledged += 1
                if self._unacknowledged >= limits.ACKNOWLEDGE_ENTRIES:
                    self.send(m.Acknowledge(message.conversation, message.seq))
                    self._unacknowledged = 0
        return stamps


def found(members: list[Peer], rules: Rules) -> bytes:
    """Make a group of the first member, add the others in one commit, hand both to the server; return its id."""
    first, *others = members
    now = int(time.time())
    conversation = secrets.token_bytes(limits.CONVERSATION_ID_LENGTH)
    group = Group.create(conversation, first.bundle, first.signature, extensions=(rules.extension(),))
    founding = group.group_info(with_tree=True)
    number = struct.pack(">QQ", 1, now * 1000)
    staged = group.commit(
        [Add(first.fetch(other.account)) for other in others],
        authenticated_data=number, tree_in_welcome=False, validate=first.validate, now=now,
    )  # fmt: skip
    welcome, group_info = staged.welcome or b"", staged.group_info or b""
    if rules.kind == "direct":
        peer = others[0].account
        first.call(
            m.OpenDirect(first.next_id(), conversation, peer, founding, staged.message, welcome, group_info)
        )
    else:
        first.call(m.OpenRoom(first.next_id(), conversation, founding, group.group_info(with_tree=False)))
        first.subscribe(conversation)
        first.call(m.Commit(first.next_id(), conversation, 1, staged.message, welcome, group_info))
    for member in members:
        member.enter(conversation, 1 if member is first else 0)
    return conversation


class SecureChat(System):
    """A real `securechat server` with its own data folder."""

    def __init__(
        self,
        folder: Path,
        certs: Path,
        durability: Literal["disk", "memory"] = "disk",
        *,
        program: Path = PROGRAM,
        name: str = "securechat",
    ) -> None:
        """Write the accounts and start."""
        super().__init__()
        self.name = name
        self.tls = trusting(certs)
        self.tls.set_alpn_protocols([limits.ALPN])
        self._folder = folder
        data = folder / "data"
        self._command = [
            str(program), "server", "--port", "0", "--data", str(data),
            "--cert", str(certs / "server.pem"), "--key", str(certs / "server-key.pem"),
            "--config", str(folder / "bench.toml"), "--durability", durability,
        ]  # fmt: skip
        (folder / "bench.toml").write_text(SETTINGS)
        Process(self._command, folder).stop()  # so that the folder is made as a server makes it
        self.secret = secrets.token_bytes(limits.SECRET_LENGTH)  # of every account
        devices = _write_accounts(data, self.secret)
        self._members = iter(devices[:MEMBERS])
        self._others = iter(devices[MEMBERS:])
        self.process = Process(self._command, folder)

    def restart(self, how: signal.Signals) -> None:
        """End the server and start it again on the same data; returns when it listens."""
        self.process.stop(how)
        self.process = Process(self._command, self._folder)

    def newcomer(self) -> Peer:
        """See `System`."""
        return Peer(self, next(self._others))

    def member(self) -> Peer:
        """A device that is logged in and published, and the only one of its account."""
        member = Peer(self, next(self._members))
        member.log_in()
        member.publish()
        return member

    def pairs(self, count: int) -> list[tuple[Client, Client]]:
        """See `System`."""
        pairs: list[tuple[Client, Client]] = []
        for _ in range(count):
            pair = self.member(), self.member()
            conversation = found(list(pair), Rules(kind="direct"))
            for member in pair:
                member.subscribe(conversation)
            pairs.append(pair)
        return pairs

    def room(self, count: int) -> list[Client]:
        """See `System`."""
        members = [self.member() for _ in range(count)]
        owner = Identity.of(certificate_of(members[0].bundle.key_package.leaf_node))
        conversation = found(members, Rules(kind="invite", name="#bench", owners=(owner,)))
        for member in members:
            member.subscribe(conversation)
        return list(members)

    def correspondents(self) -> tuple[list[Client], Client]:
        """See `System`."""
        receiver = self.member()
        senders: list[Client] = []
        for _ in range(SENDERS):
            sender = self.member()
            conversation = found([sender, receiver], Rules(kind="direct"))
            for member in (sender, receiver):
                member.subscribe(conversation)
            receiver.new_key_package()  # for the next one
            senders.append(sender)
        return senders, receiver


def _write_accounts(data: Path, secret: bytes) -> list[Enrolled]:
    """Make accounts with one secret; return their devices: members first, then the crowd."""
    password_hash = argon2.PasswordHasher.from_parameters(COST).hash(secret)
    now = int(time.time())
    names = [f"member{number}" for number in range(MEMBERS)]
    names += [f"crowd{number // DEVICES}" for number in range(CROWD)]
    identities = {name: Ed25519PrivateKey.generate() for name in names}
    heads = dict.fromkeys(names, EMPTY)
    devices = []
    with contextlib.closing(SQLiteStore(data / STORE_FILE)) as store:
        for name in names:
            device, token = secrets.token_bytes(limits.DEVICE_ID_LENGTH), secrets.token_bytes(limits.TOKEN_LENGTH)
            signature = SignaturePrivateKey.generate(SUITE)
            certificate = issue(
                identities[name], server_id=store.server_id, account=name, device_id=device,
                signature_key=signature.public_key, not_before=now - 60, not_after=now + 86_400,
                seq=heads[name].seq + 1, previous=heads[name].digest,
            )  # fmt: skip
            heads[name] = Head.after(certificate)
            link = ChainLink(certificate.seq, now * 1000, certificate.encode())
            store.chains.append(name, certificate.identity_key, [link])
            store.directory.reserve(name, [device])
            store.directory.put_device(Device(device, name, certificate.encode()), certificate.identity_key)
            store.tokens.put(Token(hashlib.sha256(token).digest(), name, device, now, (now + 86_400) * 1000))
            devices.append(Enrolled(name, device, certificate, signature, token))
        store.commit()
    write_accounts(
        data / ACCOUNTS_FILE,
        [Account(name, password_hash, now, generation=now) for name in identities],
        [],
    )
    return devices
