"""Fuzz targets of what the server reads: frames and messages, its files, its settings, and the operator's requests.

Our only HTTP parser is that of the metrics, and it is here.
"""

import contextlib
import io
import os
import typing
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from securechat.errors import DecodeError, RefusedError, SecurechatError, StorageError, UnreachableError, UsageError
from securechat.identity.site_key import SiteKey
from securechat.policy import Word
from securechat.server.accounts.store import AccountStore
from securechat.server.config import ACCOUNTS_FILE, STORE_FILE, ServerConfig, load_config
from securechat.server.operator import admin, backup, protocol, serving
from securechat.server.operator.metrics import MetricsServer
from securechat.server.sequencer.operations import Announce, ListSessions, Survey
from securechat.server.status import Counters, Status
from securechat.server.store.records import Device, Head, InboxEntry, LogEntry, Membership, Numbers, pack_answer
from securechat.server.store.sqlite.database import Part
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.chain import CHAIN_START
from securechat.wire.frames import FrameReader, encode_frame
from securechat.wire.protocol import ClientProtocol, Ended, ServerProtocol
from tests.fuzz.kept import KEPT, folder
from tests.fuzz.registry import Target
from tests.support.pair import HELLO, Pair, example

NOW = 1_800_000_000_000
ROOM, ALICE, BOB = b"R" * 32, b"a" * 16, b"b" * 16
NOTHING: dict[str, Any] = dict.fromkeys(Status.__annotations__, 0) | {"held_most": [], "refused_by_rate": {}}
STATUS = Status(**NOTHING)


# ---- the wire


def frames(data: bytes) -> None:
    """However a stream is cut, the same frames come out, and the same refusal after them."""
    cut, stream = (data[0], data[1:]) if data else (0, b"")

    def read(*pieces: bytes) -> tuple[list[bytes], str]:
        reader = FrameReader(limits.MAX_FRAME_BEFORE_LOGIN)
        found: list[bytes] = []
        for piece in pieces:
            try:
                for body in reader.receive(piece):
                    found.append(body)  # noqa: PERF402 - what came before an error counts
            except DecodeError as error:
                return found, str(error)
        return found, ""

    whole = read(stream)
    assert read(stream[:cut], stream[cut:]) == whole
    assert stream.startswith(b"".join(len(body).to_bytes(4, "big") + body for body in whole[0]))


def one_message(decoder: "msgspec.msgpack.Decoder[typing.Any]", data: bytes) -> None:
    """What decodes encodes again to the same value, and shows itself."""
    try:
        message = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    assert decoder.decode(encode_frame(message)[4:]) == message
    repr(message)


_FROM_CLIENT = msgspec.msgpack.Decoder(m.FromClient)
_FROM_SERVER = msgspec.msgpack.Decoder(m.FromServer)


def machine(data: bytes, *, server: bool) -> None:
    """A machine in any state ends in messages or in one `Ended`, and what it says is what the other side reads."""
    stage, stream = (data[0] % 4, data[1:]) if data else (0, b"")
    pair = Pair()
    if stage == 1:
        pair.exchange()
    elif stage > 1:
        pair.login(published=stage == 3)
    if not server and stage > 1:
        for kind in typing.get_args(m.FromClient):
            if issubclass(kind, m.Request) and pair.client.allows(kind):
                pair.client.send(example(kind, pair.client.next_id()))  # type: ignore[arg-type]  # a request
    side: ServerProtocol | ClientProtocol = pair.server if server else pair.client
    side.data_to_send()
    events: list[typing.Any] = list(side.receive_data(stream, pair.now))
    ends = [event for event in events if isinstance(event, Ended)]
    assert ends == events[len(events) - len(ends) :]
    assert len(ends) <= 1
    assert side.ended == bool(ends)
    for body in FrameReader(limits.MAX_FRAME).receive(side.data_to_send()):
        (_FROM_SERVER if server else _FROM_CLIENT).decode(body)


# ---- files


def accounts_file(data: bytes) -> None:
    """A file of accounts is refused with a place, or it is read, and can be written again."""
    path = folder() / ACCOUNTS_FILE
    path.write_bytes(data)
    try:
        store = AccountStore(path)
    except StorageError:
        assert path.read_bytes() == data
        return
    try:
        before = store.all()
        store.create_invite("", 60).result(60)
    except RefusedError:  # there are as many as there may be
        return
    finally:
        store.close()
    again = AccountStore(path)
    assert again.all() == before
    again.close()


