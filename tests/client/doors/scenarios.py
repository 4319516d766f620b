"""Where the stories begin: bob, alice, and who helps the server."""

from typing import Any, Final

from securechat.client.doors.facts import Change, Leaf
from tests.client.doors.moves import LONG, Scenario
from tests.client.doors.person import Certs, Conv, Pins, Said, State, Statement
from tests.client.doors.world import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DAY,
    FALSE_ALICE,
    NEW_ALICE,
    START,
    Branch,
    after,
    changed,
    founded,
    leaf,
    with_,
)

OLD_ALICE: Final = leaf("alice", "A0")  # the key that alice had before she lost her device
WITHOUT_BOB: Final = changed(founded(b"R", "invite", "#team", ALICE, CAROL, DAVE), inviters=frozenset((CAROL.key,)))
ROOM: Final = changed(WITHOUT_BOB, members=WITHOUT_BOB.members | {BOB})  # the Welcome that let bob in is used up
OWNED: Final = changed(ROOM, owners=ROOM.owners | {BOB.key})
LEFT_BY_DAVE: Final = changed(ROOM, gone=frozenset((DAVE,)))
OPEN: Final = founded(b"L", "open", "#lobby", CAROL, ALICE, BOB)
DIRECT: Final = founded(b"D", "direct", "", ALICE, BOB)
DIRECT_FALSE: Final = founded(b"D'", "direct", "", FALSE_ALICE, BOB)
DIRECT_NEW: Final = founded(b"DN", "direct", "", NEW_ALICE, BOB)
DIRECT_OLD: Final = founded(b"D0", "direct", "", OLD_ALICE, BOB)

NEW: Final = Conv("invite", "")


def accepted(who: Leaf) -> Pins:
    """Bob has accepted one key."""
    return Pins(accepted=frozenset((who.key,)))


NOBODY: Final = Pins()
KNOWN: Final = accepted(ALICE)
NAMED: Final = Statement("succeed", ALICE.key, NEW_ALICE.key)
FORGED: Final = Statement("succeed", ALICE.key, FALSE_ALICE.key)
COMPARED: Final = Pins(verified=frozenset((ALICE.key,)))


def story(first: Branch, *commits: tuple[Leaf, Change], pins: Pins = KNOWN, **more: Any) -> State:
    """Bob is in the first epoch, and these commits have come after it; `more` says what else holds for him."""
    head, world = first, with_((), first)
    for author, change in commits:
        head = after(head, author, change)
        world = with_(world, head)
    conv = Conv(
        first.kind, first.name or "alice", first.group, "live", at=first, since=first, root=first, named=first.members
    )
    conv = conv._replace(**more)
    if conv.standing != "live" and conv.at is not None:
        conv = conv._replace(typed=frozenset(leaf.key for leaf in first.members))
    return State(world, (head,), (conv,), pins)


def outside(first: Branch, conv: Conv, pins: Pins = KNOWN) -> State:
    """There is a conversation, and bob is not in it."""
    return State((first,), (first,), (conv,), pins)


def long_away(first: Branch, *commits: tuple[Leaf, Change]) -> State:
    """Bob comes back after 200 days: the handshakes are gone."""
    return story(first, *commits, standing="gone")._replace(now=START + LONG)


def unreadable(first: Branch, author: Leaf) -> State:
    """The next commit cannot be processed."""
    head = changed(after(first, author, "path"), readable=False)
    return story(first, standing="stopped")._replace(world=with_((), first, head), heads=(head,))


INVITED: Final = after(WITHOUT_BOB, ALICE, "add", BOB)
RENEWED: Final = changed(WITHOUT_BOB, seqs=frozenset(((ALICE, 3),)))
ROTATED: Final = after(ROOM, BOB, "path", seq=2)
BEFORE: Final = long_away(ROOM)._replace(
    world=with_((), ROOM, after(ROOM, ALICE, "path", seq=2)), heads=(after(ROOM, ALICE, "path", seq=2),),
    certs=Certs(newest=frozenset(((ALICE, 2),))),
)  # fmt: skip


def recovered(first: Branch, *commits: tuple[Leaf, Change]) -> State:
    """Bob has a new device, and a keepsake of the first epoch."""
    state = story(first, *commits, standing="recovered", at=None, keepsake=first)
    return state._replace(certs=Certs(own=3))


