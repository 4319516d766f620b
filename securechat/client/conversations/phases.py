"""A conversation's phases, between us and the server, as a table of `phase, event -> phase`.

    opening    a direct one that the server has not accepted yet; our request, once made, is in `staged`
    founding   a room, likewise
    joining    a room that we want to enter by an external commit
    awaiting   the peer's direct conversation came first; its Welcome has not arrived yet
    recovered  a new device of ours knows it from the keepsake alone, and looks for a state to enter from
    regaining  it has one, and follows the handshakes from there without secrets; then it replaces the old device's leaf
    member     we follow the log, with the group's secrets
    resync     we follow the handshakes without secrets, past a commit; then we replace our own leaf (`walking`)
    cut-off    the handshakes that would lead on from our state are gone
    ahead      the server is behind us: it was restored from a backup, and we never go back to a used epoch
    stopped    a commit cannot be processed, or the log does not fit together; the user decides
    ended      we are out; only the history is left

What the server says, or leaves out, never makes us give our state up: it is kept in all of these until we are out, or
in another epoch that was reached from it (docs/design.md, section 6, Following). Every change goes through `after`; an
event that the table lacks moves nothing.
"""

from typing import Final, Literal

from securechat import policy
from securechat.client.vault.conversations import Phase
from securechat.errors import InternalError

Event = Literal[
    "entered", "overtaken", "unanswered", "taken", "missing", "superseded", "followed", "cut-off", "ahead",
    "distrusted",
    "unopened", "repaired", "retried", "recovered", "lost", "over", "opened-again", "joined-again", "awaited-again",
]  # fmt: skip
"""entered: we are in the group's tree, at a place in the log.
overtaken: somebody else opened this direct conversation first. unanswered: our own opening was taken, and we missed it.
unopened: nothing opens the Welcome to theirs. taken: the room exists. missing: the room does not exist.
superseded: our own device has committed what this vault does not know, or the user wants to go on past a commit that
cannot be processed, or our leaf was left behind. followed: it was, and commits that our secrets can follow came
between. cut-off: the next handshake is of a later epoch than ours. ahead: the log ends before our cursor,
or goes on in an earlier epoch than ours. distrusted: what the log or the server says cannot be true.
repaired: the user wants to go on. retried: a new connection may bring what was missing. recovered: there is
another state to walk from. lost: it was only in memory, and is looked for again. over: we are out, or it was given up.
opened-again, joined-again, awaited-again: a conversation that had ended begins again under the same id.
"""

FIRST: Final[dict[policy.Kind, Phase]] = {"direct": "opening", "open": "joining", "invite": "founding"}
"""The phases in which a conversation begins when the user asks for it."""

_AFTER: Final[dict[tuple[Phase, Event], Phase]] = {
    ("opening", "entered"): "member",
    ("opening", "overtaken"): "awaiting",
    ("opening", "unanswered"): "resync",
    ("founding", "entered"): "member",
    ("founding", "taken"): "joining",
    ("joining", "entered"): "member",
    ("joining", "missing"): "founding",
    ("awaiting", "entered"): "member",
    ("awaiting", "unopened"): "opening",
    ("recovered", "entered"): "member",  # added again
    ("recovered", "recovered"): "regaining",
    ("regaining", "entered"): "member",
    ("regaining", "lost"): "recovered",
    ("member", "entered"): "member",  # removed and added again: the Welcome has overtaken the log
    ("member", "superseded"): "resync",
    ("member", "cut-off"): "cut-off",
    ("member", "ahead"): "ahead",
    ("member", "distrusted"): "stopped",
    ("resync", "entered"): "member",
    ("resync", "followed"): "member",
    ("resync", "cut-off"): "cut-off",
    ("resync", "distrusted"): "stopped",
    ("cut-off", "entered"): "member",  # added again
    ("cut-off", "repaired"): "member",
    ("cut-off", "retried"): "member",
    ("cut-off", "recovered"): "resync",
    ("ahead", "entered"): "member",
    ("ahead", "repaired"): "member",
    ("ahead", "retried"): "member",
    ("ahead", "recovered"): "resync",
    ("stopped", "entered"): "member",
    ("stopped", "repaired"): "member",
    ("ended", "opened-again"): "opening",
    ("ended", "joined-again"): "joining",
    ("ended", "awaited-again"): "awaiting",
    **{(phase, "over"): "ended" for phase in (
        "opening", "founding", "joining", "awaiting", "recovered", "regaining", "member", "resync", "cut-off", "ahead",
        "stopped", "ended",
    )},
}  # fmt: skip

READING: Final = frozenset[Phase](("member",))
"""Entries of the log are processed, and the outbox is submitted."""

NEW: Final = frozenset[Phase](("opening", "founding", "joining"))
"""The server does not know us there: if we leave now, we were never in."""

REGAINING: Final = frozenset[Phase](("recovered", "regaining"))
"""A new device of ours is on its way to where a lost one was. There is no state yet."""

WALKING: Final = frozenset[Phase](("resync", "regaining"))
"""The handshakes of the log are followed without secrets."""

FOLLOWING: Final = READING | WALKING
"""The server sends us the log."""

ENTERING: Final = NEW | WALKING
"""The way in goes on without the user."""

WAITING: Final = frozenset[Phase](("cut-off", "ahead"))
"""The log does not lead on from our state: what is said waits, and each connection tries again."""

STOPPED: Final = frozenset[Phase](("stopped",))
"""Nothing is read or sent until the user decides."""

REPAIRABLE: Final = WAITING | STOPPED
"""The user can have it tried again."""

INSIDE: Final = READING | WALKING - REGAINING | REPAIRABLE
"""The tree has our leaf, and there is a state."""

GOING_ON: Final = FOLLOWING - REGAINING
"""A live state, which is never given up for an invitation."""

PLACED: Final = READING | REPAIRABLE
"""Our cursor is a place in the log, as far as we know."""

LEAVABLE: Final = NEW | frozenset[Phase](("member", "resync"))
"""If the user has closed it, we are still on the way out."""

RECEIVING: Final = frozenset[Phase](("ended", "awaiting", "member"))
"""What waits in another conversation with the same people can move here."""

AWAITING: Final = frozenset[Phase](("awaiting",))
"""Only the peer's Welcome leads on."""

ENDED: Final = frozenset[Phase](("ended",))
"""Only the history is left."""


def after(phase: Phase, event: Event) -> Phase:
    """Return the phase that follows. Raises `InternalError` for an event that cannot happen in a phase."""
    try:
        return _AFTER[phase, event]
    except KeyError:
        raise InternalError(f"a conversation that is {phase} cannot be {event}") from None
