"""What a client does with a lie in each field of each message that a server can send: docs/attacks.md.

Every lie is told once, to a real client that is in the middle of something honest. Whatever it is: the client lives on,
also after a restart; all conversations go on, or have stopped where the table says so; no state is shared with anybody
new, and none was given up; and the user was told what the table says, no more and no less.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest
from msgspec import inspect

from securechat.client import commands
from securechat.client.conversations import phases
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.protocol import ClientProtocol, Ended, State
from tests.adversary.lies import Elsewhere, change, fields_of, lies_about
from tests.adversary.table_of_lies import TABLE
from tests.adversary.worlds import PEERS, WORRIES, Reader, World, put_back
from tests.client.test_following import DAY, forget
from tests.support.cheap import make_clients_cheap, make_server_cheap
from tests.support.memory_server import Link, refuse
from tests.support.people import Person, settle
from tests.support.recovering import Recovering, file_of

Act = Callable[[World], None]
Where = Callable[[World, Any], bool]
ANY: Where = lambda _world, _message: True  # noqa: E731  a default


# --- what the server lies about --------------------------------------------------------------------------------------


def connect(world: World) -> None:
    world.alice.cut()
    world.bob.say("#lobby", "while alice is away")
    world.run()
    world.alice.connect()


@dataclass(frozen=True)
class Scene:
    """Something honest, in the course of which the server sends a message to alice."""

    message: type[m.Message]
    act: Act
    where: Where = ANY
    fields: list[str] | None = None  # which are lied about, if not all of them
    away: bool = False  # alice is not connected before
    settings: dict[str, object] = field(default_factory=dict)


def of(name: str) -> Callable[[World, Any], bool]:
    """About the conversation of this name."""
    return lambda world, message: message.conversation == world.alice.id_of(name)


def do(make: Callable[[World], commands.Command]) -> Act:
    return lambda world: void(world.alice.do(make(world)))


def void(_result: object) -> None: ...


def say(name: str, who: str = "alice") -> Act:
    return lambda world: void(getattr(world, who).say(name, "hello"))


def send(make: Callable[[World], m.FromServer]) -> Act:
    """The server says something of its own accord."""
    return lambda world: world.alice.link.send(make(world))  # type: ignore[union-attr]  # connected


def refusing(kind: type[m.Request], act: Act, fields: list[str] | None = None, where: Where = ANY) -> Scene:
    """The server refuses one request of alice, as it may: she has to try again later."""

    def begin(world: World) -> None:
        refused: list[m.Message] = []

        def inward(link: Link, message: m.FromClient) -> list[m.FromClient]:
            if link is not world.alice.link or not isinstance(message, kind) or refused or not where(world, message):
                return [message]
            refused.append(message)
            refuse(link, message, "slow-down", "Not so fast.")
            return []

        world.server.inward = inward
        act(world)

    return Scene(m.Refused, begin, fields=fields)


def away_for_long(world: World) -> None:
    """Alice was away for 40 days, and the handshakes of #club are gone."""
    room = world.bob.id_of("#club")
    for topic in ("tea", "coffee"):
        world.bob.do(commands.SetTopic(room, topic))
        world.run()
    world.server.now += 40 * DAY
    lies = world.server.outward
    forget(world.server, room, world.server.head(room).seq)
    lost = world.server.outward
    world.server.outward = lambda link, message: [lie for each in lost(link, message) for lie in lies(link, each)]
    world.bob.say("#club", "nobody reads what was before this")
    world.run()
    world.alice.connect()


def newcomer(world: World) -> None:
    """Erin makes an account."""
    world.victim = Reader(world.server, world.folder, "erin", register=True)
    world.everybody.append(world.victim)
    world.victim.connect()


def change_password(world: World) -> None:
    old, world.alice.password = world.alice.password, "glacier tulip harvest"
    world.alice.do(commands.ChangePassword(old, world.alice.password))


def after_a_fortnight(world: World) -> None:
    """Half of the token's life is over."""
    world.server.now += 16 * DAY
    connect(world)


def renewed(world: World) -> None:
    """Erin has started anew with another identity key, and comes back with the first."""
    newcomer(world)
    world.run()
    first = world.victim
    first.cut()
    second = Reader(world.server, world.folder / "elsewhere", "erin", new_identity=True)
    second.connect()
    settle(second)
    second.stop()
    first.vault.close()
    first.settings = replace(first.settings, new_identity=True)
    first.start()
    first.connect()


