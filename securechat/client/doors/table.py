"""The table of doors: what happens to each offer, and `decide`, which looks it up (docs/design.md, section 6, Doors).

The rows are tried from above; the first that takes an offer decides. If one of its checks fails the offer is refused,
and so is an offer that no row takes. A live state is never given up for an offer, and an anchor is a key known before.
"T" is the last state of the conversation that this vault trusted, "W" are handshakes from there that were followed with
the group's secrets, "w" without. A row for what is not built yet is there, too: it decides what can be decided now.
What a departed or revoked device commits comes to no door: the rules refuse it wherever a log is followed
(`policy.commits`).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from securechat.client.doors.checks import (
    ACCEPTED,
    ANCHORED,
    BY_ANCHOR,
    BY_HAND,
    BY_INVITER,
    BY_LINE,
    FITS,
    FOLLOWS,
    IN_FORCE,
    IN_TIME,
    LONG_AWAY,
    MEANT,
    NO_NAMESAKE,
    NOBODY_AGAINST,
    NOT_AGAIN,
    NOT_BACK,
    NOT_BELOW,
    OURS,
    PEERS,
    SOUND,
    STEPS_IN_FORCE,
    TWO,
    Case,
    Check,
)
from securechat.client.doors.facts import Action, Key, Known, Offered, Pins, Standing, Told, Verdict, Waits, Way
from securechat.value import value


@value
class Row:
    """One door. `known`, `offered`, `user` and `lines` are its words for people; the other fields decide."""

    name: str
    known: str
    offered: str
    user: str
    lines: str
    standings: tuple[Standing, ...]
    ways: tuple[Way, ...]
    action: Action
    told: Told = ""
    waits: Waits = "nothing"
    checks: tuple[Check, ...] = ()
    when: Callable[[Case], bool] = lambda _: True

    def takes(self, case: Case) -> bool:
        """Whether this row is about the case."""
        return case.known.standing in self.standings and case.offered.way in self.ways and self.when(case)

    def judge(self, case: Case) -> Verdict:
        """Return the verdict on a case that the row takes."""
        whose = _whose(case.offered)
        for check in self.checks:
            if not check.holds(case):
                return Verdict(self.name, "refuse", "refused", whose=whose, why=check.words)
        action = "rotate" if self.action == "resync" and case.offered.behind else self.action
        came, late, waits = case.came, case.late, self.waits
        # Where nothing that we followed leads there, nobody there is known to be who a line was typed for.
        before = {case.known.us.key} if self.action == "ask" else {leaf.key for leaf in case.trusted.members}
        there = case.offered.members if self.action == "ask" else came
        new = {leaf.key for leaf in there} - before if waits == "enter" else set()
        lets_go = waits == "nothing" or case.offered.kind == "open"
        holding = frozenset[Key]() if lets_go else late | new
        if waits in ("enter", "fresh-path", "held"):
            waits = "enter" if holding else "nothing" if waits == "enter" else waits
        return Verdict(self.name, action, self.told, waits, whose, came, case.went, case.back, late, holding)


def _whose(offered: Offered) -> Key | None:
    if offered.invitation is not None:
        return offered.invitation.inviter
    return offered.signer.key if offered.signer is not None else None


# --- what distinguishes rows of one standing and way ---------------------------------------------------------------


def _standing(case: Case) -> str:
    said = case.offered.invitation
    return "" if said is None else case.pins.standing(*said.inviter)


def _first(case: Case) -> bool:
    return not case.elsewhere and case.offered.kind != "direct" and case.known.line is None


def _another_direct(case: Case) -> bool:
    return case.elsewhere and case.offered.kind == case.known.kind == "direct"


def _new_direct(case: Case) -> bool:
    return _another_direct(case) or (case.offered.kind == "direct" and case.known.standing == "nothing")


def _peer_standing(case: Case) -> str:
    signer = case.offered.signer
    return "" if signer is None else case.pins.standing(*signer.key)


def _peer_accepted(case: Case) -> bool:
    return _peer_standing(case) in ACCEPTED


def _peer_fetched(case: Case) -> bool:
    signer = case.offered.signer
    return signer is not None and (case.known.first or case.known.fetched == signer.key)


def _open(case: Case) -> bool:
    return case.known.kind == "open" and not case.elsewhere


_WELCOME: Final = (SOUND, OURS, NO_NAMESAKE, NOBODY_AGAINST, IN_FORCE)
_INVITED: Final = (*_WELCOME, FITS, BY_INVITER, IN_TIME, NOT_BACK)
_MEMBER: Final[tuple[Standing, ...]] = (
    "live", "away", "gone", "lost", "old-copy", "old-copy-commit", "stopped", "forked", "ahead", "recovered",
)  # fmt: skip
_SAFE: Final[tuple[Standing, ...]] = tuple(each for each in _MEMBER if each not in ("gone", "lost", "recovered"))
_OUT: Final[tuple[Standing, ...]] = ("nothing", "invited", "gone", "lost", "left", "recovered")

TABLE: Final = (
    Row(
        "welcome alone", "nothing, or out of it", "Welcome without invitation message",
        "silent", "everything; no Subscribe, no pins",
        _OUT, ("welcome",), "keep", "", "everything",
        when=lambda case: case.offered.kind != "direct" and case.offered.invitation is None,
    ),
    Row(
        "invitation", "nothing", "invitation in the direct conversation, key accepted there, + Welcome",
        "ASK who (key state), what, owners, who is listed, known ones; yes / no / never from them", "room till yes",
        ("nothing",), ("welcome",), "ask", "invitation", "everything", _INVITED,
        when=lambda case: _first(case) and _standing(case) in ACCEPTED,
    ),
    Row(
        "invitation of a stranger", "nothing", "the same, inviter unknown",
        'ASK once for both ("first contact")', "both",
        ("nothing",), ("welcome",), "ask", "first-contact", "everything", _INVITED,
        when=lambda case: _first(case) and _standing(case) == "unknown",
    ),
    Row(
        "invite line", "nothing, invite line with key", "the same",
        "told", "held only by pins",
        ("nothing",), ("welcome",), "enter", "invited-by-line", "held", (*_INVITED, BY_LINE),
        when=lambda case: case.known.line is not None and case.offered.invitation is not None,
    ),
    Row(
        "direct request", "nothing, or another one", "direct Welcome, nothing was decided on any key of theirs",
        "ASK request (text before Request is one too)", "answers",
        ("nothing", *_MEMBER, "left"), ("welcome",), "ask", "request", "everything", (*_WELCOME, TWO),
        when=lambda case: _new_direct(case) and _peer_standing(case) == "unknown",
    ),
    Row(
        "direct by a known key", "nothing", "the same, the key accepted before",
        "told", "held only by pins",
        ("nothing",), ("welcome",), "enter", "entered", "held", (*_WELCOME, TWO),
        when=lambda case: _new_direct(case) and _peer_accepted(case),
    ),
    Row(
        "invitation withdrawn", "invited, not answered", "removal",
        'told "withdrawn"', "nothing was read or sent",
        ("invited",), ("removal",), "withdraw", "withdrawn", "nothing", (SOUND,),
    ),
    Row(
        "invitation renewed", "invited, not answered", "newer Welcome",
        "ASK again: the newest counts", "nothing was read or sent",
        ("invited",), ("welcome",), "ask", "invitation", "everything", _INVITED,
        when=lambda case: not case.elsewhere,
    ),
    Row(
        "lost race", "own `opening` to that account", "their conversation, signer's key = the one we fetched",
        "silent", "held only by pins",
        ("opening",), ("welcome",), "enter", "", "held", (*_WELCOME, TWO),
        when=lambda case: case.offered.kind == case.known.kind == "direct" and _peer_fetched(case),
    ),
    Row(
        "lost race to another key", "own `opening` to that account", "their conversation, another key",
        "ASK as key change", "our lines",
        ("opening",), ("welcome",), "ask", "key-change", "everything", (SOUND, OURS, NO_NAMESAKE, TWO),
        when=lambda case: case.offered.kind == case.known.kind == "direct",
    ),
    Row(
        "word of a lost race", "own `opening`, or an open room of our own", '"exists"',
        "silent", "till their Welcome or JoinOffer is here, which has its own row; ours takes the place of a private "
        "one that nothing in our inbox opens",
        ("opening",), ("claim",), "keep", "", "until-in",
        when=lambda case: case.known.kind != "invite",
    ),
    Row(
        "direct beside direct", "a direct conversation with bob",
        "Welcome to another one, the key accepted there; the old one shut: a departure, revocation, both said so, or "
        "`Instead` there under that key (a restored server, or a vault put back, has lost the old one)",
        "told if shut; else it stands beside with an unread mark, and lines stay in the old one until the user picks",
        "held only by pins",
        (*_MEMBER, "left"), ("welcome",), "beside", "beside", "held", (*_WELCOME, TWO),
        when=lambda case: _another_direct(case) and _peer_accepted(case),
    ),
    Row(
        "direct under another key", "the same, or nothing",
        "Welcome, another key; never replaces, leaves, moves or re-pins",
        'told "another key claims to be bob"; /safety, /trust, /distrust', "all lines to the NEW one; old goes on",
        ("nothing", *_MEMBER, "left"), ("welcome",), "beside", "another-key", "everything",
        (SOUND, OURS, NO_NAMESAKE, TWO),
        when=lambda case: _new_direct(case) and _peer_standing(case) not in ACCEPTED | {"unknown"},
    ),
    Row(
        "next commit", "member, live", "next commit",
        "told who came, went, re-entered, by device", "held only by pins",
        ("live",), ("commit",), "follow", "changes", "held", (SOUND, FOLLOWS),
    ),
    Row(
        "live state", "member", 'Welcome, GroupInfo, "exists", rebind to it; never leaves T',
        "told once a day if repeated", "nothing",
        _SAFE, ("welcome", "offer", "claim"), "ignore", "repeated", "nothing",
        when=lambda case: not case.elsewhere and not (_open(case) and case.known.standing == "stopped"),
    ),
    Row(
        "walk", "member, away or `Truncated`", "handshakes since T",
        'told "gap"; who came, went, re-entered, by device', "lines till W ends, then fresh path",
        ("away",), ("walk",), "follow", "gap", "fresh-path", (SOUND, FOLLOWS),
    ),
    Row(
        "checkpoint", "member, handshakes gone", "checkpoint of an owner in T (peer in direct)",
        'told "back on alice\'s word of 2 Nov"; changes in devices', "lines typed before: one Enter if anybody is new",
        ("gone",), ("checkpoint",), "resync", "checkpoint", "enter",
        (SOUND, ANCHORED, IN_FORCE, LONG_AWAY, NOT_BACK, OURS, NO_NAMESAKE, STEPS_IN_FORCE),
    ),
    Row(
        "nothing left", "member, nothing of both", "-",
        'told "ask alice to invite you again"', "lines stay, unsent",
        ("gone", "lost", "recovered"), ("none",), "refuse", "ask-for-invitation", "everything",
    ),
    Row(
        "invited back", "the same, a branch that the server has lost, or recovered",
        "invitation dated after T by an owner in T, + its Welcome",
        'ASK "alice lets you in again; what was between is lost"', "one Enter",
        ("gone", "lost", "recovered"), ("welcome",), "ask", "invited-back", "enter",
        (*_WELCOME, FITS, BY_INVITER, IN_TIME, BY_ANCHOR, NOT_AGAIN),
        when=lambda case: not case.elsewhere,
    ),
    Row(
        "keepsake of an open room", "recovered, open room without owners in the keepsake", "GroupInfo",
        "told", "nothing",
        ("recovered",), ("offer",), "resync", "keepsake", "nothing", (SOUND, NOT_BELOW),
        when=lambda case: _open(case) and not case.trusted.owners,
    ),
    Row(
        "keepsake", "recovered, conversation in the keepsake",
        "GroupInfo or checkpoint of an owner named there (direct: of either of the two)",
        "told", "nothing",
        ("recovered",), ("offer", "checkpoint"), "resync", "keepsake", "nothing",
        (SOUND, ANCHORED, IN_FORCE, NOT_BELOW, NO_NAMESAKE, PEERS, STEPS_IN_FORCE),
    ),
    Row(
        "old copy", "old copy (`last` higher, own unknown message)", "handshakes",
        'told once "an older copy"', "fresh path first",
        ("old-copy",), ("walk",), "follow", "old-copy", "fresh-path", (SOUND, FOLLOWS),
    ),
    Row(
        "own commit", "old copy, own unknown commit", "handshakes: W up to it, w after; then resync",
        'told, with date: "was that you?"', "Enter if anybody is new",
        ("old-copy-commit",), ("public-walk",), "resync", "own-commit", "enter", (SOUND, FOLLOWS, OURS, STEPS_IN_FORCE),
    ),
    Row(
        "repair past a commit", "stopped (commit cannot be processed)", "nothing by itself; /repair: w past it, resync",
        'told whose, or "the server, or X"', "all",
        ("stopped",), ("public-walk",), "resync", "culprit", "enter", (BY_HAND, SOUND, FOLLOWS, OURS, STEPS_IN_FORCE),
        when=lambda case: not _open(case),
    ),
    Row(
        "repair of the history", "stopped (history)", "/repair: W",
        "told with whom", "sending",
        ("forked",), ("walk",), "follow", "history", "enter", (BY_HAND, SOUND, FOLLOWS),
    ),
    Row(
        "back after leaving", "left, declined, removed by a commit seen", "Welcome",
        'ASK "you left on .."', "everything",
        ("left",), ("welcome",), "ask", "you-left", "everything", _INVITED,
        when=lambda case: not case.elsewhere and _standing(case) in ACCEPTED,
    ),
    Row(
        "open room past a commit", "open room, a commit cannot be processed",
        "next offer: w past it, external join; by itself, waiting 1 s, doubling to an hour, never given up",
        'told whose commit, or "the server, or X"', "lines till in",
        ("stopped",), ("offer",), "resync", "culprit", "until-in", (SOUND, FOLLOWS, NOT_BELOW),
        when=_open,
    ),
    Row(
        "behind us", "we are ahead of the server", "lower epoch or head",
        'never back; hand handshakes back, wait; told "server restored: n messages lost"; a direct conversation whose '
        "branch is lost goes on in another one, under the known key", "lines till it is level, or go there",
        ("ahead",), ("head",), "hand-back", "restored", "until-in",
    ),
    Row(
        "same name", "known room, other group id, same name", "Welcome to an invite room",
        "ASK as first entry, under a second title, never merged", "old stays",
        (*_MEMBER, "left"), ("welcome",), "ask", "second-title", "everything", _INVITED,
        when=lambda case: case.elsewhere and case.offered.kind == "invite",
    ),
    Row(
        "same open name", "known room, other group id, same name", "JoinOffer of an open room",
        "told", "old stays",
        (*_MEMBER, "left"), ("offer",), "beside", "second-title", "nothing", (SOUND, MEANT),
        when=lambda case: case.elsewhere and case.offered.kind == "open",
    ),
    Row(
        "open room", "none, or left: open room", "JoinOffer",
        'told: count, known people, whose key differs, "whoever runs this server can walk in"', "nothing",
        ("nothing", "left"), ("offer",), "enter", "people", "nothing", (SOUND, MEANT, NOT_BELOW),
        when=_open,
    ),
    Row(
        "open room after a gap", "open, away, handshakes gone", "JoinOffer",
        "told: known people missing or new. No question: it could not be answered", "nothing",
        ("gone",), ("offer",), "resync", "people", "nothing", (SOUND, MEANT, NOT_BELOW),
        when=_open,
    ),
    Row(
        "open room of a restored server", "open, a branch that the server has lost",
        "JoinOffer, though its epoch is lower",
        "told", "lines till in",
        ("lost",), ("offer",), "resync", "restored", "until-in", (SOUND, MEANT),
        when=_open,
    ),
)  # fmt: skip
"""First match decides. Each row carries the words by which docs/doors.md shows it."""

OWN: Final = Verdict("our own", "enter")
"""What we have founded ourselves came through no door."""

NAMESAKE: Final = "any state: a leaf with our NAME and another key is never pinned, never drawn as our own; ALARM"
"""The one rule that stands beside all rows."""


def decide(
    known: Known, offered: Offered, pins: Pins, now: int, table: tuple[Row, ...] = TABLE
) -> Verdict:
    """Return what to do with an offer, what the user hears and what waits. `now`: seconds, by our own clock.

    Pure: the same facts give the same verdict. `table`: for tests that take a row out.
    """
    case = Case(known, offered, pins, now)
    taken = next((row for row in table if row.takes(case)), None)
    verdict = _NO_ROW if taken is None else taken.judge(case)
    return replace(verdict, alarm=case.namesakes) if case.namesakes else verdict


_NO_ROW: Final = Verdict("", "refuse", "refused", why="nothing of this kind is expected here")
