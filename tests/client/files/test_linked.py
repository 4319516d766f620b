"""Files by direct links, engines and server in memory: until when the server is spared them, and what ends that."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.direct.links import Close, Fetch, Have, Listen, Stop, Withhold
from securechat.client.files import linked, transfers
from securechat.client.files.linked import COMING_SECONDS, LINK_WORTH, PACE_SECONDS, SPARED_SECONDS
from securechat.client.files.pace import WINDOW
from securechat.client.files.saving import AWAITED_MILLISECONDS
from securechat.wire import messages as wire
from securechat.wire.blobs import blob_length, whole_part
from tests.client.files.test_transfers import answered, copies, names_in, newest_file, refusal, save, share
from tests.support.cable import PART, Cable
from tests.support.memory_server import Link, MemoryServer
from tests.support.people import Person, settle

DATA = os.urandom(1000) * 600
"""A file of some parts, for which no link is begun."""

LARGE = os.urandom(1000) * 1100
"""A file for which one is."""


@pytest.fixture
def pair(people: Callable[..., list[Person]]) -> list[Person]:
    """alice and bob, who talk, and agree to links."""
    alice, bob = both = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hi", ask=False))
    settle(*both)
    bob.accept("alice")
    settle(*both)
    for person, other in ((alice, "bob"), (bob, "alice")):
        person.say(other, "here")  # a fresh path: what is said then goes out at once
        settle(*both)
        person.do(commands.Prefer("link", "private", person.id_of(other)))
    return both


@pytest.fixture
def cable(pair: list[Person]) -> Cable:
    return Cable(*pair)


@pytest.fixture
def up(pair: list[Person], cable: Cable) -> Cable:
    """There is a link."""
    connect(pair[0], cable)
    return cable


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "sea.jpg"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "saved"
    path.mkdir()
    return path


def connect(person: Person, cable: Cable) -> None:
    (other,) = (each.name for each in cable.people if each is not person)
    person.server.now += 1
    person.do(commands.Link(person.id_of(other)))
    cable.run()
    assert person.engine._registry.linking.up_with(person.id_of(other))


def asked(server: MemoryServer) -> list[wire.FromClient]:
    """What the server is asked about files, from now on."""
    heard: list[wire.FromClient] = []

    def inward(_: Link, message: wire.FromClient) -> list[wire.FromClient]:
        about = isinstance(message, wire.StartBlob | wire.PutBlob | wire.FetchBlob | wire.DropBlob)
        heard.extend([message] if about else [])
        return [message]

    server.inward = inward
    return heard


def uploads(heard: list[wire.FromClient]) -> int:
    return sum(isinstance(each, wire.PutBlob) for each in heard)


def uploaded(heard: list[wire.FromClient]) -> int:
    return sum(len(each.data) for each in heard if isinstance(each, wire.PutBlob))


def advance(server: MemoryServer, seconds: float, *people: Person) -> None:
    server.now += int(seconds * 1000)
    server.advance(server.seconds + seconds)
    for person in people:
        if person.link is not None:
            person.engine.handle_timer()
            person.flush()


# --- the server is spared a file ----------------------------------------------------------------------------------


def test_while_there_is_a_link_the_message_comes_at_once_and_the_server_gets_nothing(
    pair: list[Person], up: Cable, source: Path, folder: Path
) -> None:
    alice, bob = pair
    heard = asked(alice.server)
    sent = share(alice, "bob", source)
    up.run()
    assert answered(alice, sent)
    (row,) = alice.vault.transfers.load()
    assert (row.line, [each.stage for each in alice.engine.transfers]) == (newest_file(alice, "bob"), ["offered"])
    saved = save(bob, "alice", folder)
    up.run()
    assert answered(bob, saved)
    assert (folder / "sea.jpg").read_bytes() == DATA
    assert uploads(heard) == 0
    assert [each.transfer.id for each in alice.of(events.FileSent) if isinstance(each, events.FileSent)] == [row.id]
    assert not [each for each in heard if isinstance(each, wire.StartBlob | wire.FetchBlob)]
    assert copies(alice) == copies(bob) == []
    assert not alice.vault.transfers.load() + bob.vault.transfers.load()
    settle(*pair)
    assert uploads(heard) == 0


@pytest.mark.parametrize("linked", [True, False])
def test_for_a_program_that_ends_the_server_gets_it_first(
    pair: list[Person], cable: Cable, source: Path, *, linked: bool
) -> None:
    alice, bob = pair
    if linked:
        connect(alice, cable)
    heard = asked(alice.server)
    source.write_bytes(LARGE)
    sent = share(alice, "bob", source, upload_first=True)
    cable.run()
    assert answered(alice, sent)
    assert uploaded(heard) >= len(LARGE)
    assert copies(alice) == []
    assert newest_file(bob, "alice")
    assert cable.wanted(Listen) == ["alice"] * linked


def test_in_a_room_the_server_gets_it_as_always(people: Callable[..., list[Person]], source: Path) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.CreateRoom("#club"))
    settle(alice, bob)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(alice, bob)
    heard = asked(alice.server)
    share(alice, "#club", source)
    settle(alice, bob)
    assert uploads(heard)
    assert newest_file(bob, "#club")


@pytest.mark.parametrize("left", [0, 1, PART, 3 * PART + 17, len(DATA)])
def test_a_link_that_is_cut_at_any_byte_goes_on_by_the_server(
    pair: list[Person], up: Cable, source: Path, folder: Path, left: int
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    up.run()
    heard = asked(alice.server)
    up.left = left
    saved = save(bob, "alice", folder)
    if not left:
        up.cut()
    up.run()
    settle(*pair)
    assert answered(bob, saved)
    assert (folder / "sea.jpg").read_bytes() == DATA
    fetched = [each.offset for each in heard if isinstance(each, wire.FetchBlob)]
    assert min(fetched) == whole_part(left, blob_length(len(DATA)))  # the rest, and no more
    assert uploads(heard)
    assert copies(alice) == copies(bob) == []


@pytest.mark.parametrize("moment", ["sealed", "said", "offered", "half given", "had", "half uploaded"])
@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_killed_at_any_step_it_goes_on(
    pair: list[Person], up: Cable, source: Path, folder: Path, moment: str, who: str
) -> None:
    alice, bob = pair
    victim = alice if who == "sender" else bob
    if moment == "sealed":
        alice.working = False
    share(alice, "bob", source)
    alice.flush()
    if moment == "sealed":
        alice.work()
        alice.working = True
    elif moment != "said":
        up.run()
        settle(*pair, until=lambda: any(line.file for line in bob.history("alice", 5)))
    if moment in ("half given", "had"):
        save(bob, "alice", folder)
        up.run(until=lambda: up.carried >= (2 * PART if moment == "half given" else len(DATA)))
    elif moment == "half uploaded":
        up.cut()
        for _ in range(6):
            alice.push()
            alice.pull()
    victim.crash()
    up.cut()
    victim.connect()
    settle(*pair)
    if not (folder / "sea.jpg").exists():
        save(bob, "alice", folder)
        settle(*pair)
    assert (folder / "sea.jpg").read_bytes() == DATA
    assert [line.kind for line in bob.history("alice", 100)].count("file") == 1
    assert alice.texts("bob") == bob.texts("alice")
    assert names_in(folder) == ["sea.jpg"]
    assert copies(alice) == copies(bob) == []
    assert not alice.vault.transfers.load() + bob.vault.transfers.load()


@pytest.mark.parametrize("when", ["before it is saved", "while that is told"])
def test_whoever_has_it_all_when_the_link_dies_says_so_by_the_server(
    pair: list[Person], up: Cable, source: Path, folder: Path, when: str
) -> None:
    """Else it would be uploaded for nobody."""
    alice, bob = pair
    heard = list[wire.FromClient]()

    def inward(_: Link, message: wire.FromClient) -> list[wire.FromClient]:
        heard.append(message)
        return [] if isinstance(message, wire.StartBlob) else [message]  # an upload that would take long

    alice.server.inward = inward
    share(alice, "bob", source)
    up.run()
    saved = save(bob, "alice", folder)
    if when == "before it is saved":
        while up.carried < blob_length(len(DATA)):
            bob.flush()
            assert up.step()
            alice.flush()
        up.cut()
    else:
        up.dies_at = Have
    up.run()
    assert answered(bob, saved)
    assert (folder / "sea.jpg").read_bytes() == DATA
    assert not alice.vault.transfers.load()
    assert copies(alice) == []
    assert uploads(heard) == 0
    assert len(alice.of(events.FileSent)) == 1


def test_what_is_told_twice_of_a_file_that_has_arrived_is_heard_once(
    pair: list[Person], up: Cable, source: Path, folder: Path
) -> None:
    """By the link, and again by the server once that has ended."""
    alice, bob = pair
    share(alice, "bob", source)
    up.run()
    save(bob, "alice", folder)
    up.run()
    heard = list[wire.FromClient]()

    def inward(_: Link, message: wire.FromClient) -> list[wire.FromClient]:
        heard.append(message)
        return [message]

    alice.server.inward = inward
    up.cut()
    up.run()
    assert [type(each) for each in heard] == [wire.Ephemeral]
    assert len(alice.of(events.FileSent)) == 1
    assert not alice.vault.transfers.load()


def test_who_says_to_have_another_file_ends_no_upload(
    pair: list[Person], up: Cable, source: Path, folder: Path
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    up.run()
    where = bob.engine._registry.get(bob.id_of("alice"))
    assert where is not None
    (name,) = copies(alice)
    blob = bytes.fromhex(name.partition("-")[2])
    for said in (b"", os.urandom(16), blob[:-1], blob + b"\0"):
        bob.server.now += 1
        assert bob.engine._registry.linking.tell_had(where, said)
        bob.do(commands.MarkShown(0))
        up.run()
    (row,) = alice.vault.transfers.load()
    assert row.line
    up.cut()
    up.run()
    save(bob, "alice", folder)
    up.run()
    assert (folder / "sea.jpg").read_bytes() == DATA


def test_what_nobody_gets_by_the_link_comes_to_the_server_in_time(
    pair: list[Person], up: Cable, source: Path, folder: Path
) -> None:
    alice, bob = pair
    heard = asked(alice.server)
    share(alice, "bob", source)
    up.run()
    advance(alice.server, SPARED_SECONDS - 1, alice)
    up.run()
    assert uploads(heard) == 0
    advance(alice.server, 1, alice)
    up.run()
    assert uploads(heard) > 1
    assert copies(alice) == []
    assert up.wanted(Withhold) == ["alice"]
    save(bob, "alice", folder)  # the link does not have it any more
    up.run()
    assert (folder / "sea.jpg").read_bytes() == DATA


def test_what_goes_by_the_link_does_not_go_to_the_server_as_well(
    pair: list[Person], up: Cable, source: Path, folder: Path
) -> None:
    """However long it takes, and also if the upload had begun by then."""
    alice, bob = pair
    heard = asked(alice.server)
    share(alice, "bob", source)
    up.run()
    advance(alice.server, SPARED_SECONDS, alice)
    for _ in range(3):
        alice.push()
        alice.pull()
    begun = uploads(heard)
    assert begun
    save(bob, "alice", folder)
    while not names_in(folder) and up.carried < len(DATA):
        bob.flush()
        up.step()
        advance(alice.server, SPARED_SECONDS - 1, alice)
        while alice.push() or alice.pull():
            pass
    up.run()
    assert (folder / "sea.jpg").read_bytes() == DATA
    assert uploads(heard) <= begun + WINDOW
    assert [each for each in heard if isinstance(each, wire.DropBlob)]
    assert copies(alice) == []


def test_a_link_that_comes_up_in_the_middle_of_an_upload_spares_the_rest(
    pair: list[Person], cable: Cable, source: Path, folder: Path
) -> None:
    alice, bob = pair
    heard: list[wire.FromClient] = []

    def inward(_: Link, message: wire.FromClient) -> list[wire.FromClient]:
        heard.append(message)
        return [] if uploads(heard) > 2 and isinstance(message, wire.PutBlob) else [message]

    alice.server.inward = inward
    share(alice, "bob", source)
    cable.run()
    assert uploads(heard)
    assert not alice.history("bob", 1)[0].file
    connect(alice, cable)
    begun = uploads(heard)
    save(bob, "alice", folder)
    cable.run()
    assert (folder / "sea.jpg").read_bytes() == DATA
    assert uploads(heard) == begun
    assert not bob.of(events.TransferDelayed)


# --- what may still come is waited for, and not for ever ----------------------------------------------------------


def test_what_the_server_does_not_have_yet_is_waited_for_in_words(
    pair: list[Person], up: Cable, source: Path, folder: Path
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    up.run()
    alice.crash()
    up.cut()
    saved = save(bob, "alice", folder)
    settle(bob, until=lambda: bool(bob.of(events.TransferDelayed)))
    (told,) = bob.of(events.TransferDelayed)
    assert isinstance(told, events.TransferDelayed)
    assert told.text == (
        "The server does not have it yet: alice's client brings it there, or offers a direct link. It is tried again "
        "by itself."
    )
    alice.connect()
    settle(*pair, until=lambda: bool(names_in(folder)))
    settle(*pair)
    assert answered(bob, saved)
    assert (folder / "sea.jpg").read_bytes() == DATA


def test_what_was_damaged_by_a_link_is_met_once_however_long_the_server_does_not_have_it(
    pair: list[Person], up: Cable, source: Path, folder: Path
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    up.run()
    other = source.with_name("other")
    for blob, order in up._shared["alice"].items():
        given = bytearray(order.file.read_bytes())
        given[0] ^= 1
        other.write_bytes(given)
        up._shared["alice"][blob] = replace(order, file=other)
    heard = asked(alice.server)
    saved = save(bob, "alice", folder)
    up.run()
    assert up.carried >= len(DATA)
    settle(bob, until=lambda: len(heard) > 3 * transfers.MAX_RESTARTS)  # alice stands still, and brings nothing
    assert copies(bob) == names_in(folder) == []
    assert not bob.of(events.TransferEnded)
    settle(*pair, until=lambda: bool(names_in(folder)))
    settle(*pair)
    assert answered(bob, saved)
    assert (folder / "sea.jpg").read_bytes() == DATA


@pytest.mark.parametrize("lie", ["gone", "not-now"])
def test_nobody_has_us_ask_for_ever(
    pair: list[Person], up: Cable, source: Path, folder: Path, lie: str
) -> None:
    """Neither a sender who never brings a file nor a server that never gives one; nor do restarts begin it anew."""
    alice, bob = pair
    share(alice, "bob", source)
    up.run()
    alice.cut()
    up.cut()
    asks = 0

    def outward(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        nonlocal asks
        if link is bob.link and isinstance(message, wire.Refused) and message.code == "gone":
            asks += 1
            message.code = lie  # type: ignore[assignment]  # one of the codes
        return [message]

    alice.server.outward = outward
    save(bob, "alice", folder)
    hours = AWAITED_MILLISECONDS // 3_600_000
    for hour in range(hours + 1):
        assert bool(bob.vault.transfers.load()) == (hour < hours)
        bob.crash()
        bob.connect()
        up.run()
        advance(alice.server, 3600, bob)
        up.run()
    (ended,) = bob.of(events.TransferEnded)
    assert isinstance(ended, events.TransferEnded)
    assert "it has not come to the server in three days" in ended.text
    assert asks < 20 * hours


def test_what_has_come_past_the_server_is_not_waited_for_again(
    pair: list[Person], up: Cable, source: Path, folder: Path
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    up.run()
    save(bob, "alice", folder)
    up.run()
    with (folder / "sea.jpg").open("r+b") as file:
        file.write(b"another one")
    saved = save(bob, "alice", folder)
    up.run()
    assert "does not have it any more" in refusal(bob, saved)
    own = save(alice, "bob", folder)
    up.run()
    assert "was sent straight to the other one" in refusal(alice, own)


# --- what ends it -------------------------------------------------------------------------------------------------


def test_a_file_of_a_message_that_is_deleted_is_not_given_any_more(
    pair: list[Person], up: Cable, source: Path, folder: Path
) -> None:
    """Not even the rest of it."""
    alice, bob = pair
    share(alice, "bob", source)
    up.run()
    saved = save(bob, "alice", folder)
    up.run(until=lambda: up.carried >= PART)
    carried = up.carried
    alice.do(commands.Delete(newest_file(alice, "bob")))
    while alice.push() or alice.pull():
        pass
    up.step()
    assert up.wanted(Withhold) == ["alice"]
    up.run()
    settle(*pair)
    assert up.carried <= carried + PART
    assert "the message with it is gone" in refusal(bob, saved)
    assert names_in(folder) == copies(alice) == copies(bob) == []
    assert not alice.vault.transfers.load()


def test_whoever_cancels_a_fetch_keeps_the_link(
    pair: list[Person], up: Cable, source: Path, folder: Path
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    up.run()
    save(bob, "alice", folder)
    up.run(until=lambda: up.carried >= PART)
    (transfer,) = bob.engine.transfers
    bob.do(commands.CancelFile(transfer.id))
    bob.flush()
    assert copies(bob)  # it may still be written to
    up.run()
    assert copies(bob) == []
    assert (up.wanted(Stop), up.wanted(Close)) == (["bob"], [])
    again = save(bob, "alice", folder)
    up.run()
    assert answered(bob, again)
    assert (folder / "sea.jpg").read_bytes() == DATA


def test_whoever_cancels_what_is_said_already_gives_it_no_more(
    pair: list[Person], up: Cable, source: Path, folder: Path
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    up.run()
    (transfer,) = alice.engine.transfers
    alice.do(commands.CancelFile(transfer.id))
    save(bob, "alice", folder)
    up.run()
    assert copies(alice) == names_in(folder) == []
    (ended,) = [each for each in alice.happened if isinstance(each, events.TransferEnded)]
    assert "you have cancelled it" in ended.text


@pytest.mark.parametrize("pace", ["slow", "fast"])
@pytest.mark.parametrize("has", [True, False])
def test_what_comes_slowly_comes_from_the_server_if_that_has_it(
    pair: list[Person], up: Cable, source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, pace: str, *, has: bool
) -> None:
    alice, bob = pair
    monkeypatch.setattr(linked, "LEAST_DIRECTLY", 2 * PART if pace == "slow" else 1)
    forget = transfers.Transfers.forget
    share(alice, "bob", source)
    up.run()
    if has:  # a sender who gives it by the link as well
        monkeypatch.setattr(transfers.Transfers, "forget", lambda *_: None)
        advance(alice.server, SPARED_SECONDS, alice)
        up.run()
        monkeypatch.setattr(transfers.Transfers, "forget", forget)
    heard = asked(alice.server)
    save(bob, "alice", folder)
    bob.flush()
    for _ in range(4):
        up.step()
        advance(alice.server, PACE_SECONDS, bob)
        while bob.push() or bob.pull():
            pass
    up.run()
    fetched = [each.offset + each.length for each in heard if isinstance(each, wire.FetchBlob)]
    if pace == "fast":
        assert fetched == []
    elif not has:
        assert len(fetched) >= 3
        assert up.wanted(Stop) == []
    else:
        assert up.wanted(Stop) == ["bob"]
        assert fetched[-1] == blob_length(len(DATA))
    assert (folder / "sea.jpg").read_bytes() == DATA


# --- a link that is made for a file -------------------------------------------------------------------------------


def links_told(person: Person) -> list[str]:
    return [each.state for each in person.happened if isinstance(each, events.LinkChanged)]


def test_two_who_have_agreed_get_a_link_for_a_file_and_do_not_notice(
    pair: list[Person], cable: Cable, source: Path, folder: Path
) -> None:
    alice, bob = pair
    heard = asked(alice.server)
    source.write_bytes(LARGE)
    share(alice, "bob", source)
    cable.run()
    save(bob, "alice", folder)
    cable.run()
    assert (folder / "sea.jpg").read_bytes() == LARGE
    assert (uploads(heard), cable.wanted(Fetch)) == (0, ["bob"])
    assert links_told(alice) == links_told(bob) == []
    alice.do(commands.Link(alice.id_of("bob")))
    assert links_told(alice) == ["up"]


@pytest.mark.parametrize("why", ["small", "we have not agreed", "they have not agreed", "nobody there"])
def test_where_no_link_comes_up_the_server_gets_it(
    pair: list[Person], cable: Cable, source: Path, folder: Path, why: str
) -> None:
    alice, bob = pair
    heard = asked(alice.server)
    source.write_bytes(DATA if why == "small" else LARGE)
    assert len(DATA) < LINK_WORTH < len(LARGE)
    if why == "we have not agreed":
        alice.do(commands.Prefer("link", "ask", alice.id_of("bob")))
    elif why == "they have not agreed":
        bob.do(commands.Prefer("link", "ask", bob.id_of("alice")))
    elif why == "nobody there":
        cable.plugged = False
    share(alice, "bob", source)
    cable.run()
    offers = why in ("they have not agreed", "nobody there")
    assert cable.wanted(Listen) == ["alice"] * offers
    assert (uploads(heard) == 0) == offers
    advance(alice.server, COMING_SECONDS, alice)
    cable.run()
    assert uploaded(heard) >= source.stat().st_size
    save(bob, "alice", folder)
    cable.run()
    assert (folder / "sea.jpg").read_bytes() == source.read_bytes()
    assert links_told(alice) == links_told(bob) == []


def test_offers_for_files_that_lead_nowhere_come_ever_less_often(
    pair: list[Person], cable: Cable, source: Path
) -> None:
    alice, bob = pair
    source.write_bytes(LARGE)
    bob.cut()
    for count, wait in ((1, 0.0), (1, 0.0), (2, 61.0), (2, 31.0), (3, 61.0)):
        advance(alice.server, wait, alice)
        share(alice, "bob", source)
        cable.run()
        cable.cut("nobody came in time")
        assert len(cable.wanted(Listen)) == count
