"""Where the stories begin: bob, alice, and who helps the server."""

from typing import Any, Final

from securechat.client.doors.facts import Change, Leaf
from tests.client.doors.moves import LONG, Scenario
from tests.client.doors.person import Conv, Pins, State
from tests.client.doors.world import ALICE, BOB, CAROL, DAVE, FALSE_ALICE, START, Branch, after, founded, leaf

OLD_ALICE: Final = leaf("alice", "A0")  # the key that alice had before she lost her device
WITHOUT_BOB: Final = founded(b"R", "invite", "#team", ALICE, CAROL, DAVE)._replace(inviters=frozenset((CAROL.key,)))
ROOM: Final = WITHOUT_BOB._replace(members=WITHOUT_BOB.members | {BOB})  # the Welcome that let bob in is used up
LEFT_BY_DAVE: Final = ROOM._replace(gone=frozenset((DAVE,)))
OPEN: Final = founded(b"L", "open", "#lobby", CAROL, ALICE, BOB)
DIRECT: Final = founded(b"D", "direct", "", ALICE, BOB)
DIRECT_FALSE: Final = founded(b"D'", "direct", "", FALSE_ALICE, BOB)
DIRECT_OLD: Final = founded(b"D0", "direct", "", OLD_ALICE, BOB)

NEW: Final = Conv("invite", "")


def accepted(who: Leaf) -> Pins:
    """Bob has accepted one key."""
    return Pins(accepted=frozenset((who.key,)))


NOBODY: Final = Pins()
KNOWN: Final = accepted(ALICE)


def story(first: Branch, *commits: tuple[Leaf, Change], pins: Pins = KNOWN, **more: Any) -> State:
    """Bob is in the first epoch, and these commits have come after it; `more` says what else holds for him."""
    world: tuple[Branch, ...] = (first,)
    for author, change in commits:
        world = (*world, after(world, len(world) - 1, author, change))
    conv = Conv(first.kind, first.name or "alice", first.group, "live", 0, 0, named=first.members)
    return State(world, (len(world) - 1,), (conv._replace(**more),), pins)


def outside(first: Branch, conv: Conv, pins: Pins = KNOWN) -> State:
    """There is a conversation, and bob is not in it."""
    return State((first,), (0,), (conv,), pins)


def long_away(first: Branch, *commits: tuple[Leaf, Change]) -> State:
    """Bob comes back after 200 days: the handshakes are gone."""
    return story(first, *commits, standing="gone")._replace(now=START + LONG)


def unreadable(first: Branch, author: Leaf) -> State:
    """The next commit cannot be processed."""
    state = story(first, (author, "path"), standing="stopped")
    return state._replace(world=(first, state.world[1]._replace(readable=False)))


def opening(fetched: Leaf) -> Conv:
    """Bob is opening a conversation with alice, with a key that the server gave him."""
    return Conv("direct", "alice", b"D0", "opening", fetched=fetched.key)


def both(one: State, other: State) -> State:
    """Two conversations."""
    moved = len(one.world)
    world = (*one.world, *(branch._replace(parent=-1) for branch in other.world))
    convs = (*one.convs, *(conv._replace(at=moved, root=moved) for conv in other.convs))
    return State(world, (*one.heads, *(head + moved for head in other.heads)), convs, one.pins)


def only(*who: Leaf) -> frozenset[Leaf]:
    """Who helps the server, or whose key it has."""
    return frozenset(who)