class RecoveringReader(Recovering, Reader):
    """Somebody with a recovery file, over the protocol that a live client uses."""


def on_a_new_computer(world: World) -> None:
    """Erin's computer is gone, and she goes on with a recovery file."""
    newcomer(world)
    world.run()
    lost = world.victim
    contents = file_of(lost)
    lost.stop()
    folder = world.folder / "new computer"
    folder.mkdir()
    world.victim = world.everybody[-1] = RecoveringReader(world.server, folder, contents)
    world.victim.connect()


def seated(world: World) -> None:
    """Alice waits for a seat, which dave leaves."""
    world.alice.connect()
    world.run()
    world.dave.cut()


def share(world: World, who: str = "alice") -> None:
    """Somebody sends a file of some parts."""
    path = world.folder / "sea.jpg"
    path.write_bytes(bytes(150_000))
    person = getattr(world, who)
    person.do(commands.SendFile(person.id_of("#lobby"), str(path)))


def save(world: World) -> None:
    """Alice saves a file of bob's."""
    share(world, "bob")
    world.run()
    folder = world.folder / "saved"
    folder.mkdir()
    (line,) = [each.local_id for each in world.alice.history("#lobby", 10) if each.file is not None]
    world.alice.do(commands.SaveFile(line, str(folder)))


OPEN: Final = do(lambda _: commands.OpenDirect("dave", "hello", ask=False))
JOIN: Final = do(lambda _: commands.JoinRoom("#hall"))

SCENES: Final[dict[str, Scene]] = {
    "Hello": Scene(m.Hello, connect),
    "LoggedIn": Scene(m.LoggedIn, connect),
    "Subscribed": Scene(m.Subscribed, connect, of("#lobby")),
    "KeyPackages": Scene(m.KeyPackages, OPEN),
    "JoinOffer": Scene(m.JoinOffer, JOIN),
    "Accepted: a message": Scene(m.Accepted, say("#lobby")),
    "Accepted: a join": Scene(m.Accepted, JOIN),
    "Accepted: an opening": Scene(m.Accepted, OPEN),
    "Rooms": Scene(m.Rooms, do(lambda _: commands.ListRooms())),
    "MemberList": Scene(m.MemberList, do(lambda world: commands.ListMembers(world.alice.id_of("#lobby")))),
    "Entry: a message": Scene(m.Entry, say("#lobby", "bob"), of("#lobby")),
    "Entry: a commit": Scene(
        m.Entry, lambda world: void(world.bob.do(commands.SetTopic(world.bob.id_of("#club"), "tea"))), of("#club")
    ),
    "Entry: a departure": Scene(
        m.Entry, lambda world: void(world.carol.do(commands.Leave(world.carol.id_of("#lobby")))), of("#lobby")
    ),
    "Welcomed": Scene(
        m.Welcomed, lambda world: void(world.dave.do(commands.OpenDirect("alice", "hello", ask=True)))
    ),
    "Truncated": Scene(
        m.Truncated, send(lambda world: m.Truncated(
            world.alice.id_of("#lobby"), world.server.head(world.alice.id_of("#lobby")).seq + 2, bytes(32)
        )), of("#lobby")
    ),
    "Presence": Scene(m.Presence, lambda world: world.dave.cut() or world.bob.cut(), of("#lobby")),  # type: ignore[func-returns-value]  # both
    "Ephemeral": Scene(m.Ephemeral, lambda world: void(world.bob.do(commands.Type(world.bob.id_of("#lobby"))))),
    "DirectoryNews": Scene(m.DirectoryNews, send(
        lambda world: m.DirectoryNews(world.alice.id_of("bob"), [m.Gone(world.bob.engine._context.device.id, b"")])
    )),
    "Notice": Scene(m.Notice, send(lambda _: m.Notice("The server goes down at noon."))),
    "Refused: a message": refusing(m.Submit, say("#lobby")),
    "Refused: key packages": refusing(m.FetchKeyPackages, OPEN, ["", "code"]),
    "Refused: opening": refusing(m.OpenDirect, OPEN, ["", "code"]),
    "Refused: a room": refusing(m.Join, JOIN, ["", "code"]),
    "Refused: a commit": refusing(m.Commit, JOIN, ["", "code"]),
    "Refused: reading": refusing(m.Subscribe, connect, ["", "code"], of("#lobby")),
    "Refused: a login": refusing(m.Resume, connect, ["", "code"]),
    "Checkpoints": Scene(m.Checkpoints, away_for_long, away=True),
    "Registered": Scene(m.Registered, newcomer),
    "Done": Scene(m.Done, do(lambda _: commands.CreateRoom("#new"))),
    "PasswordChanged": Scene(m.PasswordChanged, change_password),
    "SessionList": Scene(m.SessionList, do(lambda _: commands.ListSessions())),
    "TokenExtended": Scene(m.TokenExtended, after_a_fortnight),
    "Published": Scene(m.Published, newcomer),
    "Statements": Scene(m.Statements, renewed, lambda _, message: bool(message.links)),
    "StoredKeepsake": Scene(m.StoredKeepsake, on_a_new_computer),
    "BlobState": Scene(m.BlobState, share),
    "BlobBytes": Scene(m.BlobBytes, save),
    "Stock": Scene(m.Stock, connect),
    "Seat": Scene(m.Seat, seated, away=True, settings={"max_clients": 3}),
    "SecretReplaced": Scene(m.SecretReplaced, send(lambda _: m.SecretReplaced(0))),
    "Ping": Scene(m.Ping, send(lambda _: m.Ping())),
    "Pong": Scene(m.Pong, send(lambda _: m.Pong())),
    "Closing": Scene(m.Closing, send(lambda _: m.Closing("shutdown", "Back soon."))),
}  # fmt: skip


