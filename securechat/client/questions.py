"""What the user asks of the server. Each question is answered on the connection that it was asked on, or not at all."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from securechat.client import commands, events
from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.registry import Registry
from securechat.client.conversations.roster import unanswered
from securechat.client.device import mark
from securechat.client.errands import ReplyHandler
from securechat.errors import UsageError
from securechat.wire.messages import Done as WireDone
from securechat.wire.messages import (
    EndSession,
    FetchSessions,
    FromClient,
    ListRooms,
    MemberList,
    Members,
    Refused,
    Reply,
    Rooms,
    SessionList,
)


class Questions:
    """What was asked and is not answered yet."""

    def __init__(self, context: Context, registry: Registry) -> None:
        self._context = context
        self._registry = registry
        self._marks: dict[str, bytes] = {}  # of the sessions that were listed last
        self._open: dict[int, str] = {}  # commands whose answer this connection would bring -> what they asked for
        self.handlers: Final[Mapping[type[commands.Command], Callable[[Any], None]]] = {
            commands.ListRooms: self._list_rooms,
            commands.ListMembers: self._list_members,
            commands.ListSessions: self._list_sessions,
            commands.EndSession: self._end_session,
        }
        """How each command is carried out."""

    def end(self) -> None:
        """The connection is gone, and with it every answer that was on its way."""
        for command, what in self._open.items():
            text = f"The connection was lost before the server told {what}. Ask again."
            self._context.emit(events.Refused("local", text, command=command))
        self._open.clear()

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

    def _list_members(self, command: commands.ListMembers) -> None:
        """Ask who is online: the server's word is taken for nothing else."""
        conversation = self._registry.wanted(command.conversation)

        def answer(reply: Reply) -> None:
            if isinstance(reply, MemberList):
                online = {member.account for member in reply.members if member.online}
                absent = {each.account for each in reply.members if not each.published} - {self._context.device.account}
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
                    now.heard,
                    command=command.id,
                ))  # fmt: skip
            self._answer_question(command, reply)

        self._ask(command, "who is online", Members(0, conversation.id), answer)

    def _list_sessions(self, command: commands.ListSessions) -> None:
        def answer(reply: Reply) -> None:
            if isinstance(reply, SessionList):
                self._marks = {mark(each.device): each.device for each in reply.sessions}
                names, own = dict(self._context.vault.device_names.load()), self._context.device.id
                shown = tuple(
                    events.SessionShown(
                        mark(each.device), names.get(each.device, ""), each.device == own, each.online, each.address,
                        each.used, each.expires,
                    )
                    for each in reply.sessions
                )  # fmt: skip
                self._context.emit(events.OwnSessions(shown, command=command.id))
            self._answer_question(command, reply)

        self._ask(command, "where you are logged in", FetchSessions(0), answer)

    def _end_session(self, command: commands.EndSession) -> None:
        device = self._context.device
        wanted = self._marks.get(command.device) if command.device else device.id
        if wanted is None:
            raise UsageError(f"No session of {command.device} was listed. /sessions lists them.")

        def answer(reply: Reply) -> None:
            if isinstance(reply, WireDone) and wanted == device.id:
                device.keep_token(device.row.token, 0)  # it shows that we were in
            self._answer_question(command, reply)

        self._ask(command, "whether that session has ended", EndSession(0, wanted), answer)

    def _ask(self, command: commands.Command, what: str, request: FromClient, handler: ReplyHandler) -> None:
        if not self._registry.connected:
            raise UsageError("There is no connection to the server now.")
        self._open[command.id] = what
        self._context.request(request, handler)

    def _answer_question(self, command: commands.Command, reply: Reply) -> None:
        if self._open.pop(command.id, None) is None:
            return  # the same question was asked twice under one id, and is answered
        if isinstance(reply, Refused):
            self._context.emit(events.Refused(reply.code, reply.text, command=command.id))
        else:
            self._context.emit(events.Done(command=command.id))
