"""Direct links over real sockets and real TLS: who gets in, what comes across, and what ends a link."""

import contextlib
import datetime as dt
import ipaddress
import os
import queue
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from securechat.client.direct import carrying, meeting, protocol
from securechat.client.direct.carrying import DirectLink, Down, Fetched, Given, Giving, Lacked, News, Up, Wish
from securechat.client.direct.endpoints import Endpoint
from securechat.client.direct.meeting import MAX_HEARD, MAX_STRANGERS, Door, Session, knock
from securechat.client.direct.protocol import Typed
from securechat.errors import PeerError, StorageError, UnreachableError
from securechat.transport import mutual
from securechat.transport.deadline import Deadline
from securechat.transport.mutual import LIFE, Credential, MutualTLS, check_certificate, make_credential
from securechat.transport.waker import Waker
from tests.support.waiting import PATIENCE, wait_until

BLOB, OTHER = bytes(range(16)), bytes(range(1, 17))
LOOPBACK = [ipaddress.ip_address("127.0.0.1")]
CONTENT = os.urandom((3 << 20) + 17)


class End:
    """One side of a link: what it has to give, and what it hears."""

    def __init__(self, blobs: dict[bytes, Path] | None = None) -> None:
        self.blobs = blobs or {}
        self.opened: list[bytes] = []
        self.news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self.giving: list[Giving] = []
        self.got = bytearray()
        self.link: DirectLink

    def take(self, news: News) -> None:
        if isinstance(news, Giving):  # which comes now and then
            self.giving.append(news)
        else:
            self.news.put(news)

    def open(self, blob: bytes) -> BinaryIO | None:
        self.opened.append(blob)
        return self.blobs[blob].open("rb") if blob in self.blobs else None

    def hear(self) -> News:
        return self.news.get(timeout=PATIENCE)

    def down(self) -> str:
        """Wait for the end; return its reason."""
        while not isinstance(news := self.hear(), Down):
            pass
        return news.reason

    def fetch(self, length: int = len(CONTENT), *, blob: bytes = BLOB) -> None:
        """Ask for what is missing of a blob."""
        self.link.fetch(Wish(blob, len(self.got), length - len(self.got), self.got.extend))


class Meeting:
    """A door at this machine, and somebody who knocks."""

    def __init__(self) -> None:
        self.listening, self.connecting = make_credential(), make_credential()
        self.door = Door(LOOPBACK)
        (self.endpoint,) = self.door.endpoints(LOOPBACK)
        self.listener, self.connector = End(), End()

    def listen(self, own: Credential | None = None, peer: bytes | None = None) -> None:
        tls = MutualTLS(own or self.listening, peer or self.connecting.certificate, listens=True)
        self.listener.link = DirectLink(
            lambda *waiting: self.door.admit(tls, *waiting),
            listens=True, open_blob=self.listener.open, deliver=self.listener.take,
        )  # fmt: skip
        self.listener.link.start()

    def knock(self, own: Credential | None = None, peer: bytes | None = None, at: Endpoint | None = None) -> None:
        tls = MutualTLS(own or self.connecting, peer or self.listening.certificate, listens=False)
        self.connector.link = DirectLink(
            lambda deadline, *_: knock(tls, [at or self.endpoint], deadline),
            listens=False, open_blob=self.connector.open, deliver=self.connector.take,
        )  # fmt: skip
        self.connector.link.start()

    def both(self) -> tuple[End, End]:
        self.listen()
        self.knock()
        for end in (self.listener, self.connector):
            assert end.hear() == Up()
        return self.listener, self.connector


