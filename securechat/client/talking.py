"""What the user says and changes in conversations: the commands that name one, or open one.

What is said goes into the vault and the outbox, and its command is done once it is in the log.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from securechat import policy
from securechat.client import commands, events
from securechat.client.context import Context
from securechat.client.conversations import amending, governing, holds, phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.decisions import Decisions
from securechat.client.conversations.registry import Registry
from securechat.client.vault.history import Target
from securechat.content.registry import Accept, Action, Body, Bye, Decline, Text, check_text, encode_body
from securechat.content.registry import Request as RequestToTalk
from securechat.errors import UsageError
from securechat.names import normalise_account, normalise_room

_BLOCKED: Final = "You have blocked {0}. /unblock {0} first, if you want to talk."


class Talking:
    """Carries these commands out, in the engine's units."""

    def __init__(self, context: Context, registry: Registry, decisions: Decisions) -> None:
        self._context = context
        self._registry = registry
        self._decisions = decisions
        self.handlers: Final[Mapping[type[commands.Command], Callable[[Any], None]]] = {
            commands.Send: self._send,
            commands.Act: self._act,
            commands.Reply: self._reply,
            commands.Edit: self._edit,
            commands.Delete: self._delete,
            commands.React: self._react,
            commands.OpenDirect: self._open_direct,
            commands.Accept: self._accept,
            commands.Decline: self._decline,
            commands.Bye: self._bye,
            commands.Leave: self._leave,
            commands.Repair: self._repair,
            commands.JoinRoom: lambda command: self._enter_room(command.name, "open"),
            commands.CreateRoom: lambda command: self._enter_room(command.name, "invite"),
            commands.Invite: lambda each: governing.change(self._open(each.conversation), "add", each.account),
            commands.Remove: lambda each: governing.change(self._open(each.conversation), "remove", each.account),
            commands.SetOwner: lambda each: governing.give(
                self._open(each.conversation), "owner", each.account, on=each.owner
            ),
            commands.SetInviter: lambda each: governing.give(
                self._open(each.conversation), "inviter", each.account, on=each.inviter
            ),
            commands.Bar: lambda each: governing.bar(self._open(each.conversation), each.account),
            commands.Unbar: lambda each: governing.unbar(self._open(each.conversation), each.account),
            commands.SetTopic: lambda each: governing.set_topic(self._open(each.conversation), each.topic),
            commands.SetLife: lambda each: governing.set_life(self._open(each.conversation), each.seconds),
            commands.Rename: lambda each: governing.rename(self._open(each.conversation), each.name),
            commands.Confirm: self._confirm,
        }
        """How each command is carried out."""

    def _send(self, command: commands.Send) -> None:
        self._talk(command.conversation, Text(command.text), command.text)

    def _act(self, command: commands.Act) -> None:
        self._talk(command.conversation, Action(command.text), command.text)

    def _talk(self, conversation: bytes, body: Body, text: str, about: Target | None = None) -> None:
        found = self._registry.wanted(conversation)
        _check_text(text)
        if found.row.asked == "theirs":
            raise UsageError(f"{found.row.name} asks to talk with you: accept or decline first.")
        self._say(_check_open(found), body, text, about=about)

    def _reply(self, command: commands.Reply) -> None:
        line, body = amending.reply(self._context, command.local_id, command.text)
        self._talk(line.conversation, body, command.text, line)

    def _edit(self, command: commands.Edit) -> None:
        line, body = amending.edit(self._context, command.local_id, command.text)
        self._say(self._open(line.conversation), body, about=line)

    def _delete(self, command: commands.Delete) -> None:
        line, body = amending.delete(self._context, command.local_id, self._registry.wanted)
        self._say(self._open(line.conversation), body, about=line)

    def _react(self, command: commands.React) -> None:
        line, body = amending.react(self._context, command.local_id, command.text, remove=command.remove)
        self._say(self._open(line.conversation), body, about=line)

    def _open_direct(self, command: commands.OpenDirect) -> None:
        account, text = normalise_account(command.account), command.text
        if account == self._context.device.account:
            raise UsageError("That is you. Choose somebody else to talk to.")
        if self._context.blocks(account):
            raise UsageError(_BLOCKED.format(account))
        if text:
            _check_text(text)
        conversation = self._registry.find(account)
        if conversation is not None and conversation.unregained and not conversation.row.closed:
            self._registry.leave(conversation)  # there is no way into it: by the user's word we come anew
        if conversation is not None and not conversation.row.closed:
            if text:
                self._send(commands.Send(conversation.id, text))
                return
            if _check_open(conversation).row.asked == "theirs":
                raise UsageError(f"{account} asks to talk with you: accept or decline first.")
            if conversation.row.phase in phases.READING:
                self._context.emit(events.Done())
            else:
                self._context.answers.wait_for(("conversation", conversation.id))
            return
        conversation = self._registry.add("direct", account)
        if command.ask:
            conversation.row.asked = "ours"
            self._say(conversation, RequestToTalk(text), text)
        elif text:
            self._say(conversation, Text(text), text)
        else:
            self._context.answers.wait_for(("conversation", conversation.id))

    def _accept(self, command: commands.Accept) -> None:
        conversation = self._asked(command.conversation)
        self._decisions.accept(conversation)
        if conversation.is_unheard:  # it was found all the same, after a no
            self._context.hear_again(conversation.row.name)
            self._context.vault.history.hide(conversation.row.name, hidden=False, kind="direct")
        conversation.row.asked = ""
        self._say(conversation, Accept())
        conversation.tell("accepted", self._context.device.account)

    def _decline(self, command: commands.Decline) -> None:
        conversation = self._asked(command.conversation)
        self._context.said_no(conversation.row.name)
        conversation.row.asked = ""
        if self._decisions.accepted(conversation):
            self._say(conversation, Decline())
            conversation.close()
        else:  # nothing is written to a key that is not accepted: that we leave before we answered says the same
            self._context.touched.add(conversation.id)
            self._context.answers.wait_for(("item", conversation.close()))
        conversation.tell("declined", self._context.device.account)

    def _bye(self, command: commands.Bye) -> None:
        conversation = self._open(command.conversation)
        if conversation.row.kind != "direct":
            raise UsageError("Goodbye is for conversations of two. /leave leaves a room.")
        if conversation.row.asked == "theirs":
            raise UsageError(f"{conversation.row.name} asks to talk with you: accept or decline first.")
        if conversation.row.own_bye:
            raise UsageError(f"You have said goodbye. {conversation.row.name} has not yet.")
        conversation.row.own_bye = True
        self._say(conversation, Bye())
        if conversation.row.their_bye:
            conversation.close()
        conversation.tell("closed" if conversation.row.closed else "bye", self._context.device.account)

    def _leave(self, command: commands.Leave) -> None:
        conversation = self._registry.wanted(command.conversation)
        if conversation.row.closed:
            raise UsageError("You have left this conversation already.")
        row = conversation.row
        if row.phase in phases.READING and row.owners == self._context.device.account and len(row.persons) > 1:
            raise UsageError(f"You are the only owner of {row.name}: name another one first, with /owner add NAME.")
        self._context.touched.add(conversation.id)
        self._context.answers.wait_for(("item", conversation.close()))
        conversation.tell("leaving", self._context.device.account)
        if conversation.row.phase in phases.REPAIRABLE:
            self._registry.repair(conversation)  # a device can only leave a conversation that it follows
        elif conversation.row.phase in phases.AWAITING:
            conversation.end("You left before this was sent.")  # their Welcome may still come, and then begins it again
        self._registry.reopening.left(conversation)

    def _repair(self, command: commands.Repair) -> None:
        conversation = self._registry.wanted(command.conversation)
        contested = bool(conversation.doubts) or conversation.misnumbered
        disputed = conversation.row.phase in phases.READING and contested
        if conversation.row.phase not in phases.REPAIRABLE and not disputed:
            raise UsageError("There is nothing to repair: this conversation has not stopped.")
        self._context.answers.wait_for(("conversation", conversation.id))
        self._registry.repair(conversation)

    def _enter_room(self, name: str, kind: policy.Kind) -> None:
        name = normalise_room(name)
        conversation = self._registry.find(name)
        if conversation is not None and not conversation.row.closed:
            if not conversation.denied or not conversation.row.kind == kind == "open":
                raise UsageError(f"You are in {name} already.")
            self._registry.leave(conversation)  # the server knows nothing of us there: by the user's word we come anew
        self._context.answers.wait_for(("conversation", self._registry.add(kind, name).id))

    def _confirm(self, command: commands.Confirm) -> None:
        conversation = self._registry.wanted(command.conversation)
        if conversation.asked_about is None:
            raise UsageError("Nothing waits for that here.")
        if command.question != conversation.question:
            raise UsageError("Others have come meanwhile. Look at who they are first.")
        holds.confirm(conversation)
        self._context.touched.update(each.id for each in self._registry.named(conversation.row.name))
        self._context.emit(events.Done())

    def _open(self, conversation: bytes) -> Conversation:
        return _check_open(self._registry.wanted(conversation))

    def _asked(self, conversation: bytes) -> Conversation:
        found = self._open(conversation)
        if found.row.asked != "theirs":
            raise UsageError("Nobody asks to talk here.")
        return found

    def _say(self, conversation: Conversation, body: Body, text: str = "", about: Target | None = None) -> None:
        """Put a body into the outbox; the current command is done once it is in the log. `about`: as for `put`."""
        line_about = about.local_id if about is not None else 0
        context, vault = self._context, self._context.vault
        local_id = 0
        if text:
            line = vault.history.add(
                conversation.id, self._context.device.account, encode_body(body),
                own=True, trust="verified", device=context.device.id, author=context.device.identity_key,
                about=line_about, written=context.clock.milliseconds(),
            )  # fmt: skip
            local_id = line.local_id
            context.emit(events.Said(line, command=context.answers.current))
        context.answers.wait_for(("item", conversation.put(body, local_id, about=line_about)))


def _check_text(text: str) -> None:
    if not text:
        raise UsageError("There is nothing to send.")
    check_text(text)


def _check_open(conversation: Conversation) -> Conversation:
    """Return a conversation, if anything can be said or changed there. Raises `UsageError`."""
    if conversation.row.closed:
        raise UsageError("This conversation is closed.")
    if conversation.row.kind == "direct" and conversation.context.blocks(conversation.row.name):
        raise UsageError(_BLOCKED.format(conversation.row.name))
    if conversation.row.phase in phases.STOPPED:
        raise UsageError("This conversation has stopped. /repair tries to rejoin it.")
    return conversation
