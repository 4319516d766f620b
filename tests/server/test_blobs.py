"""Blobs over real connections: what many bytes do to those who talk beside them, and what hostile accounts get."""

import logging
import os
import socket
from collections.abc import Callable

import pytest

from securechat.server.app import Server
from securechat.server.blobs.transfers import READY_BYTES
from securechat.server.operator import doctor
from securechat.wire import limits
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import Person
from tests.server.test_input_costs import connections_of
from tests.support.uploads import PART, begin, bytes_of, download, upload
from tests.support.waiting import wait_until

Enter = Callable[..., Person]


def chat(enter: Enter) -> tuple[Person, Person, bytes]:
    alice, bob = enter("alice"), enter("bob")
    bob.read_inbox()
    alice.open_direct("bob")
    return alice, bob, bob.accept_welcome()


def test_a_blob_goes_through_as_it_is_and_outlives_its_session(enter: Enter) -> None:
    alice, bob, direct = chat(enter)
    data = bytes_of(3 << 20)
    blob = upload(alice, direct, data, upto=1 << 20)
    with alice.again() as again:
        state = begin(again, direct, blob, data)
        assert isinstance(state, m.BlobState)
        assert state.offset >= 1 << 20
        upload(again, direct, data, blob)
    assert download(bob, direct, blob) == data


def test_a_window_of_parts_is_written_together_and_answered_in_order(enter: Enter) -> None:
    alice, bob, direct = chat(enter)
    data = bytes_of(2 << 20)
    blob = upload(alice, direct, data, upto=0)
    offsets = list(range(0, len(data), PART))
    for first in range(0, len(offsets), limits.BLOB_WINDOW):
        window = offsets[first : first + limits.BLOB_WINDOW]
        for offset in window:
            part = data[offset : offset + PART]
            alice.send(m.PutBlob(alice.protocol.next_id(), direct, blob, offset, part))
        ends = [alice.take(m.BlobState).offset for _ in window]
        assert ends == [min(offset + PART, len(data)) for offset in window]
    assert download(bob, direct, blob) == data


def test_who_asks_for_parts_and_takes_none_has_two_in_memory(server: Server, enter: Enter) -> None:
    """And whoever talks with them is not kept waiting."""
    alice, bob, direct = chat(enter)
    data = bytes_of(4 << 20)
    blob = upload(alice, direct, data)
    bob.subscribe(direct)
    with bob.again(receive_buffer=4096) as slow:
        wait_until(lambda: len(connections_of(server, "bob")) == 1)
        (there,) = connections_of(server, "bob")
        there.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)
        for number in range(limits.BLOB_WINDOW):
            offset = number * limits.MAX_BLOB_PART
            slow.protocol.send(m.FetchBlob(slow.protocol.next_id(), direct, blob, offset, limits.MAX_BLOB_PART))
        slow.flush()
        wait_until(lambda: there.backlog > READY_BYTES)
        assert isinstance(alice.say(direct, "beside it"), m.Accepted)
        assert there.backlog <= READY_BYTES + 2 * limits.MAX_BLOB_PART
        parts = [slow.take(m.BlobBytes).data for _ in range(limits.BLOB_WINDOW)]
        assert b"".join(parts) == data[: limits.BLOB_WINDOW * limits.MAX_BLOB_PART]


def test_a_flood_of_starts_holds_nothing_but_its_own_share(server: Server, enter: Enter) -> None:
    alice, bob, direct = chat(enter)
    codes = set()
    for _ in range(300):
        reply = alice.ask(m.StartBlob, direct, os.urandom(limits.BLOB_ID_LENGTH), limits.MIN_BLOB)
        codes.add(reply.code if isinstance(reply, m.Refused) else type(reply).__name__)
    assert codes == {"BlobState", "quota"}
    assert list((server._config.data / "blobs").iterdir()) == []
    data = bytes_of()
    assert download(alice, direct, upload(bob, direct, data)) == data


def test_the_operator_sees_what_files_take_and_what_is_missing(server: Server, enter: Enter) -> None:
    alice, _, direct = chat(enter)
    data = bytes_of()
    whole = upload(alice, direct, data)
    upload(alice, direct, data, upto=PART)
    status = server.status()
    assert (status.blob_bytes, status.uploads) == (len(data) + PART, 1)
    folder = server._config.data
    (finding,) = doctor._blobs(folder)
    assert (finding.grade, finding.text) == ("ok", "2, 0.2 MiB")
    found = server._store.blobs.find(direct, whole)
    assert found is not None
    path = folder / "blobs" / found.file.hex()[:2] / found.file.hex()
    path.with_name("ff" * 32).write_bytes(b"?")
    path.unlink()
    (finding,) = doctor._blobs(folder)
    assert finding.grade == "warning"
    assert "1 more are missing" in finding.text


def test_the_log_says_nothing_of_a_blob_but_who_asked_for_what(enter: Enter, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    alice, bob, direct = chat(enter)
    data = b"canary-of-contents".ljust(len(bytes_of(0)), b"!")
    blob = upload(alice, direct, data, b"canary-of-the-id")
    assert download(bob, direct, blob) == data
    assert isinstance(alice.ask(m.DropBlob, direct, blob), m.Done)
    written = repr([record.__dict__ for record in caplog.records])
    assert "PutBlob" in written
    for canary in (b"canary-of", blob, direct):
        assert canary.decode("latin-1") not in written
        assert canary.hex() not in written