@pytest.fixture
def meet() -> Iterator[Meeting]:
    made = Meeting()
    yield made
    made.door.close()
    for end in (made.listener, made.connector):
        with contextlib.suppress(AttributeError):  # it has none
            end.link.close()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines are slow."""
    monkeypatch.setattr(meeting, "KNOCK_SECONDS", PATIENCE)
    for module in (carrying, protocol):
        monkeypatch.setattr(module, "OPENING_SECONDS", PATIENCE)


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(CONTENT)
    return path


# --- what comes across --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listener_gives", [True, False])
def test_a_blob_goes_across_whole_and_from_any_offset(meet: Meeting, blob: Path, listener_gives: bool) -> None:  # noqa: FBT001
    giver, taker = meet.both() if listener_gives else meet.both()[::-1]
    giver.blobs[BLOB] = blob
    for offset in (0, 1, len(CONTENT) - 1):
        taker.got[:] = CONTENT[:offset]
        taker.fetch()
        assert taker.hear() == Fetched(BLOB)
        assert taker.got == CONTENT
    taker.link.have(BLOB)
    assert giver.hear() == Given(BLOB)
    taker.link.close()
    assert (taker.down(), giver.down()) == ("", "")


def test_both_sides_give_and_take_at_once(meet: Meeting, blob: Path) -> None:
    """Neither waits with reading until the other one reads."""
    ends = meet.both()
    for end in ends:
        end.blobs[BLOB] = blob
    for end in ends:
        end.fetch()
    for end in ends:
        assert end.hear() == Fetched(BLOB)
        assert end.got == CONTENT


def test_several_wishes_are_granted_one_after_the_other(meet: Meeting, blob: Path) -> None:
    giver, taker = meet.both()
    giver.blobs[BLOB] = blob
    for wanted in (BLOB, OTHER, BLOB):
        taker.link.fetch(Wish(wanted, 0, 5, taker.got.extend))
    assert [taker.hear() for _ in range(3)] == [Fetched(BLOB), Lacked(OTHER), Fetched(BLOB)]
    assert taker.got == CONTENT[:5] * 2


def test_what_is_not_there_or_shorter_than_its_entry_says_is_lacked(meet: Meeting, blob: Path, tmp_path: Path) -> None:
    giver, taker = meet.both()
    giver.blobs[BLOB] = blob
    giver.blobs[OTHER] = tmp_path / "gone"
    taker.link.fetch(Wish(BLOB, 0, len(CONTENT) + 1, taker.got.extend))
    taker.link.fetch(Wish(OTHER, 0, 1, taker.got.extend))
    assert [taker.hear() for _ in range(2)] == [Lacked(BLOB), Lacked(OTHER)]
    assert taker.got == CONTENT


def test_that_somebody_has_what_they_never_wanted_is_told_to_nobody(meet: Meeting, blob: Path) -> None:
    giver, taker = meet.both()
    giver.blobs[BLOB] = blob
    taker.link.have(BLOB)
    taker.fetch(5)
    assert taker.hear() == Fetched(BLOB)
    taker.link.have(BLOB)
    taker.link.have(BLOB)
    taker.link.close()
    assert giver.hear() == Given(BLOB)
    assert giver.hear() == Down("")


class Gate:
    """Takes what comes, and waits after the first bytes until it may go on."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.open = threading.Event()

    def take(self, data: bytes) -> None:
        self.got += data
        assert self.open.wait(PATIENCE)


def holes(path: Path) -> Path:
    """A blob that takes longer than a test."""
    with path.open("wb") as file:
        file.truncate(1 << 40)
    return path


def test_a_wish_is_taken_back_and_the_link_goes_on(meet: Meeting, blob: Path, tmp_path: Path) -> None:
    giver, taker = meet.both()
    giver.blobs |= {BLOB: blob, OTHER: holes(tmp_path / "endless")}
    gate = Gate()
    taker.link.fetch(Wish(OTHER, 0, 1 << 40, gate.take))
    taker.link.fetch(Wish(OTHER, 0, 1, gate.take))  # in a row behind it
    wait_until(lambda: bool(gate.got))
    taker.link.stop(OTHER)
    gate.open.set()
    assert [taker.hear() for _ in range(2)] == [Lacked(OTHER)] * 2
    had = len(gate.got)
    taker.fetch()
    assert taker.hear() == Fetched(BLOB)
    assert taker.got == CONTENT
    assert len(gate.got) == had
    taker.link.close()
    assert (taker.down(), giver.down()) == ("", "")


