"""Verdicts: what the table of doors tells the user, and lets wait, carried out (docs/design.md, section 6, Doors).

told     by `tell`; what a question or the people of a conversation say, they say (`events.ConversationChanged`)
waits    fresh-path by `look`; enter by `roster.hold`; until-in by the phase; everything by the question and the
         pins, and held by the pins alone (`holds`)
"""

from typing import Final

from securechat.client import events
from securechat.client.conversations import offers
from securechat.client.conversations.conversation import Conversation
from securechat.client.doors.facts import Standing, Told, Verdict, Way
from securechat.policy import rules_of
from securechat.wire.limits import LEAP_ENTRIES

ENTERED: Final[dict[Told, events.Change]] = {
    "": "opened", "request": "request", "key-change": "opened", "beside": "opened", "another-key": "opened",
    "entered": "opened", "invitation": "joined", "first-contact": "joined", "invited-by-line": "joined",
    "invited-back": "joined", "you-left": "joined", "second-title": "joined", "people": "joined",
    "keepsake": "recovered",
}  # fmt: skip
"""What a conversation that we come into is told as; where we were in before, its people are told."""


def entered(verdict: Verdict) -> events.Change:
    """Return as what it is told that we are in."""
    return "members" if verdict.told != "keepsake" and verdict.action in ("follow", "resync") else ENTERED[verdict.told]


def look(conversation: Conversation, standing: Standing, way: Way, *, time: int = 0, count: int = 0) -> None:
    """Look up what becomes of our state, now that we know how we stand: tell it, and let wait what waits.

    `time`: of what has shown it (ms); 0: that is gone. `count`: how many entries it is about.
    """
    verdict = offers.judge_own(conversation, standing, way)
    if verdict.waits == "fresh-path":  # before we speak again
        conversation.row.sent_on_path = conversation.context.parts.timing.path_messages
    tell(conversation, verdict, time=time, count=count)


def tell(conversation: Conversation, verdict: Verdict, *, time: int = 0, count: int = 0) -> None:
    """Tell what neither a question nor the conversation's people say. `time`, `count`: as for `look`."""
    context, row, whose = conversation.context, conversation.row, verdict.whose
    match verdict.told:
        case "gap":
            leaps = row.gap - row.cursor > LEAP_ENTRIES
            context.emit(events.Gap(row.id, row.gap, "restored" if leaps else "away"))
        case "old-copy" if not context.told_older_copy:  # told once, of all conversations
            context.told_older_copy = True
            context.emit(events.OutOfStep(row.id, "older-copy", time))
        case "own-commit":
            context.emit(events.OutOfStep(row.id, "own-commit", time))
        case "checkpoint" if whose is not None:
            context.emit(events.OutOfStep(row.id, "checkpoint", time, account=whose.account))
        case "ask-for-invitation":
            owners = rules_of(conversation.group.public.extensions).owners
            whom = next((owner.account for owner in owners if owner.account != context.device.account), "")
            context.emit(events.OutOfStep(row.id, "nothing-left", account=whom))
        case "restored":
            context.emit(events.OutOfStep(row.id, "ahead", count=count))
