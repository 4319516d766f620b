"""A conversation's phases, between us and the server, as a table of `phase, event -> phase`.

    opening    a direct one that the server has not accepted yet; our request, once made, is in `staged`
    founding   a room, likewise
    joining    a room that we want to enter by an external commit
    awaiting   the peer's direct conversation came first; its Welcome has not arrived yet
    member     we follow the log
    resync     our state does not fit the log: we replace our own leaf by an external commit before anything else
    stopped    a commit cannot be processed, or the history is not to be trusted; the user decides
    ended      we are out; only the history is left

Every change goes through `after`; an event that the table lacks moves nothing.
"""

from typing import Final, Literal

from securechat import policy
from securechat.client.vault.conversations import Phase
from securechat.errors import InternalError

Event = Literal[
    "entered", "overtaken", "unanswered", "taken", "missing", "out-of-step", "distrusted", "repaired", "over",
    "opened-again", "joined-again", "awaited-again",
]  # fmt: skip
"""entered: we are in the group's tree, at a place in the log.
overtaken: somebody else opened this direct conversation first. unanswered: our own opening was taken, and we missed it.
taken: the room exists. missing: the room does not exist.
out-of-step: our state does not fit the log. distrusted: what the log or the server says cannot be true.
repaired: the user wants to go on. over: we are out, or it was given up.
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
    ("member", "entered"): "member",  # removed and added again: the Welcome has overtaken the log
    ("member", "out-of-step"): "resync",
    ("member", "distrusted"): "stopped",
    ("resync", "entered"): "member",
    ("resync", "distrusted"): "stopped",
    ("stopped", "entered"): "member",  # added again
    ("stopped", "repaired"): "resync",
    ("ended", "opened-again"): "opening",
    ("ended", "joined-again"): "joining",
    ("ended", "awaited-again"): "awaiting",
    **{(phase, "over"): "ended" for phase in (
        "opening", "founding", "joining", "awaiting", "member", "resync", "stopped", "ended",
    )},
}  # fmt: skip

READING: Final = frozenset[Phase](("member",))
"""Entries of the log are processed, and the outbox is submitted."""

NEW: Final = frozenset[Phase](("opening", "founding", "joining"))
"""The server does not know us there: if we leave now, we were never in."""

ENTERING: Final = NEW | {"resync"}
"""The way in goes on without the user."""

INSIDE: Final = frozenset[Phase](("member", "resync", "stopped"))
"""The tree has our leaf."""

GOING_ON: Final = frozenset[Phase](("member", "resync"))
"""A live state, which is never given up for an invitation."""

PLACED: Final = frozenset[Phase](("member", "stopped"))
"""Our cursor is a place in the present log."""

LEAVABLE: Final = NEW | frozenset[Phase](("member", "resync"))
"""If the user has closed it, we are still on the way out."""

RECEIVING: Final = frozenset[Phase](("ended", "awaiting", "member"))
"""What waits in another conversation with the same people can move here."""

AWAITING: Final = frozenset[Phase](("awaiting",))
"""Only the peer's Welcome leads on."""

STOPPED: Final = frozenset[Phase](("stopped",))
"""Nothing is read or sent until the user decides."""

ENDED: Final = frozenset[Phase](("ended",))
"""Only the history is left."""


def after(phase: Phase, event: Event) -> Phase:
    """Return the phase that follows. Raises `InternalError` for an event that cannot happen in a phase."""
    try:
        return _AFTER[phase, event]
    except KeyError:
        raise InternalError(f"a conversation that is {phase} cannot be {event}") from None