def test_what_may_not_be_given_any_more_stops_in_the_middle(meet: Meeting, blob: Path, tmp_path: Path) -> None:
    giver, taker = meet.both()
    giver.blobs |= {BLOB: blob, OTHER: holes(tmp_path / "endless")}
    gate = Gate()
    gate.open.set()
    taker.link.fetch(Wish(OTHER, 0, 1 << 40, gate.take))
    wait_until(lambda: bool(gate.got) and bool(giver.giving))
    giver.link.withhold(BLOB)  # another one
    reached = len(gate.got)
    wait_until(lambda: len(gate.got) > reached + protocol.MAX_DATA)
    del giver.blobs[OTHER]
    giver.link.withhold(OTHER)
    assert taker.hear() == Lacked(OTHER)
    taker.fetch()
    assert taker.hear() == Fetched(BLOB)
    assert giver.giving[0] == Giving(OTHER, 0)


def test_of_those_who_type_the_last_word_arrives(meet: Meeting) -> None:
    one, other = meet.both()
    one.link.type(typing=False)
    heard = [other.hear()]
    assert heard == [Typed(typing=False)]
    for _ in range(1000):
        for typing in (False, True):
            one.link.type(typing=typing)
    while heard[-1] != Typed(typing=True):
        heard.append(other.hear())
    assert len(heard) < protocol.MAX_TYPING


def test_what_cannot_be_taken_ends_the_link_in_words(meet: Meeting, blob: Path) -> None:
    giver, taker = meet.both()
    giver.blobs[BLOB] = blob

    def full(_: bytes) -> None:
        raise StorageError("the disk is full")

    taker.link.fetch(Wish(BLOB, 0, len(CONTENT), full))
    assert taker.down() == "the disk is full"
    assert re.search("the connection was lost|the other side has gone", giver.down())


def test_a_link_that_is_closed_before_anybody_came_ends_at_once(meet: Meeting) -> None:
    meet.listen()
    meet.listener.link.close()
    assert meet.listener.down() == "the link was given up"
    with pytest.raises(OSError):  # noqa: PT011 - which error it is, each system says differently
        socket.create_connection((str(meet.endpoint.address), meet.endpoint.port), PATIENCE)


# --- who gets in --------------------------------------------------------------------------------------------------


def refused(meet: Meeting, blob: Path) -> tuple[str, str]:
    """Both sides have begun, and nobody sees a byte. The reasons of both: first that of who connects."""
    for end in (meet.listener, meet.connector):
        end.blobs[BLOB] = blob
    meet.connector.fetch()
    why = meet.connector.down()
    meet.listener.link.close()
    reasons = why, meet.listener.down()
    for end in (meet.listener, meet.connector):
        assert not end.got
        assert not end.opened
    return reasons


def test_a_listener_with_another_certificate_is_refused(meet: Meeting, blob: Path) -> None:
    meet.listen(own=make_credential())
    meet.knock()
    assert refused(meet, blob) == ("somebody else is at their address", "the link was given up")


def test_somebody_with_another_certificate_is_not_let_in(meet: Meeting, blob: Path) -> None:
    meet.listen()
    meet.knock(own=make_credential())
    why, listener = refused(meet, blob)
    assert why  # whoever connects may believe for a moment that they are in (RFC 8446, section 4.4.4)
    assert listener == "the link was given up"


def test_swapped_certificates_are_refused(meet: Meeting, blob: Path) -> None:
    """Each shows that of the other's: what somebody has seen of a certificate is not its key."""
    meet.listen(own=meet.connecting)
    meet.knock(own=meet.listening)
    assert refused(meet, blob)[0] == "somebody else is at their address"


def test_a_certificate_without_its_key_is_good_for_nothing() -> None:
    told = make_credential()
    with pytest.raises(StorageError):
        MutualTLS(Credential(told.certificate, make_credential().key), make_credential().certificate, listens=False)


def test_the_certificates_of_an_earlier_link_are_refused(meet: Meeting, blob: Path) -> None:
    earlier = Meeting()
    earlier.both()
    meet.listen()
    meet.knock(own=earlier.connecting, peer=earlier.listening.certificate)
    assert refused(meet, blob)[0] == "somebody else is at their address"
    for end in (earlier.listener, earlier.connector):
        end.link.close()


NOW = dt.datetime.now(dt.UTC)
TIMES = [(NOW - 2 * LIFE, "out of date"), (NOW + 2 * LIFE, "out of date")]


@pytest.mark.parametrize(("made", "words"), TIMES)
def test_a_certificate_out_of_date_is_refused_before_a_connection(made: dt.datetime, words: str) -> None:
    for listens in (True, False):
        with pytest.raises(PeerError, match=words):
            MutualTLS(make_credential(), make_credential(made).certificate, listens=listens)