# --- how it is told, and what comes of it ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        make_server_cheap(patch.setitem)
        make_clients_cheap(patch.setitem, patch.setattr)
        world = World(folder)
        world.make()
        world.stop()
    return folder


def outcome(made: Path, folder: Path, scene: Scene, name: str, lie: str) -> str:
    """Tell one lie, or none, and say what alice was told and what has become of what she is in."""
    with put_back(made, folder, **scene.settings) as world:
        world.begin(*(world.everybody[1:] if scene.away else world.everybody))
        alice = world.alice
        elsewhere = elsewhere_in(world)
        makes = dict(
            lies_about(next(each for each in fields_of(scene.message) if each.encode_name == name)) if name else {}
        )
        told: list[m.FromServer] = []
        lied: list[m.FromServer] = []

        def tell(message: m.FromServer) -> list[m.FromServer]:
            if type(message) is not scene.message or told or not scene.where(world, message):
                return [message]
            told.append(message)
            if not name:
                return [message]
            lied.append(change(message, **{name: makes[lie](getattr(message, name), elsewhere)}))
            return [lied[-1]]

        before, seen = states(alice), world.authenticators()
        alice.happened.clear()
        world.lie(tell)
        scene.act(world)
        world.run()
        assert told, "nobody lied"
        if lied == told:
            return "the truth"
        worries = worries_of(world.victim)
        for state, names in world.authenticators().items():
            seen.setdefault(state, set()).update(names - {"alice"})
        world.honest()
        alice.happened.clear()
        alice.crash()
        for person in world.everybody:
            if person.link is None:
                person.connect()
        world.run()
        found = [f"{name} is {state}" for name, state in states(alice).items() if before.get(name) != state]
        found += went_on(world)
        if world.victim is not alice:
            world.victim.happened.clear()
            world.victim.do(commands.OpenDirect("alice", "hello", ask=False))
            world.run()
            found += [] if alice.state_of("erin") == "request" else ["erin is mute"]
        later = [f"later {each}" for each in worries_of(alice) if each not in worries]
        assert_nobody_new(world, seen)
        return "; ".join(sorted(worries) + sorted(later) + sorted(found)) or "nothing"


def elsewhere_in(world: World) -> Elsewhere:
    alice, carol = world.alice, world.carol
    other = alice.id_of("carol")
    entry = world.server.entries(other)[-1]
    return Elsewhere(
        other, alice.engine._context.device.id, world.bob.engine._context.device.id, carol.engine._context.device.id,
        "carol", entry.payload,
        m.Departure(entry.payload[: limits.MAX_PROPOSAL], bytes(limits.EPOCH_STATE_LENGTH)),
    )  # fmt: skip


