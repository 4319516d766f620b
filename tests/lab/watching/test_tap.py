"""The tap: what passes, written down as a recording and as a capture that holds its secrets."""

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest

from securechat.client.settings import ClientSettings
from securechat.client.trust import trust
from securechat.errors import StorageError, UsageError
from securechat.transport.deadline import Deadline
from securechat.transport.tls import client_context, server_context
from securechat.wire import messages as m
from securechat.wire.frames import encode_frame
from securechat_lab.watching import capture as capture_module
from securechat_lab.watching import recording as recording_module
from securechat_lab.watching.capture import Capture
from securechat_lab.watching.demo import DROPPED
from securechat_lab.watching.demo import PRIVATE as LINES
from securechat_lab.watching.observer import Observer
from securechat_lab.watching.people import with_key_log
from securechat_lab.watching.recording import Line, Reader, Recorder
from securechat_lab.watching.tap import CHUNK, MAX_BEHIND, Tap
from securechat_lab.watching.tls13 import Opened, Record, Records, Session, Side
from tests.lab.watching.conftest import Scene
from tests.support import pcapng
from tests.support.tls_records import HANDSHAKE, Writer
from tests.support.waiting import wait_until


def lines_of(path: Path) -> list[Line]:
    reader = Reader(path)
    reader.read_all()
    reader.close()
    assert reader.problems == []
    return reader.lines