OPENING: Final = Conv("direct", "alice", b"D0", "opening")
"""Bob is opening a conversation with alice, with the key that he has accepted."""


def both(one: State, other: State) -> State:
    """Two conversations."""
    return State(with_(one.world, *other.world), (*one.heads, *other.heads), (*one.convs, *other.convs), one.pins)


def only(*who: Leaf) -> frozenset[Leaf]:
    """Who helps the server, or whose key it has."""
    return frozenset(who)


EXPIRED: Final = story(ROOM)._replace(certs=Certs(expired=only(DAVE)))


LOST: Final = story(ROOM, (ALICE, "path"), standing="gone")
OLD_COPY: Final = story(ROOM, (BOB, "path"), standing="old-copy-commit")._replace(certs=EXPIRED.certs)


def robbed(first: Branch, who: Leaf) -> Scenario:
    """A thief has a copy of somebody's vault, and they know what to do about it."""
    name = f"with {who.account}'s vault, in {first.name or 'a direct conversation'}"
    return Scenario(name, story(changed(first, thief=only(who))), vaults=only(who), heals=only(who))


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
    Scenario("both open at once", outside(DIRECT, OPENING), questions=0),
    Scenario("bob opens with a false key", outside(DIRECT, OPENING, accepted(FALSE_ALICE))),
    Scenario("alice has a new key", story(DIRECT_OLD, pins=accepted(OLD_ALICE))._replace(
        world=with_((), DIRECT_OLD, DIRECT), heads=(DIRECT,)
    )),
    Scenario("bob has left the direct conversation", story(DIRECT, standing="left"), questions=0),
    Scenario("the server is between them", story(DIRECT_FALSE, pins=accepted(FALSE_ALICE))._replace(heads=(None,))),
    Scenario("an open room", story(OPEN), questions=0),
    Scenario("bob enters an open room", outside(OPEN, Conv("open", "#lobby")), questions=0),
    Scenario("200 days away from an open room", long_away(OPEN, (CAROL, "path")), questions=0),
    Scenario("an open room's commit cannot be processed", unreadable(OPEN, CAROL), questions=0),
    Scenario("a room and a direct conversation", both(story(ROOM), story(DIRECT))),
    # the owner's own client: alice's, in bob's place
    Scenario("bob owns the room, too", story(OWNED)),
    Scenario("bob owns the room, and was away for 200 days", long_away(OWNED, (ALICE, "path")), questions=0),
    Scenario("bob owns the room, and has a vault from before a commit", story(
        OWNED, (BOB, "path"), standing="old-copy-commit"
    ), questions=0),
    Scenario("bob owns the room, and has left it", story(OWNED, standing="left")),
    Scenario("bob owns the room, and has recovered", recovered(OWNED, (ALICE, "path")), questions=0),
    Scenario("with dave, in a room of bob's", story(OWNED), only(DAVE)),
    Scenario("with dave's key, bob owns the room and was away for 200 days", long_away(
        OWNED, (ALICE, "path")
    ), stolen=only(DAVE)),
    Scenario("with bob's vault and password, in a room of bob's", story(OWNED), passwords=only(BOB), heals=only(BOB)),
    # with a member's help
    Scenario("with dave, a member", story(ROOM), only(DAVE)),
    Scenario("with dave, who has left", story(LEFT_BY_DAVE), only(DAVE)),
    Scenario("with dave, bob was away for 200 days", long_away(ROOM, (ALICE, "path")), only(DAVE)),
    Scenario("with carol, who may invite", story(ROOM), only(CAROL)),
    Scenario("with carol, bob has left", story(ROOM, standing="left"), only(CAROL)),
    Scenario("with carol, bob was away for 200 days", long_away(ROOM, (CAROL, "path")), only(CAROL)),
    # with a signature key, and no secrets
    Scenario("with the key that dave had long ago", EXPIRED, stolen=only(DAVE)),
    Scenario("with dave's key, bob is not in the room yet", outside(WITHOUT_BOB, NEW), stolen=only(DAVE)),
    Scenario("with dave's key, bob was away for 200 days", long_away(ROOM, (ALICE, "path")), stolen=only(DAVE)),
    Scenario("with the key that alice had before, bob was away for 200 days", BEFORE, stolen=only(ALICE), questions=0),
    Scenario("with alice's key, handshakes are lost", LOST, stolen=only(ALICE)),
    Scenario("with dave's old key, a vault from before a commit", OLD_COPY, stolen=only(DAVE), questions=0),
    Scenario("bob has left where he was invited to", story(INVITED, standing="left")._replace(
        world=with_((), WITHOUT_BOB, INVITED), said=frozenset((Said(ALICE.key, INVITED, START + DAY),))
    )),
    # thieves of a vault, before and after it is rotated or revoked
    robbed(ROOM, DAVE), robbed(ROOM, BOB), robbed(DIRECT, BOB), robbed(DIRECT, ALICE),
    Scenario("with dave's key, which he renews", story(ROOM), stolen=only(DAVE), heals=only(DAVE)),
    Scenario("with dave's vault and password", story(ROOM), passwords=only(DAVE), heals=only(DAVE)),
    Scenario("with bob's vault and password", story(ROOM), passwords=only(BOB), heals=only(BOB)),
    Scenario("with the vault that alice has revoked", outside(RENEWED, NEW)._replace(
        certs=Certs(newest=frozenset(((ALICE, 3),)), revoked=frozenset(((ALICE, 1),)))
    ), vaults=only(ALICE)),
    Scenario("with the vault that alice has revoked, beside bob", story(DIRECT)._replace(
        world=with_((), DIRECT, after(DIRECT, ALICE, "re-enter", ALICE, seq=3)),
        heads=(after(DIRECT, ALICE, "re-enter", ALICE, seq=3),),
        certs=Certs(newest=frozenset(((ALICE, 3),)), revoked=frozenset(((ALICE, 1),)))
    ), vaults=only(ALICE)),
    Scenario("a vault from before a rotation", story(ROOM, standing="old-copy-commit")._replace(
        world=with_((), ROOM, ROTATED), heads=(ROTATED,)
    ), questions=0),
    # a successor of alice's key, named by her or by a thief
    Scenario("alice names a successor", story(DIRECT), succeeds=True, questions=0),
    Scenario("alice has named a successor", story(DIRECT)._replace(
        world=with_((), DIRECT, DIRECT_NEW), heads=(DIRECT_NEW,), statements=frozenset((NAMED,))
    ), questions=0),
    Scenario("a thief has named a successor of alice's key", story(DIRECT, pins=accepted(FALSE_ALICE))._replace(
        read=frozenset((FORGED,))
    ), passwords=only(ALICE)),
    Scenario("alice names a successor of a key that bob has compared", story(DIRECT, pins=COMPARED), succeeds=True),
    Scenario("with alice's password, in a direct conversation", story(DIRECT), passwords=only(ALICE)),
    Scenario("with alice's password, bob has compared", story(DIRECT, pins=COMPARED), passwords=only(ALICE)),
    # a recovery file
    Scenario("bob has recovered", recovered(ROOM, (ALICE, "path")), questions=0),
    Scenario("bob has recovered, with dave", recovered(ROOM, (ALICE, "path")), only(DAVE), questions=0),
    Scenario("bob has recovered, with dave's key", recovered(ROOM, (ALICE, "path")), stolen=only(DAVE), questions=0),
    Scenario("bob has recovered, dave spoke last", recovered(ROOM, (DAVE, "path"))),
    Scenario("bob has recovered a direct conversation", recovered(DIRECT, (ALICE, "path")), questions=0),
    Scenario("bob has recovered an open room", recovered(OPEN, (ALICE, "path")), questions=0),
)  # fmt: skip
"""Every invariant holds in these, as far as is explored."""

OWNER_STOLEN: Final = Scenario(
    "with alice's signature key, bob was away for 200 days",
    long_away(ROOM, (ALICE, "path")),
    stolen=only(ALICE),
    unforgiven=only(ALICE),
)
MEMBER_STOLEN: Final = Scenario("with dave's signature key", story(ROOM), stolen=only(DAVE), unforgiven=only(DAVE))
REMOVED: Final = Scenario("carol was removed, and bob is not shown that", story(ROOM), only(CAROL))
"""What stays possible; each has its trace in the test."""