@cache
def database() -> bytes:
    """A database with something in each table that the server reads."""
    path = folder() / "genuine" / STORE_FILE
    store = SQLiteStore(path)
    head = Head(ROOM, "open", "#lobby", 0, NOW, 0, CHAIN_START, b"group info")
    for device in (ALICE, BOB):
        head.members[device] = Membership(device, device[:1].decode(), 0, CHAIN_START, None, 0)
    store.conversations.create(head, None, b"snapshot")
    write(store, head)
    store.directory.put_device(Device(ALICE, "a", b"certificate"), bytes(32))
    store.directory.put_key_packages(ALICE, [b"key package"], b"last resort")
    departed = ((b"proposal", b"context"),)
    store.inboxes.deliver(InboxEntry(0, NOW, ROOM, 3, bytes(32), b"welcome", b"tree", departed), [BOB], "a")
    store.commit()
    while store.tidy(NOW + 60_000, NOW + 60_000)[1]:
        pass
    write(store, head)
    store.commit()
    store.close()
    return path.read_bytes()


def write(store: SQLiteStore, head: Head) -> None:
    """Three more entries."""
    run = [LogEntry(head.seq + each, NOW, ALICE, head.seq + each, 0, bytes(32), b"payload") for each in (1, 2, 3)]
    store.logs.append(head, run, "a")
    for entry in run:
        head.record(entry)


def overwritten(genuine: bytes, script: bytes) -> bytes:
    """`genuine` with some bytes replaced, as the script says: `position[3] || byte`, and so on."""
    changed = bytearray(genuine)
    for at in range(0, len(script) - 3, 4):
        changed[int.from_bytes(script[at : at + 3], "big") % len(changed)] = script[at + 3]
    return bytes(changed)


def altered_database(script: bytes) -> None:
    """A damaged database is refused, or it is read, as far as it can be."""
    path = folder() / STORE_FILE
    for old in folder().glob(STORE_FILE + "*"):
        old.unlink()
    path.write_bytes(overwritten(database(), script))
    try:
        store = SQLiteStore(path)
    except StorageError:
        return
    try:
        for room in store.conversations.rooms("a", ALICE, ("#lobby",), 9):
            repr(room)
        for conversation in store.conversations.of_device(("a", ALICE)):
            head = store.conversations.load(conversation)
            if head is None:
                continue
            store.logs.read(conversation, 0, 1 << 40, 256, 1 << 20)
            store.logs.measure(conversation, 0)
            store.conversations.read_group(conversation)
            if (numbers := head.numbers.get(ALICE)) is not None:
                numbers.answer(conversation, ALICE, numbers.last, b"payload")
        store.inboxes.read(BOB, 0, 1 << 20)
        store.directory.identity_key("a")
        store.directory.take_key_package(ALICE)
        store.rollback()
    except StorageError:
        return
    finally:
        store.close()


def saved_numbers(data: bytes) -> None:
    """Whatever is in a row, a device's numbers give an answer or none."""
    last, answers = int.from_bytes(data[:2], "big"), data[2:]
    numbers = Numbers(last, answers)
    for number in (0, 1, last - limits.NUMBERS_KEPT, last - 1, last, last + 1):
        numbers.answer(ROOM, ALICE, number, b"payload")
    numbers.extend([pack_answer(1, NOW, bytes(32), bytes(32))])
    assert numbers.last == last + 1
    assert len(numbers.encode()) <= limits.NUMBERS_KEPT * 80


@cache
def backup_file() -> bytes:
    """A genuine backup."""
    database()
    stream = io.BytesIO()
    accounts = seeds()["accounts_file"][0]
    database()
    with (folder() / "genuine" / STORE_FILE).open("rb") as file:
        part = Part("", os.fstat(file.fileno()).st_size, file.fileno())
        backup.write_backup(stream, [part], accounts, server_id=bytes(16), time=NOW)
    return stream.getvalue()


def altered_backup(script: bytes) -> None:
    """Only a genuine backup is one."""
    path = folder() / "altered.tar"
    path.write_bytes(overwritten(backup_file(), script))
    try:
        backup.check_backup(path)
    except StorageError:
        return


