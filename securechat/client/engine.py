"""The client without I/O: commands and the server's messages in, events and messages to the server out.

Everything happens in *units*: one command, or one batch of messages. A unit is one transaction of the vault; its events
and its messages to the server are let out when it is on disk, and only then (invariant 5). If a unit fails, memory may
be ahead of the disk: the engine is finished then, and the next start loads what is there.

One thread at a time. `core` drives it from threads, tests drive it by hand.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

from securechat import policy
from securechat.client import events
from securechat.client.context import Clock, Context, Outgoing, ReplyHandler
from securechat.client.conversations.log import Conversation
from securechat.client.conversations.outbox import envelope_to_place
from securechat.client.conversations.registry import Registry
from securechat.client.device import Device
from securechat.client.link.login import Session
from securechat.client.settings import ClientSettings
from securechat.client.vault.conversations import Phase
from securechat.client.vault.vault import Vault
from securechat.content.registry import Accept, Body, Bye, Decline, Text, check_text, encode_body
from securechat.content.registry import Request as RequestToTalk
from securechat.errors import InternalError, PeerError, SecurechatError, UsageError
from securechat.names import normalise_account, normalise_room
from securechat.wire.messages import (
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


class Engine:
    """One account at one server. Commands raise `UsageError` where they make no sense, and change nothing then."""

    def __init__(self, settings: ClientSettings, vault: Vault, clock: Clock | None = None) -> None:
        """Take up what the vault has. Raises `StorageError`."""
        with vault.transaction():
            device = Device.load_or_create(vault)
            self._context = Context(vault, device, clock or Clock())
            self._context.pins.set_own(device.account, device.identity_key)
        self._registry = Registry(self._context)
        self._session = Session(self._context, settings, seated=self._registry.begin)
        self._pending: dict[int, ReplyHandler] = {}
        self._released: deque[Outgoing] = deque()
        self._events: list[events.Event] = []
        self._broken: SecurechatError | None = None
        self._setback = ""

    # --- for whoever drives it ------------------------------------------------------------------------------------

    @property
    def account(self) -> str:
        """Our account."""
        return self._context.device.account

    @property
    def failure(self) -> SecurechatError | None:
        """What ends the client for good, if anything has."""
        return self._broken or self._session.failure

    @property
    def setback(self) -> str:
        """Why this connection has to be given up, if it has."""
        return self._setback or self._session.setback

    @property
    def retry_after(self) -> float:
        """How long the server wants us to stay away after this setback, in seconds."""
        return self._session.retry_after

    def connected(self) -> None:
        """A connection is up, TLS and hello included on our side."""
        self._setback = ""
        self._session.begin()

    def receive(self, messages: Iterable[FromServer]) -> None:
        """Process what the server has sent. Raises `StorageError` or `InternalError`: both are the end."""
        with self._unit():
            for message in messages:
                try:
                    self._dispatch(message)
                except PeerError as error:
                    self._setback = f"The server broke the protocol: {error}"
                except UsageError as error:
                    raise InternalError(str(error)) from error
                if self.setback or self.failure:
                    break

    def disconnected(self) -> None:
        """The connection is gone. What was on its way is in the vault and is sent again."""
        self._pending.clear()
        self._released.clear()
        with self._unit():
            self._registry.end()
            self._session.begin()
        self._released.clear()

    def say_goodbye(self) -> None:
        """Prepare the end of the connection: acknowledge what is on our disk."""
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
        """Return what has to go to the server now; at most `free` requests, each with an id from `next_id`."""
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
        if self._broken is not None:
            raise UsageError("This client has ended.")
        context = self._context
        try:
            with context.vault.transaction():
                try:
                    yield
                except UsageError:
                    if context.touched or context.outgoing:
                        raise InternalError("a command failed halfway") from None
                    raise
                try:
                    self._registry.pump()
                except UsageError as error:
                    raise InternalError(str(error)) from error
        except UsageError:
            raise
        except BaseException as error:
            if isinstance(error, SecurechatError):
                self._broken = error
            else:
                self._broken = InternalError(f"cut off halfway by {type(error).__name__}")
            raise
        self._released.extend(context.outgoing)
        self._events.extend(context.events)
        context.outgoing.clear()
        context.events.clear()

    def _dispatch(self, message: FromServer) -> None:
        if isinstance(message, Reply):
            self._pending.pop(message.id)(message)
        elif isinstance(message, Hello | Seat):
            self._session.receive(message)
        elif isinstance(message, Entry | Welcomed | Truncated | Presence):
            self._registry.receive(message)

    # --- what is there --------------------------------------------------------------------------------------------

    def conversations(self) -> list[events.Conversation]:
        """Return all conversations, oldest first."""
        return [conversation.snapshot() for conversation in self._registry]

    def find(self, name: str) -> events.Conversation | None:
        """Return the newest conversation called so: `#room`, or an account."""
        conversation = self._registry.find(normalise_room(name) if name.startswith("#") else normalise_account(name))
        return None if conversation is None else conversation.snapshot()

    def history(self, conversation: bytes, limit: int) -> list[events.Message]:
        """Return the newest `limit` lines, in the log's order; what the server has not accepted yet comes last."""
        return self._context.vault.history.newest(self._get(conversation).id, limit)

    def unread(self, limit: int) -> list[events.Message]:
        """Return the oldest `limit` lines of others that no front end has shown, in order of arrival."""
        history = self._context.vault.history
        return history.unread(history.shown(), limit)

    def mark_shown(self, local_id: int) -> None:
        """Note that the user has seen everything that came in up to a line."""
        with self._context.vault.transaction():
            self._context.vault.history.mark_shown(local_id)

    def safety_number(self, account: str) -> str:
        """Return the 60 digits that both people compare."""
        context = self._context
        return context.pins.safety_number(context.device.identity_key, self.account, normalise_account(account))

    # --- talking --------------------------------------------------------------------------------------------------

    def send(self, conversation: bytes, text: str) -> int:
        """Say something. Returns the line's local id; the line is in the vault."""
        with self._unit():
            there = self._get(conversation)
            _check_text(text)
            if there.row.asked == "theirs":
                raise UsageError(f"{there.row.name} asks to talk with you: accept or decline first.")
            return self._say(self._open_for_talk(there), Text(text), text)

    def open_direct(self, account: str, text: str, *, ask: bool) -> None:
        """Talk to somebody, in the conversation there is or in a new one; with `ask` they accept or decline first."""
        account = normalise_account(account)
        if account == self.account:
            raise UsageError("That is you. Choose somebody else to talk to.")
        if text:
            _check_text(text)
        there = self._registry.find(account)
        if there is not None and not there.row.closed:
            if text:
                self.send(there.id, text)
            return
        with self._unit():
            there = self._registry.add("direct", account, "opening")
            if ask:
                there.row.asked = "ours"
                self._say(there, RequestToTalk(text), text)
            elif text:
                self._say(there, Text(text), text)

    def accept(self, conversation: bytes) -> None:
        """Say yes to somebody who asks to talk."""
        with self._unit():
            there = self._asked(conversation)
            there.row.asked = ""
            self._say(there, Accept())
            there.tell("accepted", self.account)

    def decline(self, conversation: bytes) -> None:
        """Say no to somebody who asks to talk: closes the conversation."""
        with self._unit():
            there = self._asked(conversation)
            there.row.asked = ""
            self._say(there, Decline())
            there.close()
            there.tell("declined", self.account)

    def bye(self, conversation: bytes) -> None:
        """Say goodbye in a direct conversation; it closes when both have."""
        with self._unit():
            there = self._open_for_talk(self._get(conversation))
            if there.row.kind != "direct":
                raise UsageError("Goodbye is for conversations of two. /leave leaves a room.")
            if there.row.own_bye:
                raise UsageError(f"You have said goodbye. {there.row.name} has not yet.")
            there.row.own_bye = True
            self._say(there, Bye())
            if there.row.their_bye:
                there.close()
            there.tell("closed" if there.row.closed else "bye", self.account)

    def leave(self, conversation: bytes) -> None:
        """Leave, after everything said before is in the log."""
        with self._unit():
            there = self._get(conversation)
            if there.row.closed:
                raise UsageError("You have left this conversation already.")
            self._context.touched.add(there.id)
            there.close()
            if there.row.phase == "stopped":
                self._registry.repair(there)  # one can only leave what one can follow
            elif there.row.phase == "awaiting":
                there.end("You left before this was sent.")  # their Welcome may still come, and is a new beginning
            there.tell("closed", self.account)

    def repair(self, conversation: bytes) -> None:
        """Enter a stopped conversation anew, by an external commit."""
        with self._unit():
            there = self._get(conversation)
            if there.row.phase != "stopped":
                raise UsageError("There is nothing to repair: this conversation has not stopped.")
            self._registry.repair(there)

    # --- rooms ----------------------------------------------------------------------------------------------------

    def join_room(self, name: str) -> None:
        """Enter an open room, which is made if there is none of that name."""
        self._enter_room(name, "open", "joining")

    def create_room(self, name: str) -> None:
        """Make an invite room that is ours."""
        self._enter_room(name, "invite", "founding")

    def invite(self, conversation: bytes, account: str) -> None:
        """Add somebody to an invite room."""
        self._change(conversation, "add", normalise_account(account))

    def remove(self, conversation: bytes, account: str) -> None:
        """Remove somebody from a room that is ours."""
        self._change(conversation, "remove", normalise_account(account))

    def list_rooms(self) -> None:
        """Ask for the rooms one could enter: comes as `RoomList`."""

        def answer(reply: Reply) -> None:
            if isinstance(reply, Rooms):
                rooms = (events.RoomListed(room.name, room.kind, room.members, room.joined) for room in reply.rooms)
                self._context.emit(events.RoomList(tuple(rooms)))
            else:
                self._tell_refusal(reply)

        with self._unit():
            self._check_connected()
            self._context.request(ListRooms(0), answer)

    def list_members(self, conversation: bytes) -> None:
        """Ask who is in a conversation: comes as `MemberList`. The server's word is only taken for who is online."""

        def answer(reply: Reply) -> None:
            if isinstance(reply, MemberList):
                online = {member.account for member in reply.members if member.online}
                members = tuple((account, account in online) for account in there.row.members)
                self._context.emit(events.MemberList(there.id, members))
            else:
                self._tell_refusal(reply)

        with self._unit():
            there = self._get(conversation)
            self._check_connected()
            self._context.request(Members(0, there.id), answer)

    # --- trust ----------------------------------------------------------------------------------------------------

    def verify(self, account: str) -> None:
        """Note that the user has compared the safety number of an account."""
        self._decide(account, verified=True)

    def trust(self, account: str) -> None:
        """Accept the changed key of an account without comparing it."""
        self._decide(account, verified=False)

    def _decide(self, account: str, *, verified: bool) -> None:
        account = normalise_account(account)
        with self._unit():
            self._context.pins.decide(account, verified=verified)
            for conversation in self._registry:
                if account == conversation.row.name or account in conversation.row.members:
                    self._context.touched.add(conversation.id)

    # --- details --------------------------------------------------------------------------------------------------

    def _get(self, conversation: bytes) -> Conversation:
        there = self._registry.get(conversation)
        if there is None:
            raise UsageError("There is no such conversation.")
        return there

    def _open_for_talk(self, there: Conversation) -> Conversation:
        if there.row.closed:
            raise UsageError("This conversation is closed.")
        if there.row.phase == "stopped":
            raise UsageError("This conversation stands still. /repair enters it anew.")
        return there

    def _asked(self, conversation: bytes) -> Conversation:
        there = self._open_for_talk(self._get(conversation))
        if there.row.asked != "theirs":
            raise UsageError("Nobody asks to talk here.")
        return there

    def _say(self, there: Conversation, body: Body, text: str = "") -> int:
        vault, device = self._context.vault, self._context.device
        now = self._context.clock.milliseconds()
        local_id = 0
        if text:
            line = vault.history.add(
                there.id, self.account, encode_body(body), own=True, trust="verified", device=device.id
            )
            local_id = line.local_id
        vault.outbox.add(there.id, "message", envelope_to_place(body, now), local_id)
        self._context.touched.add(there.id)
        return local_id

    def _enter_room(self, name: str, kind: policy.Kind, phase: Phase) -> None:
        name = normalise_room(name)
        there = self._registry.find(name)
        if there is not None and not there.row.closed:
            raise UsageError(f"You are in {name} already.")
        with self._unit():
            self._registry.add(kind, name, phase)

    def _change(self, conversation: bytes, action: Literal["add", "remove"], account: str) -> None:
        with self._unit():
            there = self._open_for_talk(self._get(conversation))
            if there.row.phase != "member":
                raise UsageError("You are not in this room yet.")
            rules = policy.rules_of(there.group.public.extensions)
            own_key = self._context.device.identity_key
            if own_key not in rules.owners and (action == "remove" or own_key not in rules.inviters):
                raise UsageError(f"Only the owner of {there.row.name} can do that.")
            if (account in there.row.members) == (action == "add"):
                raise UsageError(f"{account} is {'' if action == 'add' else 'not '}in {there.row.name}.")
            self._context.vault.changes.add(there.id, action, account)
            self._context.touched.add(there.id)

    def _check_connected(self) -> None:
        if not self._registry.connected:
            raise UsageError("There is no connection to the server now.")

    def _tell_refusal(self, reply: Reply) -> None:
        if isinstance(reply, Refused):
            self._context.emit(events.Refused(reply.code, reply.text))


def _check_text(text: str) -> None:
    if not text:
        raise UsageError("There is nothing to send.")
    check_text(text)
