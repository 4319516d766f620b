"""The client without I/O: commands and the server's messages in, events and messages to the server out.

Everything happens in *units*: the commands that have piled up, or one batch of messages. A unit is one transaction of
the vault; its events and its messages to the server leave once it is on disk, and not before (invariant 5). If a unit
fails, memory may be ahead of the disk: the engine has ended, and the next start loads what is on disk.

One thread at a time. `link.runner` drives it from the thread that owns it; tests drive it by hand.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, Literal

from securechat import policy
from securechat.client import commands, events
from securechat.client.context import Clock, Context, Outgoing, ReplyHandler
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.decisions import Decisions
from securechat.client.conversations.registry import Registry
from securechat.client.conversations.rule_changes import OF_MEMBERS, subject
from securechat.client.conversations.welcomes import unanswered
from securechat.client.device import Device
from securechat.client.link.login import LoginProcedure
from securechat.client.settings import ClientSettings
from securechat.client.snapshot import Snapshot
from securechat.client.vault.conversations import Action, ChangeRow
from securechat.client.vault.vault import Vault
from securechat.content.registry import Accept, Body, Bye, Decline, Text, check_text, encode_body
from securechat.content.registry import Request as RequestToTalk
from securechat.errors import InternalError, PeerError, SecurechatError, UsageError
from securechat.identity import invite_line
from securechat.identity.pins import WRITTEN_TO
from securechat.names import normalise_account, normalise_room, normalise_title
from securechat.transport.tls import pin_of
from securechat.wire.limits import MAX_TOPIC
from securechat.wire.messages import (
    DirectoryNews,
    Entry,
    FromClient,
    FromServer,
    Hello,
    ListRooms,
    MemberList,
    Members,
    Presence,
    Refused,
    Reply,
    Request,
    Rooms,
    Seat,
    Truncated,
    Welcomed,
)

MAX_IGNORED: Final = 1000
"""Accounts that a user can ignore: as many as the largest room has members."""


class Engine:
    """One account at one server."""

    def __init__(self, settings: ClientSettings, vault: Vault, clock: Clock | None = None) -> None:
        """Load the vault's state. Raises `StorageError`."""
        with vault.transaction():
            device = Device.load_or_create(vault)
            self._context = Context(vault, device, clock or Clock(), accepts_from=settings.accept_invitations_of)
        self._registry = Registry(self._context)
        self._decisions = Decisions(self._context, self._registry)
        self._login = LoginProcedure(self._context, settings, seated=self._registry.begin)
        self._settings = settings
        self._pending: dict[int, ReplyHandler] = {}
        self._released: deque[Outgoing] = deque()
        self._events: list[events.Event] = []
        self._broken: SecurechatError | None = None
        self._disconnect_reason = ""
        self._questions: dict[int, str] = {}  # commands whose answer this connection would bring -> what they asked for
        self._handlers: dict[type[commands.Command], Callable[[Any], None]] = {
            commands.Send: self._send,
            commands.OpenDirect: self._open_direct,
            commands.Accept: self._accept,
            commands.Decline: self._decline,
            commands.Bye: self._bye,
            commands.Leave: self._leave,
            commands.Repair: self._repair,
            commands.JoinRoom: lambda command: self._enter_room(command.name, "open"),
            commands.CreateRoom: lambda command: self._enter_room(command.name, "invite"),
            commands.Invite: lambda command: self._change(command.conversation, "add", command.account),
            commands.AcceptInvitation: self._accept_invitation,
            commands.DeclineInvitation: self._decline_invitation,
            commands.MakeInviteLine: self._make_invite_line,
            commands.ListInviteLines: lambda _: self._show_invite_lines(),
            commands.RevokeInviteLine: self._revoke_invite_line,
            commands.UseInviteLine: self._use_invite_line,
            commands.Remove: lambda command: self._change(command.conversation, "remove", command.account),
            commands.SetOwner: lambda each: self._give(each.conversation, "owner", each.account, on=each.owner),
            commands.SetInviter: lambda each: self._give(each.conversation, "inviter", each.account, on=each.inviter),
            commands.Bar: self._bar,
            commands.Unbar: self._unbar,
            commands.SetTopic: self._set_topic,
            commands.Rename: self._rename,
            commands.ListRooms: self._list_rooms,
            commands.ListMembers: self._list_members,
            commands.ShowSafetyNumber: self._show_safety_number,
            commands.Verify: lambda command: self._decide(self._decisions.verify, command),
            commands.Trust: lambda command: self._decide(self._decisions.trust, command),
            commands.Distrust: lambda command: self._decide(self._decisions.refuse, command),
            commands.Confirm: self._confirm,
            commands.Ignore: lambda command: self._ignore(command.account, ignored=True),
            commands.Unignore: lambda command: self._ignore(command.account, ignored=False),
            commands.MarkShown: self._mark_shown,
        }
        self.snapshot = Snapshot()
        self._published_pins = -1
        self._publish([conversation.id for conversation in self._registry])

    # --- for its driver -------------------------------------------------------------------------------------------

    @property
    def account(self) -> str:
        """Our account."""
        return self._context.device.account

    @property
    def failure(self) -> SecurechatError | None:
        """The error that has ended the client for good, if any."""
        return self._broken or self._login.failure

    @property
    def disconnect_reason(self) -> str:
        """Why this connection has to be given up, if it has."""
        return self._disconnect_reason or self._login.disconnect_reason

    @property
    def retry_after(self) -> float:
        """How long the server wants us to stay away after this connection, in seconds."""
        return self._login.retry_after

    def do(self, batch: Iterable[commands.Command]) -> None:
        """Carry out commands in one transaction. One that makes no sense is refused and changes nothing.

        `StorageError` and `InternalError` end the client.
        """
        answers = self._context.answers
        with self._unit():
            for command in batch:
                answers.current = command.id
                before = self._context.vault.writes
                try:
                    if (handler := self._handlers.get(type(command))) is None:
                        raise UsageError("This program does not know that command.")
                    handler(command)
                except UsageError as error:
                    if self._context.vault.writes != before:
                        raise InternalError("a command failed halfway") from error
                    self._context.emit(events.Refused("local", str(error)))
                finally:
                    answers.current = 0

    def connected(self) -> None:
        """A connection is up: TLS is established and our hello is sent."""
        self._disconnect_reason = ""
        self._login.begin()

    def receive(self, messages: Iterable[FromServer]) -> None:
        """Process messages of the server. `StorageError` and `InternalError` end the client."""
        with self._unit():
            for message in messages:
                try:
                    self._dispatch(message)
                except PeerError as error:
                    self._disconnect_reason = f"The server broke the protocol: {error}"
                if self.disconnect_reason or self.failure:
                    break

    def disconnected(self) -> None:
        """The connection is gone. Whatever was on its way is in the vault and will be sent again."""
        self._pending.clear()
        self._released.clear()
        with self._unit():
            self._registry.end()
            self._login.begin()
            for command, what in self._questions.items():
                text = f"The connection was lost before the server told {what}. Ask again."
                self._context.emit(events.Refused("local", text, command=command))
            self._questions.clear()
        self._released.clear()

    def say_goodbye(self) -> None:
        """Prepare the end of the connection: acknowledge everything that is on our disk."""
        with self._unit():
            self._registry.acknowledge()

    @property
    def timer(self) -> float | None:
        """When to call `handle_timer`, on the monotonic clock."""
        return self._registry.timer

    def handle_timer(self) -> None:
        """Time has passed."""
        with self._unit():
            self._registry.handle_timer()

    def take_outgoing(self, free: int, next_id: Callable[[], int]) -> list[FromClient]:
        """Return the messages for the server; at most `free` requests, each with an id from `next_id`."""
        outgoing: list[FromClient] = []
        while self._released:
            message, handler = self._released[0]
            if isinstance(message, Request) and handler is not None:
                if free <= 0:
                    break
                free -= 1
                message.id = next_id()
                self._pending[message.id] = handler
            self._released.popleft()
            outgoing.append(message)
        return outgoing

    def take_events(self) -> list[events.Event]:
        """Return what happened since the last call."""
        taken, self._events = self._events, []
        return taken

    @contextmanager
    def _unit(self) -> Iterator[None]:
        """One transaction and its consequences. Whatever it raises ends this engine."""
        if self._broken is not None:
            raise InternalError("this client has ended") from self._broken
        context = self._context
        try:
            with context.vault.transaction():
                yield
                touched = self._registry.pump()
        except BaseException as error:
            if isinstance(error, SecurechatError) and not isinstance(error, UsageError):
                self._broken = error
                raise
            self._broken = InternalError(f"cut off halfway by {type(error).__name__}: {error}")
            if isinstance(error, UsageError):
                raise self._broken from error
            raise
        self._publish(touched)
        self._released.extend(context.outgoing)
        self._events.extend(context.events)
        context.outgoing.clear()
        context.events.clear()

    def _publish(self, touched: Iterable[bytes]) -> None:
        """Publish the changed conversations for front ends."""
        known, registry, pins = self.snapshot.conversations, self._registry, self._context.pins.version
        if pins != self._published_pins:
            touched, self._published_pins = [each.id for each in registry], pins
        changed = {each: conversation.snapshot() for each in touched if (conversation := registry.get(each))}
        questions = registry.welcomes.questions
        if (
            len(known) != len(registry)
            or any(known.get(each.id) != each for each in changed.values())
            or self.snapshot.invitations != questions
        ):
            now = ((known.get(each.id) if each.id not in changed else None) or each.snapshot() for each in registry)
            self.snapshot = Snapshot.of(now, registry.aliases, questions)

    def _dispatch(self, message: FromServer) -> None:
        if isinstance(message, Reply):
            self._pending.pop(message.id)(message)
        elif isinstance(message, Hello | Seat):
            self._login.receive(message)
        elif isinstance(message, Entry | Welcomed | Truncated | Presence | DirectoryNews):
            self._registry.receive(message)

    # --- talking --------------------------------------------------------------------------------------------------

    def _send(self, command: commands.Send) -> None:
        conversation = self._get(command.conversation)
        _check_text(command.text)
        if conversation.row.asked == "theirs":
            raise UsageError(f"{conversation.row.name} asks to talk with you: accept or decline first.")
        self._say(self._open_for_talk(conversation), Text(command.text), command.text)

    def _open_direct(self, command: commands.OpenDirect) -> None:
        account, text = normalise_account(command.account), command.text
        if account == self.account:
            raise UsageError("That is you. Choose somebody else to talk to.")
        if text:
            _check_text(text)
        conversation = self._registry.find(account)
        if conversation is not None and not conversation.row.closed:
            if text:
                self._send(commands.Send(conversation.id, text))
                return
            if self._open_for_talk(conversation).row.asked == "theirs":
                raise UsageError(f"{account} asks to talk with you: accept or decline first.")
            if conversation.row.phase in phases.READING:
                self._done()
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
        conversation.row.asked = ""
        self._say(conversation, Accept())
        conversation.tell("accepted", self.account)

    def _decline(self, command: commands.Decline) -> None:
        conversation = self._asked(command.conversation)
        conversation.row.asked = ""
        if self._decisions.accepted(conversation):
            self._say(conversation, Decline())
            conversation.close()
        else:  # nothing is written to a key that is not accepted: that we leave before we answered says the same
            self._context.touched.add(conversation.id)
            self._context.answers.wait_for(("item", conversation.close()))
        conversation.tell("declined", self.account)

    def _bye(self, command: commands.Bye) -> None:
        conversation = self._open_for_talk(self._get(command.conversation))
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
        conversation.tell("closed" if conversation.row.closed else "bye", self.account)

    def _leave(self, command: commands.Leave) -> None:
        conversation = self._get(command.conversation)
        if conversation.row.closed:
            raise UsageError("You have left this conversation already.")
        row = conversation.row
        if row.phase in phases.READING and row.owners == self.account and len(row.persons) > 1:
            raise UsageError(f"You are the only owner of {row.name}: name another one first, with /owner add NAME.")
        self._context.touched.add(conversation.id)
        self._context.answers.wait_for(("item", conversation.close()))
        conversation.tell("closed", self.account)
        if conversation.row.phase in phases.REPAIRABLE:
            self._registry.repair(conversation)  # a device can only leave a conversation that it follows
        elif conversation.row.phase in phases.AWAITING:
            conversation.end("You left before this was sent.")  # their Welcome may still come, and then begins it again

    def _repair(self, command: commands.Repair) -> None:
        conversation = self._get(command.conversation)
        contested = bool(conversation.doubts) or conversation.misnumbered
        disputed = conversation.row.phase in phases.READING and contested
        if conversation.row.phase not in phases.REPAIRABLE and not disputed:
            raise UsageError("There is nothing to repair: this conversation has not stopped.")
        self._context.answers.wait_for(("conversation", conversation.id))
        self._registry.repair(conversation)

    # --- rooms ----------------------------------------------------------------------------------------------------

    def _list_rooms(self, command: commands.ListRooms) -> None:
        def answer(reply: Reply) -> None:
            if isinstance(reply, Rooms):
                rooms = tuple(
                    events.RoomListed(room.name, room.kind, room.members, room.joined, room.topic)
                    for room in reply.rooms
                )
                self._context.emit(events.RoomList(rooms, command=command.id))
            self._answer_question(command, reply)

        self._ask(command, "which rooms there are", ListRooms(0), answer)

    def _accept_invitation(self, command: commands.AcceptInvitation) -> None:
        self._registry.welcomes.accept(command.conversation, command.question)
        self._done()

    def _decline_invitation(self, command: commands.DeclineInvitation) -> None:
        self._registry.welcomes.decline(command.conversation, command.question, never=command.never)
        self._done()

    def _make_invite_line(self, command: commands.MakeInviteLine) -> None:
        room = normalise_title(command.room) if command.room else ""
        settings = self._settings
        pin = settings.pin.strip().lower() if settings.ca_file is None else pin_of(settings.ca_file)
        blank = invite_line.InviteLine(settings.address, pin, command.code)
        blank.encode()  # refuses what no line can hold, before anything is kept
        voucher, mark = self._registry.lines.make(room, command.days)
        made = events.InviteLine(mark, room, voucher.until)
        self._context.emit(events.InviteLineMade(made, replace(blank, voucher=voucher).encode()))
        self._done()

    def _show_invite_lines(self) -> None:
        self._context.emit(events.InviteLines(self._registry.lines.listed()))
        self._done()

    def _revoke_invite_line(self, command: commands.RevokeInviteLine) -> None:
        self._registry.lines.revoke(command.mark)
        self._show_invite_lines()

    def _use_invite_line(self, command: commands.UseInviteLine) -> None:
        line = invite_line.decode(command.line, self._context.clock.milliseconds())
        self._context.answers.wait_for(("item", self._registry.lines.use(line)))

    def _list_members(self, command: commands.ListMembers) -> None:
        """Ask who is online: the server's word is taken for nothing else."""
        conversation = self._get(command.conversation)

        def answer(reply: Reply) -> None:
            if isinstance(reply, MemberList):
                online = {member.account for member in reply.members if member.online}
                absent = {each.account for each in reply.members if not each.published} - {self.account}
                now = conversation.snapshot()
                members = tuple((each, each in online, how) for each, how in zip(now.members, now.trust, strict=True))
                inside = conversation.row.phase in phases.INSIDE
                invited = {each.account for each in unanswered(conversation)} if inside else set()
                ignored = self._context.ignored if conversation.row.kind == "open" else set()
                hidden = ignored.intersection(conversation.row.members)
                self._context.emit(events.MemberList(
                    conversation.id,
                    members,
                    tuple(sorted(invited)),
                    tuple(sorted(hidden)),
                    tuple(sorted(absent.intersection(now.members))),
                    command=command.id,
                ))  # fmt: skip
            self._answer_question(command, reply)

        self._ask(command, "who is online", Members(0, conversation.id), answer)

    def _ask(self, command: commands.Command, what: str, request: FromClient, handler: ReplyHandler) -> None:
        if not self._registry.connected:
            raise UsageError("There is no connection to the server now.")
        self._questions[command.id] = what
        self._context.request(request, handler)

    def _answer_question(self, command: commands.Command, reply: Reply) -> None:
        if self._questions.pop(command.id, None) is None:
            return  # the same question was asked twice under one id, and is answered
        if isinstance(reply, Refused):
            self._context.emit(events.Refused(reply.code, reply.text, command=command.id))
        else:
            self._context.emit(events.Done(command=command.id))

    # --- trust ----------------------------------------------------------------------------------------------------

    def _show_safety_number(self, command: commands.ShowSafetyNumber) -> None:
        self._context.emit(self._decisions.show(normalise_account(command.account)))
        self._done()

    def _decide(
        self,
        decide: Callable[[str, str], events.Event],
        command: commands.Verify | commands.Trust | commands.Distrust,
    ) -> None:
        self._context.emit(decide(normalise_account(command.account), command.key))
        self._done()

    def _confirm(self, command: commands.Confirm) -> None:
        conversation = self._get(command.conversation)
        if conversation.asked_about is None:
            raise UsageError("Nothing waits for that here.")
        if command.question != conversation.question:
            raise UsageError("Others have come meanwhile. Look at who they are first.")
        conversation.confirm()
        self._context.touched.add(conversation.id)
        self._done()

    # --- reading --------------------------------------------------------------------------------------------------

    def _ignore(self, name: str, *, ignored: bool) -> None:
        context, account = self._context, normalise_account(name)
        if account == self.account:
            raise UsageError("That is you. Choose somebody else to ignore.")
        if (account in context.ignored) == ignored:
            raise UsageError(f"{account} is {'ignored already' if ignored else 'not ignored'}.")
        if ignored and len(context.ignored) >= MAX_IGNORED:
            raise UsageError(f"You ignore {MAX_IGNORED} accounts, and more are not kept: /unignore some of them first.")
        if ignored:
            context.vault.ignored.add(account)
            context.ignored.add(account)
        else:
            context.vault.ignored.remove(account)
            context.ignored.discard(account)
        context.vault.history.hide(account, hidden=ignored)
        context.emit(events.Ignored(account, ignored))
        self._done()

    def _mark_shown(self, command: commands.MarkShown) -> None:
        if not 0 <= command.local_id <= self._context.vault.history.last_id:
            raise UsageError("There is no such message.")
        self._context.vault.history.mark_shown(command.local_id)
        self._done()

    # --- details --------------------------------------------------------------------------------------------------

    def _done(self) -> None:
        """Answer the current command: it is done at once."""
        self._context.emit(events.Done())

    def _get(self, conversation: bytes) -> Conversation:
        found = self._registry.get(conversation)
        if found is None:
            raise UsageError("There is no such conversation.")
        return found

    def _open_for_talk(self, conversation: Conversation) -> Conversation:
        if conversation.row.closed:
            raise UsageError("This conversation is closed.")
        if conversation.row.phase in phases.STOPPED:
            raise UsageError("This conversation has stopped. /repair tries to rejoin it.")
        return conversation

    def _asked(self, conversation: bytes) -> Conversation:
        found = self._open_for_talk(self._get(conversation))
        if found.row.asked != "theirs":
            raise UsageError("Nobody asks to talk here.")
        return found

    def _say(self, conversation: Conversation, body: Body, text: str = "") -> None:
        """Put a body into the outbox; the current command is done once it is in the log."""
        context, vault = self._context, self._context.vault
        local_id = 0
        if text:
            line = vault.history.add(
                conversation.id, self.account, encode_body(body),
                own=True, trust="verified", device=context.device.id, written=context.clock.milliseconds(),
            )  # fmt: skip
            local_id = line.local_id
            context.emit(events.Said(line, command=context.answers.current))
        context.answers.wait_for(("item", conversation.put(body, local_id)))

    def _enter_room(self, name: str, kind: policy.Kind) -> None:
        name = normalise_room(name)
        conversation = self._registry.find(name)
        if conversation is not None and not conversation.row.closed:
            if not conversation.denied or not conversation.row.kind == kind == "open":
                raise UsageError(f"You are in {name} already.")
            self._registry.leave(conversation)  # the server knows nothing of us there: by the user's word we come anew
        self._context.answers.wait_for(("conversation", self._registry.add(kind, name).id))

    def _check_replaceable(self, room: Conversation, account: str) -> None:
        """Raise `UsageError` unless the user has accepted another key of somebody than the one that is in a room."""
        written_to = self._context.pins.of(account).written_to
        if written_to is not None and all(
            each.identity_key != written_to for each in room.present if each.account == account
        ):
            return
        absent = account in {each.account for each in room.absent}
        under = " under the key that you accept. /trust another one first" if absent else ""
        raise UsageError(f"{account} is in {room.row.name}{under}.")

    def _change(self, conversation: bytes, action: Literal["add", "remove", "replace"], account: str) -> None:
        account = normalise_account(account)
        room = self._open_for_talk(self._get(conversation))
        if room.row.phase not in phases.READING:
            raise UsageError("You are not in this room yet.")
        rules = policy.rules_of(room.group.public.extensions)
        own = policy.Identity(self.account, self._context.device.identity_key)
        if account == self.account:
            raise UsageError("That is you. /leave leaves a room.")
        here = account in room.row.members
        if action == "add" and here:
            self._check_replaceable(room, account)
            action = "replace"
        takes_back = here and account in {each.account for each in unanswered(room)}
        if own not in (rules.who_adds if action == "add" or takes_back else rules.owners):
            raise UsageError(f"Only the owner of {room.row.name} can do that.")
        if action == "remove" and not here:
            raise UsageError(f"{account} is not in {room.row.name}.")
        changes = self._context.vault.changes
        asked = next((each.id for each in changes.load(room.id) if (each.action, each.value) == (action, account)), 0)
        self._context.answers.wait_for(("change", asked or changes.add(room.id, action, account)))
        self._context.touched.add(room.id)

    def _owned(self, conversation: bytes) -> tuple[Conversation, policy.Rules]:
        """Return a room whose rules we may change, and these. Raises `UsageError`."""
        room = self._open_for_talk(self._get(conversation))
        if room.row.kind == "direct":
            raise UsageError("That is for rooms: a conversation of two has no owner.")
        if room.row.phase not in phases.READING:
            raise UsageError("You are not in this room yet.")
        rules = policy.rules_of(room.group.public.extensions)
        if not rules.owners:
            raise UsageError(f"{rules.name} belongs to nobody: only whoever runs the server keeps order there.")
        if policy.Identity(self.account, self._context.device.identity_key) not in rules.owners:
            raise UsageError(f"Only an owner of {rules.name} can do that.")
        return room, rules

    def _give(self, conversation: bytes, role: Literal["owner", "inviter"], account: str, *, on: bool) -> None:
        account = normalise_account(account)
        room, rules = self._owned(conversation)
        if role == "inviter" and rules.kind == "open":
            raise UsageError(f"Nobody has to be invited to {rules.name}: everybody can enter.")
        has = {each.account for each in (rules.owners if role == "owner" else rules.inviters)}
        if not on:
            if account not in has:
                raise UsageError(f"{account} is no {role} of {rules.name}.")
            if role == "owner" and len(has) == 1:
                raise UsageError(f"{rules.name} needs an owner: name another one first, with /owner add NAME.")
            self._change_rules(room, "no-owner" if role == "owner" else "no-inviter", account)
            return
        person = next((each for each in room.present if each.account == account), None)
        if person is None:
            raise UsageError(f"{account} is not in {rules.name}.")
        if account in has:
            raise UsageError(f"{account} is an {role} of {rules.name} already.")
        if role == "inviter" and account in {each.account for each in rules.owners}:
            raise UsageError(f"{account} is an owner of {rules.name}, and may invite anyway.")
        if self._context.pins.standing(account, person.identity_key) not in ("unknown", *WRITTEN_TO):
            raise UsageError(f"The key of {account} is not the one that you know. See /safety {account} first.")
        self._change_rules(room, role, account, person.identity_key)

    def _bar(self, command: commands.Bar) -> None:
        account = normalise_account(command.account)
        room, rules = self._owned(command.conversation)
        if account == self.account:
            raise UsageError("That is you. /leave leaves a room.")
        if account in rules.barred:
            raise UsageError(f"{account} is barred from {rules.name} already.")
        self._change_rules(room, "bar", account)

    def _unbar(self, command: commands.Unbar) -> None:
        account = normalise_account(command.account)
        room, rules = self._owned(command.conversation)
        if account not in rules.barred:
            raise UsageError(f"{account} is not barred from {rules.name}.")
        self._change_rules(room, "unbar", account)

    def _set_topic(self, command: commands.SetTopic) -> None:
        room, rules = self._owned(command.conversation)
        topic = command.topic.strip()
        if len(topic) > MAX_TOPIC:
            raise UsageError(f"A topic has at most {MAX_TOPIC} characters.")
        if topic == rules.topic:
            raise UsageError(f"That is the topic of {rules.name} already.")
        self._change_rules(room, "topic", topic)

    def _rename(self, command: commands.Rename) -> None:
        name = normalise_room(command.name)
        room, rules = self._owned(command.conversation)
        if name == rules.name:
            raise UsageError("That is its name already.")
        self._change_rules(room, "rename", name)

    def _change_rules(self, room: Conversation, action: Action, value: str, data: bytes = b"") -> None:
        """Keep a change of the rules, in place of one about the same thing; done once a commit has made it."""
        changes, answers = self._context.vault.changes, self._context.answers
        new = ChangeRow(0, action, value, data)
        for each in changes.load(room.id):
            if each.action not in OF_MEMBERS and subject(each) == subject(new):
                changes.delete(each.id)
                answers.refuse(("change", each.id), "local", "Another change took the place of this one.")
        answers.wait_for(("change", changes.add(room.id, action, value, data)))
        self._context.touched.add(room.id)


def _check_text(text: str) -> None:
    if not text:
        raise UsageError("There is nothing to send.")
    check_text(text)