# ---- settings


@cache
def names() -> list[str]:
    """The settings that there are."""
    return list(vars(ServerConfig()))


def settings_file(data: bytes) -> None:
    """A file of settings is refused with a place, or every setting in it is of its type."""
    path = folder() / "server.toml"
    path.write_bytes(data)
    settings(lambda: load_config({}, {}, path))


def settings_environment(data: bytes) -> None:
    """The same for a variable."""
    number, text = (data[0] % len(names()), data[1:]) if data else (0, b"")
    settings(lambda: load_config({}, {f"SECURECHAT_{names()[number].upper()}": os.fsdecode(text)}))


def settings(load: "typing.Callable[[], ServerConfig]") -> None:
    """Settings that are accepted can be said to clients, and shown without what is secret."""
    try:
        config = load()
    except UsageError as error:
        told = str(error)
        assert len(told) < 2000  # characters: a sentence, not the file
        return
    encode_frame(msgspec.structs.replace(HELLO, server_name=config.name, greeting=config.greeting))
    repr(config).encode(errors="surrogateescape")  # paths may be any bytes


# ---- the operator, and who reads the metrics


class Line:
    """What `serving` needs of a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self, size: int) -> bytes:
        """The next bytes."""
        data, self._data = self._data[:size], self._data[size:]
        return data

    def settimeout(self, seconds: float) -> None:
        """Nothing: it is all there."""


def answer_operation(operation: object) -> None:
    """Say that it is done, or that there is nothing."""
    nothing = {Survey: [], ListSessions: [], Announce: 0}
    operation.answer(nothing.get(type(operation)))  # type: ignore[attr-defined]  # all of them have it


@contextlib.contextmanager
def operator() -> Iterator[admin.Admin]:
    """The operator's side of a server with one account."""
    data = folder() / "administered"
    data.mkdir(exist_ok=True)
    (data / ACCOUNTS_FILE).write_bytes(seeds()["accounts_file"][0])
    with (
        contextlib.closing(AccountStore(data / ACCOUNTS_FILE)) as accounts,
        contextlib.closing(SQLiteStore(data / STORE_FILE)) as store,
    ):
        yield admin.Admin(
            data, accounts, store, Counters(), expel=lambda *_: None, operate=answer_operation,
            change_site_key=lambda answer: answer(None), status=lambda: STATUS,
            unready=str, accept_clock=lambda: None, address="",
        )  # fmt: skip


def admin_request(data: bytes) -> None:
    """An operator's line is refused or answered, in a line that its program reads."""
    try:
        request = serving._read(Line(data))  # type: ignore[arg-type]  # no socket, but what is read of one
        with operator() as side:
            reply = side.handle(request)
    except SecurechatError:
        return
    line = protocol.encode(reply)
    assert line.endswith(b"\n")
    assert protocol._decode(line, Path()) == reply


def admin_reply(data: bytes) -> None:
    """The operator's program ends in a reply or in one of our own errors."""
    try:
        protocol._decode(data, Path())
    except (UnreachableError, RefusedError, StorageError):
        return


@cache
def metrics() -> MetricsServer:
    """A server of metrics that listens and is not asked."""
    server = MetricsServer(0, Counters(), lambda: STATUS, stuck=str, unready=str)
    KEPT.callback(server.close)
    return server


def metrics_request(data: bytes) -> None:
    """Every first line gets a whole response."""
    head, _, body = metrics()._answer(data.partition(b"\r\n")[0]).partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))
    assert f"Content-Length: {len(body)}".encode() in head


def operators_word(data: bytes) -> None:
    """A word is refused, or has one encoding and makes sense."""
    try:
        word = Word.decode(data)
    except DecodeError:
        return
    assert word.encode() == data
    assert len(data) <= limits.MAX_WORD
    assert bool(word.account) + bool(word.version) <= 1


TARGETS: dict[str, Target] = {
    "frames": frames,
    "message_to_server": lambda data: one_message(_FROM_CLIENT, data),
    "message_to_client": lambda data: one_message(_FROM_SERVER, data),
    "server_machine": lambda data: machine(data, server=True),
    "client_machine": lambda data: machine(data, server=False),
    "accounts_file": accounts_file,
    "altered_database": altered_database,
    "altered_backup": altered_backup,
    "saved_numbers": saved_numbers,
    "settings_file": settings_file,
    "settings_environment": settings_environment,
    "operators_word": operators_word,
    "admin_request": admin_request,
    "admin_reply": admin_reply,
    "metrics_request": metrics_request,
}


