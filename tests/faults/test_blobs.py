"""Files through kill -9 at each step, a full disk, and a folder that is older or newer than the store.

What was acknowledged of an upload is there, and it goes on from there; what is whole is whole; what nobody needs goes.
"""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from securechat import cli
from securechat.transport.tls import client_context
from securechat.wire import limits
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import Person
from tests.faults.test_disk import DISKS
from tests.support import kill_points
from tests.support.live import LiveServer
from tests.support.small_disk import SmallDisk
from tests.support.uploads import PART, begin, bytes_of, download, fetch, put, upload
from tests.support.waiting import wait_until

Start = Callable[..., LiveServer]
MOST = 120
"""More writes than an upload and a deletion make."""


@pytest.fixture
def point(tmp_path: Path) -> Path:
    return tmp_path / "kill point"


def founder(server: LiveServer, name: str = "alice") -> tuple[Person, bytes]:
    """Somebody in a room of their own."""
    person = Person(server.port, client_context(server.ca), name).register().login()
    assert isinstance(person.open_room("#den", "invite"), m.Done)
    return person, next(iter(person.groups))


def files_in(server: LiveServer) -> list[Path]:
    return [path for path in (server.folder / "data" / "blobs").rglob("*") if path.is_file()]


def lived_through(server: LiveServer, point: Path, number: int, step: Callable[[], object]) -> bool:
    """Do something; whether the server has lived through so many points of it. If not, it is started again."""
    kill_points.arm(point, number)
    try:
        step()
    except (AssertionError, OSError):
        wait_until(lambda: server.has_ended)  # else it is no kill that the step has failed of
    if kill_points.disarm(point):
        return True
    server.wait()
    server.start()
    return False


def send(person: Person, room: bytes, blob: bytes, data: bytes, acknowledged: list[int]) -> None:
    """Upload a blob; `acknowledged` gets the offsets of which the server says that it has what is before them."""
    state = begin(person, room, blob, data)
    while state.offset < len(data):
        state = put(person, room, blob, data, state.offset)
        acknowledged.append(state.offset)


def drop(server: LiveServer, person: Person, room: bytes, blob: bytes) -> None:
    """Drop the only blob, and wait until its file is gone."""
    assert isinstance(person.ask(m.DropBlob, room, blob), m.Done)
    wait_until(lambda: not files_in(server) or server.has_ended)
    assert isinstance(person.ask(m.ListRooms), m.Rooms)


def test_an_upload_goes_on_wherever_the_server_was_killed(start_server: Start, point: Path) -> None:
    server = start_server(environment={kill_points.VARIABLE: str(point)})
    alice, room = founder(server)
    data, died, offsets = bytes_of(200_000), 0, set[int]()
    for number in range(MOST):
        acknowledged = [0]
        blob = number.to_bytes(limits.BLOB_ID_LENGTH, "big")
        done = lived_through(server, point, number, partial(send, alice, room, blob, data, acknowledged))
        alice.drop()
        alice = alice.again()
        state = begin(alice, room, blob, data)
        assert isinstance(state, m.BlobState), state
        assert state.offset >= acknowledged[-1]
        offsets.add(state.offset)
        upload(alice, room, data, blob)
        assert download(alice, room, blob) == data
        died += not done
        if done:
            break
    assert done, "it makes more writes than were tried"
    assert died > 8
    assert len(offsets) > 3, "it was killed at few places"
    assert len(files_in(server)) == number + 1
    assert "Traceback" not in server.log.read_text()
    alice.drop()


def test_what_was_dropped_goes_wherever_the_server_was_killed(start_server: Start, point: Path) -> None:
    server = start_server(environment={kill_points.VARIABLE: str(point)})
    alice, room = founder(server)
    data, died = bytes_of(0), 0
    for number in range(MOST):
        blob = upload(alice, room, data)
        done = lived_through(server, point, number, partial(drop, server, alice, room, blob))
        alice.drop()
        alice = alice.again()
        assert isinstance(alice.ask(m.DropBlob, room, blob), m.Done)  # the same again
        wait_until(lambda: not files_in(server))
        reply = fetch(alice, room, blob)
        assert isinstance(reply, m.Refused)
        assert reply.code == "gone"
        died += not done
        if done:
            break
    assert done
    assert died > 3
    assert "Traceback" not in server.log.read_text()
    alice.drop()


