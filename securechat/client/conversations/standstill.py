"""Standstill: what stops us in a log, what waits meanwhile, and how it goes on (docs/design.md, section 6, Following).

    cut-off    the log does not lead on from our state: a new connection, or a way back (`recovering`), may bring it
    ahead      the server is behind us: it gets back what it has lost (`handing_back`)
    stopped    the log cannot be followed: the user decides, with `/repair`

A commit that cannot be processed stops no open room: we enter again past it, after growing waits.
"""

from typing import Final, Literal

from securechat.client import events
from securechat.client.answers import Key
from securechat.client.conversations import phases, resync, verdicts
from securechat.client.conversations.conversation import Conversation
from securechat.client.doors.checks import GONE_SECONDS
from securechat.errors import sentence
from securechat.mls.framing import SenderType

_CUT_OFF: Final = (
    "The server has lost what leads on from here in {}. What you say waits; /repair tries again. If that does not "
    "help, have somebody invite you again."
)
DENIED: Final = (
    "The server says that you are not in {}: it has lost or deleted it, or somebody has removed you. What you say "
    "waits; /leave gives it up."
)
_AHEAD: Final = (
    "The server was restored from a backup, and lost what was changed since in {}. What you say waits until it has got "
    "that back from you and the others."
)


def cut_off(conversation: Conversation) -> None:
    """The handshakes that lead on from our state are gone. Another connection may bring them."""
    if _goes_on(conversation):
        resync.supersede(conversation)
        return
    if conversation.row.phase in phases.REGAINING:
        not_regained(conversation, "The server has lost the changes since then.")
        return
    vault, row = conversation.context.vault, conversation.row
    if conversation.claimed > vault.outbox.last_number(row.id, row.number):
        verdicts.look(conversation, "old-copy", "walk")
    _wait(conversation, "cut-off")


def outrun(conversation: Conversation, head: int) -> None:
    """The server is behind us, at `head`: it was restored from a backup. We never go back."""
    if _goes_on(conversation):
        resync.supersede(conversation)
        return
    conversation.advance("ahead")
    if not conversation.told_ahead:
        conversation.told_ahead = True
        verdicts.look(conversation, "ahead", "head", count=max(conversation.row.cursor - head, 0))


def unknown(conversation: Conversation) -> None:
    """The restored server does not know that we are in. Others can tell it, as long as they keep what shows it."""
    if conversation.context.clock.seconds() - conversation.row.followed // 1000 > GONE_SECONDS:
        deny(conversation)
    else:
        conversation.server_epoch = None
        outrun(conversation, conversation.row.cursor)


def deny(conversation: Conversation) -> None:
    """The server says that we are not in this conversation: no more than its word. Who wanted to leave is out.

    Otherwise our state stays, and what is said waits: a removal that we have not seen the log brings, if any is to.
    """
    if conversation.row.closed and conversation.row.phase not in phases.ENDED:
        conversation.end("You have left this conversation.")
        conversation.tell("left", conversation.context.device.account)
    elif conversation.row.phase in phases.REGAINING:
        not_regained(conversation, "The server says that you are not in it.")
    elif conversation.row.phase in phases.FOLLOWING:
        conversation.denied = True
        _wait(conversation, "not-found")


def delayed(conversation: Conversation) -> events.Delayed:
    """Why what is said here waits, while the log does not lead on from our state."""
    text = DENIED if conversation.denied else _CUT_OFF if conversation.row.phase == "cut-off" else _AHEAD
    return events.Delayed(conversation.id, "local", text.format(conversation.row.name))


def stop(conversation: Conversation) -> None:
    """Read and say nothing more until the user decides. Tells the commands that wait."""
    conversation.advance("distrusted")
    conversation.walk, conversation.repairing = None, False
    _tell_waiting(conversation)