def seeds() -> dict[str, list[bytes]]:
    """One of each."""
    to_server = [encode_frame(example(kind)) for kind in typing.get_args(m.FromClient)]
    to_client = [encode_frame(example(kind, 1 + number)) for number, kind in enumerate(typing.get_args(m.FromServer))]
    hello = encode_frame(m.ClientHello([limits.PROTOCOL_VERSION], "test"))
    account = {"name": "alice", "hash": "$argon2id$v=19$m=8,t=1,p=1$" + "A" * 22 + "$" + "A" * 43, "created": 1}
    token = {"device": "0" * 32, "hash": "0" * 64, "expires": NOW}
    invite = {"hash": "0" * 64, "created": 1, "expires": NOW, "account": "bob"}
    document = {
        "format": "securechat accounts", "version": 2, "accounts": [{**account, "generation": NOW}],
        "invites": [invite],
    }  # fmt: skip
    old_document = document | {"version": 1, "accounts": [{**account, "tokens": [token]}]}
    requests: list[protocol.Request] = [
        protocol.ListUsers(), protocol.AddUser("bob", 7), protocol.ResetPassword("alice", 7),
        protocol.SetEnabled("alice", enabled=True), protocol.CreateInvite(1), protocol.ListInvites(),
        protocol.RevokeInvite("00000000"), protocol.ListRooms(), protocol.Speak("#lobby", "bar", "alice"),
        protocol.UpgradeRoom("#lobby"), protocol.ChangeSiteKey(), protocol.AcceptClock(),
        protocol.GetStatus(),
    ]  # fmt: skip
    nothing_yet = Word(bytes(16), bytes(32), 1, 2, 3, "bar", b"alice", bytes(32))
    said = [
        nothing_yet, replace(nothing_yet, action="remove"), replace(nothing_yet, action="unbar", leaf=b""),
        replace(nothing_yet, action="upgrade", about=b"\0\3", leaf=b""),
        replace(nothing_yet, action="site-key", about=bytes(32), leaf=b""),
    ]  # fmt: skip
    settings = 'port = 4433\nname = "x"\nregistration = "invite"\nconnections_per_address = "5 + 1/s"\n'
    return {
        "frames": [b"\x07" + b"".join(to_server[:3]), b"\x00\x00\x20\x00\x00"],
        "message_to_server": [frame[4:] for frame in to_server],
        "message_to_client": [frame[4:] for frame in to_client],
        "server_machine": [
            *(bytes([stage]) + frame for frame in to_server for stage in (1, 3)),
            b"\x00" + hello + to_server[1],
            b"\x03" + b"".join(to_server[3:]),
        ],
        "client_machine": [bytes([stage]) + frame for frame in to_client for stage in (0, 1, 3)],
        "accounts_file": [msgspec.json.encode(each) for each in (document, old_document)],
        "altered_database": [b"", bytes([0, 16, 0, 1])],
        "altered_backup": [b"", bytes([0, 0, 100, 7])],
        "saved_numbers": [bytes(2), b"\x00\x02" + bytes(96)],
        "settings_file": [settings.encode(), b"port = 1\n[name]\n", b'data = "\xc3\xa4"\n'],
        "settings_environment": [
            bytes([names().index("port")]) + b"1",
            bytes([names().index("fetches_of_account")]) + b"5 + 1/s",
            bytes([names().index("name")]) + b"\xff",
        ],
        "operators_word": [word.signed(SiteKey(bytes(32))).encode() for word in said],
        "admin_request": [msgspec.json.encode(request) + b"\n" for request in requests],
        "admin_reply": [
            msgspec.json.encode(reply)
            for reply in (protocol.Done(), protocol.Failed("exists", "no"), protocol.Failed("", "no"))
        ],
        "metrics_request": [b"GET /metrics HTTP/1.1\r\n\r\n", b"GET /livez?x HTTP/1.1\r\n", b"POST /readyz HTTP/1.0"],
    }