@contextmanager
def tapped(folder: Path, answer: bytes = b"", *, capture: bool = False) -> Iterator[tuple[Tap, socket.socket]]:
    """A tap before a listener of ours, whose connections the test serves; `answer`: what it says by itself."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        closing(Recorder(folder / "recording.jsonl")) as recorder,
        closing(Capture(folder / "capture.pcapng")) if capture else nullcontext() as file,
        Tap(listener.getsockname()[:2], recorder, capture=file) as tap,
    ):
        if answer:
            threading.Thread(target=_answer, args=(listener, answer)).start()
        yield tap, listener


def _answer(listener: socket.socket, answer: bytes) -> None:
    served, _ = listener.accept()
    with served:
        served.sendall(answer)
        served.shutdown(socket.SHUT_WR)
        while served.recv(CHUNK):
            pass


# ---- what it writes down


def test_a_capture_can_be_decrypted_with_nothing_but_itself(scene: Scene) -> None:
    captured = pcapng.read(scene.capture)
    assert len(captured.streams) == 3
    lines = lines_of(scene.recording)
    for conn, stream in enumerate(captured.streams.values(), 1):
        for way, sent in zip(("up", "down"), pcapng.decrypted(captured, stream), strict=True):
            frames = [line for line in lines if (line.layer, line.conn, line.way) == ("server", conn, way)]
            assert sum(frame.size for frame in frames) == len(sent)
            for frame in frames:  # each is where the recording says, and begins with its length
                assert int.from_bytes(sent[frame.at : frame.at + 4], "big") == frame.size - 4
                assert frame.what.encode() in sent[frame.at : frame.at + 24]
                assert bytes.fromhex(frame.hex) in sent[frame.at : frame.at + frame.size]
        assert stream.ended == 2
        assert stream.secrets_first
        assert stream.times == sorted(stream.times)


def test_nothing_that_was_said_is_in_the_capture_even_inside_tls(scene: Scene) -> None:
    captured = pcapng.read(scene.capture)
    inside = b"".join(side for stream in captured.streams.values() for side in pcapng.decrypted(captured, stream))
    assert b"Submit" in inside
    assert not [line for line in (*LINES[:2], DROPPED) if line.encode() in inside]


def tshark() -> list[str]:
    """The other reader, where it is installed."""
    found = shutil.which("tshark")
    return [] if found is None else [found]


@pytest.mark.parametrize("program", tshark())
def test_tshark_opens_a_capture_without_any_setting(program: str, scene: Scene, tmp_path: Path) -> None:
    command = [program, "-n", "-r", str(scene.capture), "-q", "-z", "follow,tls,raw,0"]
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    shown = subprocess.run(command, capture_output=True, text=True, env=home, check=True).stdout
    assert b"ClientHello".hex() in shown
    assert b"LoggedIn".hex() in shown


def test_the_network_layer_has_each_record_with_its_place(scene: Scene) -> None:
    lines = lines_of(scene.recording)
    for conn in (1, 2, 3):
        for way in ("up", "down"):
            records = [each for each in lines if (each.layer, each.conn, each.way) == ("network", conn, way)]
            inside = 0
            for each in records:
                assert each.at == inside
                inside += each.size
            assert {each.what for each in records} >= {"handshake", "data"}
            assert all(each.len == each.size + 22 for each in records if each.what == "data")  # header, type and tag


def test_no_secret_is_in_a_recording(scene: Scene) -> None:
    recorded = scene.recording.read_text()
    captured = pcapng.read(scene.capture)
    first = next(iter(captured.streams.values()))
    inside = pcapng.decrypted(captured, first)[0]
    secret = inside[inside.index(b"Register") + 17 :][:32]  # behind id, account and the header of 32 bytes
    assert len(set(secret)) > 10
    assert secret.hex() not in recorded
    assert not [each for secrets in captured.secrets.values() for each in secrets.values() if each.hex() in recorded]
    assert scene.recording.stat().st_mode & 0o077 == 0
    assert scene.capture.stat().st_mode & 0o077 == 0


def test_without_a_key_log_there_are_records_and_nothing_inside(scene: Scene, tmp_path: Path) -> None:
    stream = next(iter(pcapng.read(scene.capture).streams.values()))
    with tapped(tmp_path, bytes(stream.sent[1])) as (tap, _):
        with socket.create_connection(("127.0.0.1", tap.port)) as client:
            client.sendall(stream.sent[0])
            while client.recv(CHUNK):
                pass
        wait_until(lambda: not tap._connections)
    lines = lines_of(tmp_path / "recording.jsonl")
    assert {line.layer for line in lines} == {"scene", "network"}
    assert {line.size for line in lines} == {0}
    assert sum(line.len for line in lines) == sum(map(len, stream.sent))


def test_what_passes_in_the_clear_can_be_read(tmp_path: Path) -> None:
    with tapped(tmp_path, b"welcome\r\n", capture=True) as (tap, _):
        with socket.create_connection(("127.0.0.1", tap.port)) as client:
            client.sendall(b"PASS sesame\r\n")
            assert client.recv(CHUNK) == b"welcome\r\n"
        wait_until(lambda: not tap._connections)
    shown = {(line.way, line.what, line.text) for line in lines_of(tmp_path / "recording.jsonl") if line.way}
    assert shown == {("up", "clear", "PASS sesame\r\n"), ("down", "clear", "welcome\r\n")}
    (stream,) = pcapng.read(tmp_path / "capture.pcapng").streams.values()
    assert tuple(map(bytes, stream.sent)) == (b"PASS sesame\r\n", b"welcome\r\n")


# ---- how it relays


def test_the_end_and_the_loss_of_a_connection_pass_as_what_they_are(tmp_path: Path) -> None:
    with tapped(tmp_path) as (tap, listener):
        with socket.create_connection(("127.0.0.1", tap.port)) as client, listener.accept()[0] as served:
            client.shutdown(socket.SHUT_WR)
            assert served.recv(1) == b""
            served.sendall(b"late")  # the other direction is still open
            assert client.recv(4) == b"late"
        with socket.create_connection(("127.0.0.1", tap.port)) as client, listener.accept()[0] as served:
            client.sendall(b"unread")
            wait_until(lambda: len(served.recv(6, socket.MSG_PEEK)) == 6)
            served.close()  # with bytes unread: a reset
            with pytest.raises(ConnectionResetError):
                client.recv(1)


def test_where_no_server_listens_the_client_is_told(tmp_path: Path) -> None:
    with tapped(tmp_path) as (tap, listener):
        listener.close()
        with socket.create_connection(("127.0.0.1", tap.port)) as client, pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_side_that_does_not_read_holds_up_the_other_and_no_memory(tmp_path: Path) -> None:
    data = bytes(1 << 22)
    with (
        tapped(tmp_path) as (tap, listener),
        socket.create_connection(("127.0.0.1", tap.port)) as client,
        listener.accept()[0] as served,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sender = threading.Thread(target=client.sendall, args=(data * 4,))
        sender.start()
        (connection,) = tap._connections
        wait_until(lambda: len(connection.waiting[1]) >= MAX_BEHIND)
        assert len(connection.waiting[1]) < MAX_BEHIND + CHUNK
        got = 0
        while got < 4 * len(data):  # its twin: once it is read, all of it comes
            got += len(served.recv(1 << 20))
        sender.join()


def test_it_relays_to_this_computer_alone(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "recording.jsonl")
    for host in ("192.0.2.1", "chat.example", "::ffff:192.0.2.1"):
        with pytest.raises(UsageError, match="listens on this computer only"):
            Tap((host, 1), recorder)
    recorder.close()


def test_more_connections_than_it_may_have_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securechat_lab.watching.tap.MAX_CONNECTIONS", 1)
    with (
        tapped(tmp_path) as (tap, listener),
        socket.create_connection(("127.0.0.1", tap.port)) as first,
        listener.accept()[0] as served,
        socket.create_connection(("127.0.0.1", tap.port)) as second,
    ):
        second.sendall(b"second")
        for _ in range(3):  # the tap has looked at everything that there is, more than once
            first.sendall(b"x")
            served.recv(1)
        assert tap._count == 1
        served.close()
        first.close()
        with listener.accept()[0] as next_one:
            assert next_one.recv(6) == b"second"


# ---- bounds


def test_files_stop_growing_and_what_is_watched_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_module, "MAX_CAPTURE", 5000)
    monkeypatch.setattr(recording_module, "MAX_WRITTEN", 5000)
    with tapped(tmp_path, b"x" * 100_000, capture=True) as (tap, _):
        with socket.create_connection(("127.0.0.1", tap.port)) as client:
            got = 0
            while data := client.recv(CHUNK):
                got += len(data)
        assert got == 100_000
    assert 2000 < (tmp_path / "capture.pcapng").stat().st_size <= 5000
    assert (tmp_path / "recording.jsonl").stat().st_size <= 5000
    assert pcapng.read(tmp_path / "capture.pcapng").streams  # whole blocks
    assert lines_of(tmp_path / "recording.jsonl")


def test_a_full_disk_harms_nobody_who_is_watched(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with tapped(tmp_path, b"x" * 100_000, capture=True) as (tap, _):
        assert tap._capture is not None
        for file in (tap._capture._file, tap._recorder._file):
            os.dup2(full, file.fileno())
        os.close(full)
        with socket.create_connection(("127.0.0.1", tap.port)) as client:
            got = 0
            while data := client.recv(CHUNK):
                got += len(data)
        assert got == 100_000
        assert tap._capture.full


def test_a_bug_of_the_tap_leaves_nobody_waiting_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Observer, "passed", lambda *_: [][0])

    def talk() -> bytes:
        with tapped(tmp_path, b"welcome") as (tap, _), socket.create_connection(("127.0.0.1", tap.port)) as client:
            return b"".join(iter(lambda: client.recv(CHUNK), b""))

    with pytest.raises(IndexError):
        talk()


def test_a_recording_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    for make in (Recorder, Capture):
        with pytest.raises(StorageError, match="cannot write the .*: No such file or directory"):
            make(tmp_path / "nowhere" / "file")


def test_text_that_is_no_unicode_is_recorded_all_the_same(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "recording.jsonl")
    recorder.add("person", "said", text="half: \ud83d \x1b[2J")
    recorder.close()
    last = json.loads((tmp_path / "recording.jsonl").read_text().splitlines()[-1])
    assert last["text"] == "half: ? \x1b[2J"  # whoever shows it cleans it


# ---- TLS of each kind


def handshake(kind: int, body: bytes) -> bytes:
    message = bytes([kind]) + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize(("code", "size"), [(0x1301, 32), (0x1302, 48), (0x1303, 32)])
def test_each_cipher_is_read_along_and_so_are_new_keys(code: int, size: int) -> None:
    random = b"r" * 32
    secrets = {"CLIENT_HANDSHAKE_TRAFFIC_SECRET": b"h" * size, "CLIENT_TRAFFIC_SECRET_0": b"t" * size}
    session, records = Session(), Records()
    hellos = (
        (0, handshake(1, b"\x03\x03" + random + b"\0")),
        (1, handshake(2, b"\x03\x03" + bytes(32) + b"\0" + code.to_bytes(2, "big") + b"\0")),
    )
    for side, hello in hellos:
        (record,) = Records().receive(hello)
        assert session.open(side, record) == ("handshake", b"")  # type: ignore[arg-type]  # 0 and 1
    assert session.client_random == random
    session.learn(b"".join(f"{name} {random.hex()} {secret.hex()}\n".encode() for name, secret in secrets.items()))
    first, then = (Writer(pcapng.CIPHERS[code], secret) for secret in secrets.values())
    finished = first.record(b"\x14\0\0\x20" + bytes(32), HANDSHAKE)
    sent = finished + then.record(b"one") + then.key_update(answer=False) + then.record(b"two")
    opened = [session.open(0, record) for record in records.receive(sent)]
    assert opened == [("handshake", b""), ("data", b"one"), ("handshake", b""), ("data", b"two")]
    (forged,) = records.receive(Writer(pcapng.CIPHERS[code], b"x" * size).record(b"three"))
    assert session.open(0, forged) == ("encrypted", b"")


def test_the_product_writes_no_secrets_down(
    certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    client = client_context(certificates / "ca.pem")
    server = server_context(certificates / "server.pem", certificates / "server-key.pem")
    assert not any((client.keylog_filename, server.keylog_filename))
    settings = ClientSettings("localhost", 1, ca_file=certificates / "ca.pem")
    logged = with_key_log(trust, tmp_path / "keys.log")(settings, [], Deadline(1))
    assert logged.keylog_filename == str(tmp_path / "keys.log")  # its twin, of a scene


# ---- hostile bytes


def test_records_are_the_same_however_the_stream_is_cut(scene: Scene) -> None:
    stream = bytes(next(iter(pcapng.read(scene.capture).streams.values())).sent[1])
    whole = list(Records().receive(stream))
    assert sum(each.size for each in whole) == len(stream)
    for size in (1, 2, 7, 1000):
        records = Records()
        assert [
            each for start in range(0, len(stream), size) for each in records.receive(stream[start : start + size])
        ] == whole


def test_an_upgrade_to_tls_is_seen(scene: Scene) -> None:
    stream = bytes(next(iter(pcapng.read(scene.capture).streams.values())).sent[0])
    records = Records()
    assert [each.kind for each in records.receive(b"STARTTLS\n")] == [0]
    assert next(iter(records.receive(stream))).kind == 22


@pytest.mark.parametrize(
    "data",
    [
        b"\x16",
        b"\x16\x03\x01\xff\xff",
        b"\x17\x03\x03\x00\x00" * 9,
        b"\0" * 300,
        b"\x16\x03\x03\0\x04\x02\0\0\0",
        b"\x16\x03\x03\0\x06\x01\xff\xff\xff\0\0",
    ],
)
def test_bytes_of_any_kind_are_taken(data: bytes) -> None:
    sides: tuple[Side, ...] = (0, 1)
    for side in sides:
        records, session = Records(), Session()
        for _ in range(3):
            for record in records.receive(data):
                session.open(side, record)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    "inside",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\x01\xc1",
        b"\0\0\0\x04\x92\xa6Submit",
        b"\0\0\0\x08\x92\xa4Pong\xff\xff",
        b"\0\0\0\x0a\x92\xa6Notice\xa1\xff",  # text that is no UTF-8
        encode_frame(m.Submit(7, bytes(32), 1, b"no MLS")),
        encode_frame(m.Refused(99, "not-found", "a reply to nothing")),
        encode_frame(m.Entry(bytes(32), (1 << 53) - 1, 0, bytes(16), 200, b"\xff" * 2000, b"")),
    ],
)
def test_frames_of_any_kind_become_lines_that_can_be_read(
    inside: bytes, side: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path / "recording.jsonl")
    observer = Observer(recorder, 1, "127.0.0.1:1")
    monkeypatch.setattr(observer.session, "open", lambda _side, _record: Opened("data", inside))  # as if decrypted
    for _ in range(2):
        observer.passed(side, Record(23, 0, len(inside) + 22, b""), 0.0)
    recorder.close()
    names = [line.what for line in lines_of(tmp_path / "recording.jsonl") if line.layer == "server"]
    assert len(names) in (1, 2)  # once: nothing more is read of what is no frame


def test_a_frame_in_two_records_is_at_its_beginning_and_a_refusal_says_of_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path / "recording.jsonl")
    observer = Observer(recorder, 1, "127.0.0.1:1")
    room = bytes(range(32))
    up = encode_frame(m.Ping()) + encode_frame(m.Submit(7, room, 3, b"no MLS"))
    down = encode_frame(m.Refused(7, "stale-epoch", "process the commit first"))
    parts: tuple[tuple[Side, bytes], ...] = ((0, up[:20]), (0, up[20:]), (1, down))
    for side, inside in parts:
        monkeypatch.setattr(observer.session, "open", lambda *_, inside=inside: Opened("data", inside))
        observer.passed(side, Record(23, 0, len(inside) + 22, b""), 0.0)
    recorder.close()
    ping, submit, refused = (each for each in lines_of(tmp_path / "recording.jsonl") if each.layer == "server")
    assert (ping.at, ping.size, submit.at, submit.size) == (0, 10, 10, len(up) - 10)
    assert (refused.text, refused.conversation, refused.number) == ("stale-epoch", room.hex(), 3)
