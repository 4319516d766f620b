"""The world of the explorer: keys as symbols, and every branch that anybody has made of any group.

A *branch* is one epoch of one group, as its public state shows it. Nobody encrypts anything here: a branch says whose
key signed it, whether that somebody knew the secrets of the epoch before, and whether others can follow it. Each
account has one device, so its key stands for the leaf; its certificates are numbered, and each has a signature key of
its own. A revocation is an entry of the log, so it is a branch, too, in the epoch that it stands in.

Equal branches are one object, so that the explorer compares and hashes millions of states by the identity of what they
hold.
"""

from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final, Literal

from securechat.client.doors.facts import Change, Key, Leaf
from securechat.policy import Kind

DAY = 86_400
START = 1_000_000_000  # seconds: when the story begins


def leaf(account: str, key: str) -> Leaf:
    """A member; its identity key and device are called `key`."""
    return Leaf(account, key.encode(), key.encode())


ALICE = leaf("alice", "A")  # owns the room
BOB = leaf("bob", "B")  # whose client is explored
CAROL = leaf("carol", "C")  # may invite
DAVE = leaf("dave", "D")  # an ordinary member
MALLORY = leaf("mallory", "M")  # an account of the server's own
NEW_ALICE = leaf("alice", "A2")  # her successor, if she names one
FALSE_ALICE = leaf("alice", "A'")  # keys that the server made under the names of others
FALSE_BOB = leaf("bob", "B'")

SERVERS = frozenset((MALLORY, FALSE_ALICE, FALSE_BOB))
"""Symmetry over keys: which of its keys the server uses under one name makes no difference, so it has one of each."""


@dataclass(frozen=True, eq=False, slots=True)
class Branch:
    """One epoch of one group. Made by `founded`, `after` and `changed` alone: equal ones are the same object."""

    group: bytes
    kind: Kind
    name: str
    epoch: int
    members: frozenset[Leaf]
    owners: frozenset[Key]
    inviters: frozenset[Key]
    parent: "Branch | None"  # None: the group was founded like this
    author: Leaf
    change: Change | Literal["revoke"]
    who: frozenset[Leaf]  # whom the commit lets in, or puts out
    secret: bool  # its author knew the secrets of the epoch before
    gone: frozenset[Leaf]  # members who have left, and whom the next commit must remove
    readable: bool  # tags and path are whole: members can follow it with their secrets
    seqs: frozenset[tuple[Leaf, int]]  # of members whose certificate is a later one than the first
    revoked: frozenset[Leaf]  # members whose certificate is revoked, and whom the next commit must remove
    thief: frozenset[Leaf]  # members whose secrets of this epoch a thief has
    label: str  # its history in short; no two of a world have the same

    def __repr__(self) -> str:
        return self.label


World = tuple[Branch, ...]
"""All branches that there are, by their labels, so that the order in which they were made makes no other state."""

_FIELDS: Final = tuple(each.name for each in fields(Branch) if each.name != "label")


@cache
def _made(*content: Any) -> Branch:
    named = dict(zip(_FIELDS, content, strict=True))
    return Branch(**named, label=_label(named))


def _label(branch: dict[str, Any]) -> str:
    """A name that begins with the parent's, so that a parent comes before what was made of it."""
    flags = "".join(
        [f" of {_keys(branch['gone'])} gone"] * bool(branch["gone"])
        + [" without secrets"] * (not branch["secret"])
        + [" with a flipped tag"] * (not branch["readable"])
        + [f", {_keys(branch['thief'])} stolen"] * bool(branch["thief"])
        + [f", {_keys(branch['revoked'])} revoked"] * bool(branch["revoked"])
        + [f", {leaf.identity.decode()} by {seq}" for leaf, seq in sorted(branch["seqs"])]
    )
    who = f"{branch['author'].identity.decode()} {branch['change']}s {_keys(branch['who'])}".strip()
    if branch["parent"] is not None:
        return f"{branch['parent'].label}, {who}{flags}"
    return f"{branch['group'].decode()}{branch['epoch']} ({_keys(branch['members'])}): {who}{flags}"


def _keys(leaves: frozenset[Leaf]) -> str:
    return "".join(sorted(leaf.identity.decode() for leaf in leaves))


def changed(branch: Branch, **fields: Any) -> Branch:
    """The branch that is like another one but for some fields."""
    return _made(*(fields.get(name, getattr(branch, name)) for name in _FIELDS))


def founded(group: bytes, kind: Kind, name: str, author: Leaf, *others: Leaf, epoch: int = 1) -> Branch:
    """A group as its founder made it, with whomever they put into it."""
    named = {
        "group": group, "kind": kind, "name": name, "epoch": epoch, "members": frozenset((author, *others)),
        "owners": frozenset((author.key,)) if kind == "invite" else frozenset[Key](), "inviters": frozenset[Key](),
        "parent": None, "author": author, "change": "add", "who": frozenset(others), "secret": True,
        "gone": frozenset[Leaf](), "readable": True, "seqs": frozenset[tuple[Leaf, int]](),
        "revoked": frozenset[Leaf](), "thief": frozenset[Leaf](),
    }  # fmt: skip
    return _made(*(named[each] for each in _FIELDS))