def admin(server: LiveServer, *arguments: str) -> None:
    result = CliRunner().invoke(cli.main, ["admin", "--data", str(server.folder / "data"), *arguments])
    assert result.exit_code == 0, result.output


def restore(server: LiveServer, backup: Path, blobs: Path | None) -> None:
    """As the handbook says; `blobs`: the folder that is put beside the database."""
    data = server.folder / "data"
    assert server.stop() == 0
    data.rename(server.folder / "data.old")
    admin(server, "restore", str(backup))
    if blobs is not None:
        shutil.copytree(blobs, data / "blobs")
    server.start()


def gone(person: Person, room: bytes, blob: bytes) -> bool:
    reply = fetch(person, room, blob)
    return isinstance(reply, m.Refused) and reply.code == "gone"


def test_a_server_restored_from_an_older_backup_keeps_the_files_that_it_knows(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    alice, room = founder(server)
    before = upload(alice, room, data := bytes_of())
    admin(server, "backup", str(tmp_path / "backup.tar"))
    since = upload(alice, room, data)
    alice.drop()
    restore(server, tmp_path / "backup.tar", server.folder / "data.old" / "blobs")
    with alice.again() as again:
        assert download(again, room, before) == data
        assert gone(again, room, since)
        wait_until(lambda: len(files_in(server)) == 1)
        upload(again, room, data, since)  # whoever has it may bring it again
        assert download(again, room, since) == data


@pytest.mark.parametrize("folder", ["older", "none"])
def test_a_server_restored_without_some_files_tells_that_they_are_gone(
    start_server: Start, tmp_path: Path, folder: str
) -> None:
    server = start_server()
    alice, room = founder(server)
    there = upload(alice, room, data := bytes_of())
    half = upload(alice, room, data, upto=PART)
    shutil.copytree(server.folder / "data" / "blobs", tmp_path / "copy")
    missing = upload(alice, room, data)
    upload(alice, room, data, half)
    admin(server, "backup", str(tmp_path / "backup.tar"))
    alice.drop()
    restore(server, tmp_path / "backup.tar", tmp_path / "copy" if folder == "older" else None)
    with alice.again() as again:
        assert gone(again, room, missing)
        wait_until(lambda: gone(again, room, half))  # or its beginning could be fetched
        assert folder == "none" or download(again, room, there) == data
        wait_until(lambda: gone(again, room, there) == (folder == "none"))
        wait_until(lambda: len(files_in(server)) == (folder == "older"))
        wait_until(lambda: isinstance(begin(again, room, missing, data), m.BlobState))  # `busy` until its file has gone
        upload(again, room, data, missing)
        assert download(again, room, missing) == data


@pytest.fixture(params=DISKS, ids=["mounted_disk", "refusing_disk"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    with request.param(tmp_path / "data") as disk:
        yield disk


def test_a_disk_that_is_full_stops_an_upload_where_it_is(disk: SmallDisk, start_server: Start) -> None:
    server = start_server(environment={**disk.environment, "SECURECHAT_DISK_FLOOR": "0"})
    alice, room = founder(server)
    data = bytes_of(8 << 20)
    blob = upload(alice, room, data, upto=4 * PART)
    disk.fill()
    offset = 4 * PART
    while isinstance(reply := put(alice, room, blob, data, offset), m.BlobState):
        offset = reply.offset
    assert reply.code == "disk-full", reply
    assert offset < len(data)
    disk.make_room()
    state = begin(alice, room, blob, data)
    assert isinstance(state, m.BlobState)
    assert state.offset == offset
    upload(alice, room, data, blob)
    assert download(alice, room, blob) == data
    assert "Traceback" not in server.log.read_text()
    alice.drop()