def distrust(conversation: Conversation, text: str) -> None:
    """Stop: the server did what an honest one never does, so that the log cannot be followed."""
    if _goes_on(conversation):
        resync.supersede(conversation)
        return
    if conversation.row.phase in phases.REGAINING:
        not_regained(conversation, f"What the server shows of it cannot be followed: {sentence(text)}")
        return
    stop(conversation)
    advice = "Nothing more is read or sent here. Compare with the others in some other way; /repair rejoins."
    conversation.context.emit(events.Alarm("history", conversation.id, f"{sentence(text)} {advice}"))


def gave_up(conversation: Conversation, text: str) -> None:
    """Stop: the server does not let us back in. `/repair` tries again; whoever wanted to leave is out."""
    if conversation.row.closed:
        conversation.end("You have left this conversation.")
        return
    stop(conversation)
    text = f"{text} /repair tries again."
    if conversation.context.answers.waiting(("conversation", conversation.id)):
        conversation.context.answers.refuse(("conversation", conversation.id), "local", text)
    else:
        conversation.context.emit(events.Alarm("server", conversation.id, text))


def not_regained(conversation: Conversation, why: str) -> None:
    """A conversation that our keepsake names is not entered, on this connection. Tells it."""
    conversation.unstage()
    conversation.start_over()
    conversation.unregained = True
    tell_not_regained(conversation, why)


def tell_not_regained(conversation: Conversation, why: str) -> None:
    """Tell that a conversation that our keepsake names is not entered so far."""
    context = conversation.context
    own = context.device.account
    whom = next((account for account, _ in context.vault.anchors.load(conversation.id) if account != own), "")
    context.emit(events.NotRegained(conversation.id, why, whom))


def pass_over(conversation: Conversation, stopped: events.Stopped) -> None:
    """Enter an open room again past a commit that cannot be processed; told once a session for each culprit."""
    told = ("passed over", conversation.id, stopped.culprit)
    if told not in conversation.context.alarmed:
        conversation.context.alarmed.add(told)
        conversation.context.emit(stopped)
    conversation.patience.lose(conversation.context.clock.monotonic())
    resync.supersede(conversation)


def keep_trying(conversation: Conversation, text: str) -> None:
    """The way back into an open room has failed: walk again later, and never give it up. Told once a session."""
    if ("way in", conversation.id) not in conversation.context.alarmed:
        conversation.context.alarmed.add(("way in", conversation.id))
        text = f"{text} It is tried again by itself; what you say waits."
        conversation.context.emit(events.Alarm("server", conversation.id, text))
    conversation.patience.lose(conversation.context.clock.monotonic())
    conversation.lost_track()
    conversation.astray = True


def go_on(conversation: Conversation, event: Literal["repaired", "retried"]) -> None:
    """Try again what stands. If our request to enter was on its way when the walk ended, it is what goes on.

    The server may have taken it: then its answer is the only way into the epoch that we have made.
    """
    conversation.advance(event)
    ours = conversation.staged.commit if conversation.staged is not None else None
    entering = ours is not None and ours.public.sender.type == SenderType.NEW_MEMBER_COMMIT
    if entering and conversation.row.phase in phases.READING:
        conversation.advance("superseded")


def _goes_on(conversation: Conversation) -> bool:
    """Whether what would stop us is passed by the user's word: our leaf is replaced in the state that we know."""
    return conversation.repairing and conversation.row.phase in phases.READING


def _wait(conversation: Conversation, what: Literal["cut-off", "not-found"]) -> None:
    conversation.advance("cut-off")
    conversation.walk = conversation.base = None
    conversation.context.emit(events.OutOfStep(conversation.id, what))


def _tell_waiting(conversation: Conversation) -> None:
    text = f"{conversation.row.name} has stopped: what you said or changed waits until /repair has rejoined it."
    keys: list[Key] = [("item", item) for item in conversation.context.vault.outbox.ids(conversation.id, after=0)]
    keys += [("change", change.id) for change in conversation.context.vault.changes.load(conversation.id)]
    for key in keys:
        if command := conversation.context.answers.waiting(key):
            conversation.context.emit(events.Delayed(conversation.id, "local", text, command=command))