SCENARIOS: Final = (
    # the server and its own keys
    Scenario("a room", story(ROOM)),
    Scenario("bob is not in the room yet", outside(WITHOUT_BOB, NEW)),
    Scenario("bob knows nobody", outside(WITHOUT_BOB, NEW, NOBODY)),
    Scenario("bob has a line of alice's", outside(WITHOUT_BOB, NEW._replace(line=ALICE.key)), questions=0),
    Scenario("bob was invited", story(ROOM, standing="invited")),
    Scenario("bob has left the room", story(ROOM, standing="left")),
    Scenario("bob was away", story(ROOM, (ALICE, "path"), (ALICE, "path"), standing="away"), questions=0),
    Scenario("bob was away for 200 days", long_away(ROOM, (ALICE, "path")), questions=0),
    Scenario("alice has not committed for 200 days", long_away(ROOM, (CAROL, "path"))),
    Scenario("the server has lost handshakes", story(ROOM, (ALICE, "path"), standing="gone")),
    Scenario("a vault of yesterday", story(ROOM, (DAVE, "path"), standing="old-copy"), questions=0),
    Scenario("a vault from before a commit", story(ROOM, (BOB, "path"), standing="old-copy-commit"), questions=0),
    Scenario("a commit cannot be processed", unreadable(ROOM, DAVE), questions=0),
    Scenario("a message shows another history", story(ROOM, (DAVE, "path"), standing="forked"), questions=0),
    Scenario("the server was restored", story(ROOM, standing="ahead"), questions=0),
    Scenario("a direct conversation", story(DIRECT)),
    Scenario("bob has no conversation with alice", outside(DIRECT, Conv("direct", "alice"), NOBODY)),
    Scenario("both open at once", outside(DIRECT, opening(ALICE)), questions=0),
    Scenario("bob opens with a false key", outside(DIRECT, opening(FALSE_ALICE), accepted(FALSE_ALICE))),
    Scenario("alice has a new key", story(DIRECT_OLD, pins=accepted(OLD_ALICE))._replace(
        world=(DIRECT_OLD, DIRECT), heads=(1,)
    )),
    Scenario("bob has left the direct conversation", story(DIRECT, standing="left"), questions=0),
    Scenario("the server is between them", story(DIRECT_FALSE, pins=accepted(FALSE_ALICE))._replace(heads=(-1,))),
    Scenario("an open room", story(OPEN), questions=0),
    Scenario("bob enters an open room", outside(OPEN, Conv("open", "#lobby")), questions=0),
    Scenario("200 days away from an open room", long_away(OPEN, (CAROL, "path")), questions=0),
    Scenario("an open room's commit cannot be processed", unreadable(OPEN, CAROL), questions=0),
    Scenario("a room and a direct conversation", both(story(ROOM), story(DIRECT))),
    # with a member's help
    Scenario("with dave, a member", story(ROOM), only(DAVE)),
    Scenario("with dave, who has left", story(LEFT_BY_DAVE), only(DAVE)),
    Scenario("with dave, bob was away for 200 days", long_away(ROOM, (ALICE, "path")), only(DAVE)),
    Scenario("with carol, who may invite", story(ROOM), only(CAROL)),
    Scenario("with carol, bob has left", story(ROOM, standing="left"), only(CAROL)),
    Scenario("with carol, bob was away for 200 days", long_away(ROOM, (CAROL, "path")), only(CAROL)),
    # with a signature key, and no secrets
    Scenario("with the key that dave had long ago", story(ROOM)._replace(expired=only(DAVE)), stolen=only(DAVE)),
    Scenario("with dave's key, bob is not in the room yet", outside(WITHOUT_BOB, NEW), stolen=only(DAVE)),
    Scenario("with dave's key, bob was away for 200 days", long_away(ROOM, (ALICE, "path")), stolen=only(DAVE)),
)  # fmt: skip
"""Every invariant holds in these: as far as is explored, but for what needs a `/repair` past a stolen key."""

OWNER_STOLEN: Final = Scenario(
    "with alice's signature key, bob was away for 200 days", long_away(ROOM, (ALICE, "path")), stolen=only(ALICE)
)
MEMBER_STOLEN: Final = Scenario("with dave's signature key", story(ROOM), stolen=only(DAVE))
REMOVED: Final = Scenario("carol was removed, and bob is not shown that", story(ROOM), only(CAROL))
"""What stays possible; each has its trace in the test."""