@pytest.mark.parametrize("listener_is_old", [True, False])
def test_a_certificate_that_has_expired_since_is_refused_by_tls(
    meet: Meeting, blob: Path, listener_is_old: bool, monkeypatch: pytest.MonkeyPatch  # noqa: FBT001
) -> None:
    monkeypatch.setattr(mutual, "check_certificate", lambda _: None)  # it was good then
    old = make_credential(NOW - 2 * LIFE)
    if listener_is_old:
        meet.listen(own=old)
        meet.knock(peer=old.certificate)
    else:
        meet.listen(peer=old.certificate)
        meet.knock(own=old)
    refused(meet, blob)


def test_only_a_certificate_of_a_link_is_taken_for_one() -> None:
    good = make_credential().certificate
    check_certificate(good)
    for wrong in (b"", good[:-1], good + b"\0", good + good, os.urandom(300), bytes(10_000)):
        with pytest.raises(PeerError):
            check_certificate(wrong)


def test_whatever_one_byte_of_a_certificate_becomes_it_is_taken_or_refused_in_words() -> None:
    """Also a version that there is not, or a serial number below zero, of which the library has a way of its own."""
    good = make_credential().certificate
    version = good.index(bytes.fromhex("a003020102")) + 4
    for place in (version, version + 3, *range(0, len(good), 7)):
        for byte in (0, 1, 5, 127, 128, 255):
            altered = good[:place] + bytes([byte]) + good[place + 1 :]
            with contextlib.suppress(PeerError), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # as outside of tests: the next one shows it
                check_certificate(altered)
    for byte in (0, 4, 255):
        with pytest.raises(PeerError, match="none of a direct link"):
            check_certificate(good[:version] + bytes([byte]) + good[version + 1 :])


def test_what_the_library_thinks_of_a_strangers_certificate_is_on_nobodys_screen() -> None:
    good = make_credential().certificate
    serial = good.index(bytes.fromhex("a003020102")) + 7
    program = (
        "import sys\n"
        "from securechat.errors import PeerError\n"
        "from securechat.transport.mutual import check_certificate\n"
        "for each in sys.argv[1:]:\n"
        "    try: check_certificate(bytes.fromhex(each)); print('taken')\n"
        "    except PeerError as error: print(error)\n"
    )
    negative = good[:serial] + b"\xff" + good[serial + 1 :]
    ran = subprocess.run(
        [sys.executable, "-c", program, negative.hex(), good.hex()], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines() == ["its certificate is none of a direct link", "taken"]
    assert ran.stderr == ""


def test_a_certificate_of_more_than_a_day_or_of_a_ca_is_refused() -> None:
    builder = _builder(make_credential())
    for days, ca, words in ((1, False, None), (2, False, "more than a day"), (1, True, "none of a direct link")):
        key = make_credential().key
        certificate = builder(key, days, ca)
        if words is None:
            check_certificate(certificate)
        else:
            with pytest.raises(PeerError, match=words):
                check_certificate(certificate)


def _builder(example: Credential) -> Callable[..., bytes]:
    name = x509.load_der_x509_certificate(example.certificate).subject

    def build(key: Ed25519PrivateKey, days: int, ca: bool) -> bytes:  # noqa: FBT001
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), 1)
            .not_valid_before(NOW - dt.timedelta(minutes=1))
            .not_valid_after(NOW + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(key, None)
        )
        return made.public_bytes(Encoding.DER)

    return build


def test_who_agrees_on_another_protocol_is_refused() -> None:
    ours, theirs = make_credential(), make_credential()
    server, client = (
        MutualTLS(ours, theirs.certificate, listens=True),
        MutualTLS(theirs, ours.certificate, listens=False),
    )
    client._context.set_alpn_protocols(["securechat/1"])  # a program that is none of ours
    one, other = server.connection(), client.connection()
    with pytest.raises(PeerError, match="does not speak securechat-link/1"):  # noqa: PT012
        while not one.established:
            one.receive(other.data_to_send())
            other.receive(one.data_to_send())


