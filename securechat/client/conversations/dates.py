"""Dates of entries: they are the server's, and what they contradict is told (docs/design.md, section 5, Time).

A message may be older than its entry: it was written on a train. It is never much younger, times in a log never run
back far, and what is live is dated by about our own clock. Where that is not so, one of the clocks is wrong, and nobody
can tell which: so each alarm comes once a session, names the clocks, and stops nothing.
"""

from typing import Final

from securechat.client import events
from securechat.client.context import span
from securechat.client.conversations.conversation import Conversation

TOLERANCE: Final = 600_000
"""Milliseconds by which honest clocks may differ; a log waits as long for one that was set back."""

_CONFIRM_SECONDS: Final = 60.0
"""A machine that has slept finds old entries that look live, but not for so long: then they are dated too early."""

_ADVICE: Final = "Nothing that was said is in doubt, only when."


def note_entry(conversation: Conversation, seq: int, time: int) -> None:
    """Compare the date of the next entry (ms) with the one before and, if it is live, with our clock."""
    before, conversation.newest_time = conversation.newest_time, time
    if before - time > TOLERANCE:
        _tell(
            conversation, "back", f"the server dates entry {seq} {span(before - time)} before the one before it: its "
            f"clock was set back, or it is lying. {_ADVICE}",
        )  # fmt: skip
    if conversation.live and seq > conversation.head:
        _compare_live(conversation, time)


def note_written(conversation: Conversation, account: str, written: int, time: int) -> None:
    """Compare when a message was written, by its sender's clock (0: not known), with its entry's date (both ms)."""
    if written - time > TOLERANCE:
        own = account == conversation.context.device.account
        whose, machine = ("your message", "this machine's") if own else (f"a message of {account}", f"{account}'s")
        _tell(
            conversation, "written", f"{whose} is dated {span(written - time)} before it was written: the server's "
            f"clock is wrong, or {machine}. {_ADVICE}",
        )  # fmt: skip


def _compare_live(conversation: Conversation, time: int) -> None:
    context = conversation.context
    ahead = time - context.clock.milliseconds()
    late_since, conversation.late_since = conversation.late_since, 0.0
    if ahead < -TOLERANCE:
        now = context.clock.monotonic()
        conversation.late_since = late_since or now
        if not late_since or now - late_since < _CONFIRM_SECONDS:
            return
    if abs(ahead) > TOLERANCE and "clock" not in context.alarmed:
        context.alarmed.add("clock")
        text = (
            f"the server's clock and this machine's differ by {span(abs(ahead))}. Look at this machine's first; if it "
            f"is right, tell the operator of the server. {_ADVICE}"
        )
        context.emit(events.Alarm("time", conversation.id, text))


def _tell(conversation: Conversation, what: str, text: str) -> None:
    context = conversation.context
    if (what, conversation.id) not in context.alarmed:
        context.alarmed.add((what, conversation.id))
        context.emit(events.Alarm("time", conversation.id, text))