def worries_of(person: Person) -> set[str]:
    """What somebody was told that is not as it should be."""
    return {
        f"{type(event).__name__} {getattr(event, about)}" if (about := WORRIES[type(event)]) else type(event).__name__
        for event in person.happened
        if type(event) in WORRIES
    }


def states(person: Person) -> dict[str, str]:
    return {each.name: each.state for each in person.engine.snapshot.conversations.values()}


def went_on(world: World) -> list[str]:
    """What of alice's is not read both ways any more, though it has not stopped."""
    alice, mute = world.alice, []
    peers: dict[str, tuple[Any, str]] = {  # of each conversation: somebody in it, and what they call it
        name: (getattr(world, who), "alice" if name == who else name)
        for name, who in PEERS.items()
        if alice.state_of(name) == "open"
    }
    for peer, theirs in peers.values():
        peer.say(theirs, "after")
    world.run()
    going = {name: each for name, each in peers.items() if alice.state_of(name) == "open"}
    mute += [f"{name} is stopped at the next message" for name in peers.keys() - going.keys()]
    for name in going:
        alice.say(name, "and back")
    world.run()
    for name, (peer, theirs) in going.items():
        if f"{peer.name}: after" not in alice.texts(name) or "alice: and back" not in peer.texts(theirs):
            mute.append(f"{name} is mute")
    world.bob.do(commands.CreateRoom("#den"))
    world.run()
    world.bob.do(commands.Invite(world.bob.id_of("#den"), "alice"))
    world.run()
    if [each.name for each in alice.engine.snapshot.invitations.values()] != ["#den"]:
        mute.append("no invitation comes")
    return mute


def assert_nobody_new(world: World, seen: dict[tuple[bytes, int, bytes], set[str]]) -> None:
    """Every state that alice is in was, or is, that of the honest people who are in it."""
    now = world.authenticators()
    for each in world.alice.engine._registry:
        if each.row.phase not in phases.INSIDE:
            continue
        state = (each.id, each.group.epoch, each.group.epoch_authenticator)
        others = {person.account for person in each.people.values()} - {"alice"}
        assert others <= (now[state] | seen.get(state, set())), f"alice is alone in {each.row.name}"


def lies(scene: str, name: str) -> list[str]:
    """The names of the lies about one field; of no field, that of the truth."""
    if not name:
        return [""]
    return list(lies_about(next(each for each in fields_of(SCENES[scene].message) if each.encode_name == name)))


def fields(scene: str) -> list[str]:
    """The fields that are lied about; the first one stands for none."""
    return SCENES[scene].fields or ["", *(each.encode_name for each in fields_of(SCENES[scene].message))]


ROWS: Final = [(scene, name) for scene in SCENES for name in fields(scene)]


@pytest.mark.parametrize(("scene", "name"), ROWS, ids=lambda each: each or "the truth")
def test_a_lie_is_met_as_the_table_says(made: Path, tmp_path: Path, cheap_argon2: None, scene: str, name: str) -> None:
    del cheap_argon2
    found: dict[str, list[str]] = {}
    for number, lie in enumerate(lies(scene, name)):
        found.setdefault(outcome(made, tmp_path / str(number), SCENES[scene], name, lie), []).append(lie)
    row = TABLE[scene][name]
    assert found == ({row: lies(scene, name)} if isinstance(row, str) else row)


def test_the_table_has_a_row_for_each_field_of_each_message_and_no_other() -> None:
    assert {scene.message for scene in SCENES.values()} == set(get_args(m.FromServer))
    assert {(scene, name) for scene, rows in TABLE.items() for name in rows} == set(ROWS)