def test_the_key_leaves_no_file_and_no_plaintext(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[bytes] = []
    load = ssl.SSLContext.load_cert_chain

    def look(context: ssl.SSLContext, path: str, **password: str) -> None:
        assert Path(path).stat().st_mode & 0o777 == 0o600 or os.name == "nt"
        seen.append(Path(path).read_bytes())
        load(context, path, **password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look)
    own = make_credential()
    MutualTLS(own, make_credential().certificate, listens=True)
    assert b"ENCRYPTED PRIVATE KEY" in seen[0]
    assert own.key.private_bytes_raw() not in seen[0]
    assert list(tmp_path.iterdir()) == []
    assert repr(own) == f"Credential(certificate={own.certificate!r})"


def test_without_a_place_for_the_key_there_is_no_link_and_a_sentence_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match="takes none"):
        MutualTLS(make_credential(), make_credential().certificate, listens=True)


# --- strangers ----------------------------------------------------------------------------------------------------


def stranger(endpoint: Endpoint) -> socket.socket:
    return socket.create_connection((str(endpoint.address), endpoint.port), PATIENCE)


def test_a_hundred_strangers_keep_nobody_out(meet: Meeting, blob: Path) -> None:
    """Silent ones, noisy ones, and such as speak TLS but are not the one who is awaited."""
    meet.listen()
    silent = [stranger(meet.endpoint) for _ in range(60)]
    noisy = [stranger(meet.endpoint) for _ in range(30)]
    for each in noisy:
        with contextlib.suppress(OSError):  # dropped by then
            each.sendall(os.urandom(4000) + b"GET / HTTP/1.1\r\n\r\n" * 1000)
    for _ in range(10):
        tls = MutualTLS(make_credential(), meet.listening.certificate, listens=False)
        with contextlib.suppress(UnreachableError):  # in TLS 1.3 some believe that they are in
            knock(tls, [meet.endpoint], Deadline(PATIENCE)).link.close()
    meet.knock()
    assert meet.connector.hear() == meet.listener.hear() == Up()
    meet.listener.blobs[BLOB] = blob
    meet.connector.fetch()
    assert meet.connector.hear() == Fetched(BLOB)
    for each in silent + noisy:
        each.close()


def test_too_many_strangers_cost_the_link_and_nothing_else(meet: Meeting) -> None:
    meet.listen()
    with contextlib.suppress(OSError):  # the door is closed meanwhile
        for _ in range(MAX_STRANGERS + MAX_HEARD + 1):
            stranger(meet.endpoint).close()
    assert meet.listener.down() == "too many strangers connected"


def test_few_strangers_are_heard_at_once(meet: Meeting) -> None:
    """The one who has been there longest goes, so that the next one is heard."""
    meet.listen()
    guests = [stranger(meet.endpoint) for _ in range(MAX_HEARD + 3)]
    for each in guests[:3]:
        assert each.recv(1) == b""  # closed
    meet.listener.link.close()
    meet.listener.down()
    for each in guests:
        each.close()


def test_a_stranger_who_sends_more_than_a_handshake_goes(meet: Meeting) -> None:
    meet.listen()
    with stranger(meet.endpoint) as one:
        # A record of TLS that does not end: it is what a first hello may look like.
        record = b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + bytes((1 << 14) - 4)
        with contextlib.suppress(OSError):
            one.sendall(record * 2)
            while one.recv(4096):  # perhaps an alert
                pass
    meet.knock()
    assert meet.connector.hear() == Up()


def test_nobody_waits_longer_than_the_deadline() -> None:
    door, waker = Door(LOOPBACK), Waker()
    tls = MutualTLS(make_credential(), make_credential().certificate, listens=True)
    with pytest.raises(UnreachableError, match="nobody came in time"):
        door.admit(tls, Deadline(0.05), lambda: False, waker)
    waker.close()


def test_who_knocks_tries_each_place_once_and_says_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "KNOCK_SECONDS", 0.5)
    credential = make_credential()
    tls = MutualTLS(credential, make_credential().certificate, listens=False)
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen: nobody else is given the port meanwhile
        places = [Endpoint(LOOPBACK[0], each.getsockname()[1]) for each in (silent, closed)]
        for place, words in ((places[0], "does not answer"), (places[1], "cannot be reached")):
            with pytest.raises(UnreachableError, match=words):
                knock(tls, [place], Deadline(PATIENCE))
        with pytest.raises(UnreachableError, match="no address"):
            knock(tls, [], Deadline(PATIENCE))
        silent.settimeout(0)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