@cache
def after(
    before: Branch, author: Leaf, change: Change, *who: Leaf, secret: bool = True, seq: int = 0, stolen: bool = False
) -> Branch:
    """The epoch that a commit by `author` makes of another one.

    `seq`: of the certificate of `author`, or of whoever is added, in their leaf; 0: as before. `stolen`: by a thief.
    """
    regular = change not in ("enter", "re-enter")
    out = set(who) if change == "remove" else set[Leaf]()
    if regular:  # it has to take out whose certificate was revoked
        out |= before.revoked - {author}
    else:  # whoever enters takes the place of their account
        out |= {each for each in before.members if each.account == author.account}
    members = (before.members - out) | (frozenset() if change == "remove" else set(who))
    roles = frozenset(leaf.key for leaf in members)
    new = frozenset(who) if change == "add" else frozenset((author,))
    seqs = {leaf: number for leaf, number in before.seqs if leaf in members and not (seq and leaf in new)}
    seqs |= {leaf: seq for leaf in new if seq > 1}
    return changed(
        before, epoch=before.epoch + 1, members=members, inviters=before.inviters & roles, parent=before, author=author,
        change=change, who=frozenset(who), secret=secret, readable=True, seqs=frozenset(seqs.items()),
        revoked=before.revoked & members - (frozenset() if regular else new),
        thief=(before.thief & members - new) | (new if stolen else frozenset()),
    )  # fmt: skip


@cache
def revoked(before: Branch, who: Leaf) -> Branch:
    """The same epoch after somebody has revoked the certificate of their own leaf."""
    return changed(
        before, parent=before, author=who, change="revoke", who=frozenset((who,)), revoked=before.revoked | {who},
        secret=True, readable=True,
    )  # fmt: skip


@cache
def seq_of(branch: Branch, leaf: Leaf) -> int:
    """The place of a member's certificate in the chain of their identity key."""
    return next((seq for each, seq in branch.seqs if each == leaf), 1)


@cache
def lost(branch: Branch | None, who: Leaf) -> bool:
    """Whether a thief has taken somebody's leaf over, so that their own program has to enter again."""
    while branch is not None and (branch.author != who or branch.change == "revoke"):
        branch = branch.parent
    return branch is not None and who in branch.thief and branch.parent is not None


@cache
def gives_way(branch: Branch) -> bool:
    """Whether what a commit puts in place of its author's leaf is the same certificate or a later one.

    One that was revoked gives way only to a certificate behind the revocation.
    """
    before, author = branch.parent, branch.author
    if before is None or author not in before.members or branch.change == "add":
        return True
    old, new = seq_of(before, author), seq_of(branch, author)
    return new > old + 1 if author in before.revoked else new >= old


def with_(world: World, *branches: Branch) -> World:
    """A world that has some branches more."""
    return tuple(sorted({*world, *branches}, key=lambda branch: branch.label))


@cache
def sound(branch: Branch) -> bool:
    """Whether a state is one that the rules allow: an account has one place."""
    return len({leaf.account for leaf in branch.members}) == len(branch.members)


@cache
def allowed(branch: Branch, *, lax: bool = False) -> bool:
    """Whether the rules allow the commit that made a branch (`policy`, abridged).

    `lax`: without the rule that a leaf gives way to a later certificate alone.
    """
    before, key = branch.parent, branch.author.key
    if before is None or not sound(branch):
        return sound(branch)
    author = branch.author
    if not lax and branch.change in ("path", "re-enter") and seq_of(branch, author) < seq_of(before, author):
        return False
    match branch.change:
        case "add":
            return branch.kind == "invite" and key in before.owners | before.inviters
        case "remove":
            return key in before.owners
        case "enter":
            return branch.kind == "open" and branch.who == {branch.author}
        case "re-enter" | "path" | "revoke":
            return branch.author in before.members
    return False


@cache
def path(start: Branch | None, end: Branch | None) -> World | None:
    """The branches that lead from one to another, without the first, the oldest first; None if none do."""
    found: list[Branch] = []
    while end is not start:
        if end is None:
            return None
        found.append(end)
        end = end.parent
    return tuple(reversed(found))


@cache
def authorised(start: Branch | None, end: Branch, forgiven: frozenset[Leaf] = frozenset()) -> bool:
    """Whether each step was made by a key with that right in the step before, and with that epoch's secrets.

    `forgiven`: who need not have known the secrets.
    """
    steps = path(start, end)
    return steps is not None and all(
        allowed(each) and (each.secret or each.author in forgiven) and not back_after_leaving(each) for each in steps
    )


def back_after_leaving(branch: Branch) -> bool:
    """Whether a commit was made by somebody who had left, or by a revoked device: only the log says so, not the tree.

    Who was revoked may come back by a certificate behind that.
    """
    before = branch.parent
    if before is None or branch.author not in before.gone | before.revoked:
        return False
    return branch.author in before.gone or branch.change != "re-enter" or not gives_way(branch)


def lets_in(branch: Branch, who: Leaf) -> bool:
    """Whether there is a Welcome to a branch for somebody."""
    return branch.change == "add" and who in branch.who and branch.readable


def letter(head: Branch | None, who: Leaf) -> Branch | None:
    """The newest branch on the way to `head` that somebody has a Welcome to."""
    while head is not None and not lets_in(head, who):
        head = head.parent
    return head