# --- what is not even read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", get_args(m.FromServer), ids=lambda kind: kind.__name__)
def test_what_is_beyond_its_bounds_ends_the_connection_before_anybody_reads_it(kind: type[m.Message]) -> None:
    good = [kind.__name__, *(within(each.type) for each in fields_of(kind))]
    msgspec.msgpack.decode(msgspec.msgpack.encode(good), type=kind)
    bad: list[list[object]] = [[*good, None]]
    bad += [good[:place] for place, each in enumerate(fields_of(kind), 1) if each.required]
    for place, each in enumerate(fields_of(kind), 1):
        bad += [[*good[:place], value, *good[place + 1 :]] for value in beyond(each.type)]
    for array in bad:
        protocol = ClientProtocol("test", 0.0)
        protocol._enter(State.READY)
        protocol._frames.limit = limits.MAX_FRAME
        body = msgspec.msgpack.encode(array)
        (ended,) = protocol.receive_data(struct.pack(">I", len(body)) + body, 0.0)
        assert isinstance(ended, Ended)
        assert ended.error is not None, [str(each)[:80] for each in array]
        assert "in state" not in str(ended.error), "it was read"
        assert "answers no open request" not in str(ended.error), "it was read"


def test_every_number_and_list_of_the_server_has_an_end_that_can_be_stored_and_shown() -> None:
    """SQLite holds 2^63 - 1, and JSON readers 2^53 - 1 (`wire.limits.MAX_COUNT`)."""
    for kind in get_args(m.FromServer):
        for each in fields_of(kind):
            assert_bounded(each.type, f"{kind.__name__}.{each.encode_name}")


def assert_bounded(kind: inspect.Type, where: str) -> None:
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:
            assert_bounded(one, where)
    elif isinstance(kind, inspect.IntType):
        assert kind.ge is not None, where
        assert kind.le is not None, where
        assert 0 <= kind.ge < kind.le <= limits.MAX_COUNT, where
    elif isinstance(kind, inspect.BytesType | inspect.StrType | inspect.ListType):
        assert kind.max_length is not None, where
        assert kind.max_length <= limits.MAX_FRAME, where
        if isinstance(kind, inspect.ListType):
            assert_bounded(kind.item_type, where)
    elif isinstance(kind, inspect.StructType):
        for each in kind.fields:
            assert_bounded(each.type, f"{where}.{each.encode_name}")
    else:
        assert isinstance(kind, inspect.LiteralType | inspect.BoolType | inspect.NoneType), where


def within(kind: inspect.Type) -> object:
    """A value that can be read."""
    if isinstance(kind, inspect.UnionType):
        return within(kind.types[0])
    if isinstance(kind, inspect.IntType):
        return kind.ge
    if isinstance(kind, inspect.BytesType):
        return bytes(kind.min_length or 0)
    if isinstance(kind, inspect.StrType):
        return "#" + "x" * ((kind.min_length or 1) - 1)
    if isinstance(kind, inspect.LiteralType):
        return kind.values[0]
    if isinstance(kind, inspect.BoolType):
        return True
    if isinstance(kind, inspect.StructType):
        return [within(each.type) for each in kind.fields]
    assert isinstance(kind, inspect.ListType)
    return [within(kind.item_type)] * (kind.min_length or 0)


def beyond(kind: inspect.Type) -> list[object]:
    """Values just outside what can be read, and of another type."""
    if isinstance(kind, inspect.UnionType):
        return [value for value in beyond(kind.types[0]) if value is not None]
    if isinstance(kind, inspect.IntType):
        assert kind.ge is not None
        assert kind.le is not None
        return [kind.ge - 1, kind.le + 1, 1 << 63, 1.5, "1", None]
    if isinstance(kind, inspect.BytesType):
        shorter = [bytes(kind.min_length - 1)] if kind.min_length else []
        longer = [bytes((kind.max_length or 0) + 1)] if (kind.max_length or 0) < limits.MAX_FRAME // 2 else []
        return [*shorter, *longer, "text", None]
    if isinstance(kind, inspect.StrType):
        return ["#" + "x" * (kind.max_length or 0), b"bytes", 1, None, *([""] if kind.min_length else [])]
    if isinstance(kind, inspect.LiteralType):
        return ["other", 0, None]
    if isinstance(kind, inspect.BoolType):
        return [1, "yes", None]
    if isinstance(kind, inspect.StructType):
        good = [within(each.type) for each in kind.fields]
        places = enumerate(kind.fields)
        return [[*good, None], *([*good[:n], bad, *good[n + 1 :]] for n, each in places for bad in beyond(each.type))]
    assert isinstance(kind, inspect.ListType)
    too_many = [within(kind.item_type)] * ((kind.max_length or 0) + 1)
    return [too_many, None, *([bad] for bad in beyond(kind.item_type))]