# --- on the way, and at the other end -----------------------------------------------------------------------------


class Cut:
    """A way to a listener that is cut after so many bytes of either direction."""

    def __init__(self, endpoint: Endpoint, after: int) -> None:
        self._endpoint, self._after = endpoint, after
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint(LOOPBACK[0], self._server.getsockname()[1])
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with self._server, contextlib.suppress(OSError):
            ours, _ = self._server.accept()
            theirs = stranger(self._endpoint)
            left, counting = [self._after], threading.Lock()

            def pump(source: socket.socket, sink: socket.socket) -> None:
                with contextlib.suppress(OSError):
                    while data := source.recv(4096):
                        with counting:
                            data = data[: left[0]]
                            left[0] -= len(data)
                        sink.sendall(data)
                        if left[0] <= 0:
                            break
                for each in (source, sink):
                    with contextlib.suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)

            pumps = [threading.Thread(target=pump, args=way) for way in ((ours, theirs), (theirs, ours))]
            for each in pumps:
                each.start()
            for each in pumps:
                each.join()
            ours.close()
            theirs.close()


@pytest.mark.parametrize("after", [0, 1, 100, 900, 1500, 2000, 2500, 5000, 300_000, 1_000_000])
def test_a_link_that_is_cut_anywhere_goes_on_from_there(blob: Path, after: int) -> None:
    """What has come is the beginning of the blob, and the next way brings the rest."""
    got = bytearray()
    for way in ("cut", "whole"):
        meet = Meeting()
        meet.listener.blobs[BLOB] = blob
        meet.connector.got = got
        meet.listen()
        meet.knock(at=Cut(meet.endpoint, after).endpoint if way == "cut" else None)
        meet.connector.fetch()
        if way == "cut":
            assert meet.connector.down()
            meet.listener.link.close()
            meet.listener.down()
            assert len(got) <= after
        else:
            assert [meet.connector.hear() for _ in range(2)] == [Up(), Fetched(BLOB)]
            meet.connector.link.close()
            assert meet.connector.down() == ""
        assert got == CONTENT[: len(got)]
    assert got == CONTENT


def rogue(meet: Meeting) -> Session:
    """Somebody with the right certificate, who says what they like."""
    tls = MutualTLS(meet.connecting, meet.listening.certificate, listens=False)
    session = knock(tls, [meet.endpoint], Deadline(PATIENCE))
    session.link.settimeout(PATIENCE)
    return session


def say(session: Session, data: bytes) -> None:
    session.tls.write(data)
    session.link.sendall(session.tls.data_to_send())


HELLO = b"\1\0\0\0\2\0\1"


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (b"\xff" * 5, "a frame of type 255 has no place here"),
        (HELLO + b"\3\xff\xff\xff\xff", "is 4294967295 bytes long"),
        (HELLO + b"\3\0\0\0\1x", "more bytes than were asked for"),
        (HELLO + HELLO, "has no place here"),
        (b"GET / HTTP/1.1\r\n\r\n", "has no place here"),
    ],
)
def test_whoever_breaks_the_protocol_is_told_off_in_a_sentence(meet: Meeting, stream: bytes, words: str) -> None:
    meet.listen()
    session = rogue(meet)
    say(session, stream)
    assert words in meet.listener.down()
    session.link.close()


def test_endless_bytes_end_where_the_wish_ends(meet: Meeting) -> None:
    meet.listen()
    session = rogue(meet)
    say(session, HELLO)
    assert meet.listener.hear() == Up()
    meet.listener.fetch(1000)
    meet.listener.fetch(2000)
    with contextlib.suppress(OSError):  # we are cut off
        while True:
            say(session, b"\3\0\0\1\0" + bytes(256))
    assert "more bytes than were asked for" in meet.listener.down()
    assert len(meet.listener.got) <= 2000
    session.link.close()


def test_no_thread_is_left(meet: Meeting) -> None:
    ends = meet.both()
    ends[0].link.close()
    for end in ends:
        assert end.down() == ""
    wait_until(lambda: not [each for each in threading.enumerate() if each.name == "securechat-direct"])
