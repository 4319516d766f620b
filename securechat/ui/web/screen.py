"""What a page shows, and what it asks: the view model's values as JSON, and only what has changed of them.

    core -> page   {"method": "rows", "params": {"where": "8f3c...", "start": 12, "removed": 0, "rows": [...]}}
    page -> core   {"jsonrpc": "2.0", "id": 7, "method": "React", "params": {"local_id": 12, "text": "..."}}
    core -> page   {"jsonrpc": "2.0", "id": 7, "result": null}

A page asks for the commands of the core, written as `ui.rpc.codec` has them, and for what it wants to see: `wishes`.
What is typed goes to the session that all faces have (`ui.session`). One thread at a time; what is put to a page does
not wait.
"""

from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

from securechat.clean import clean, clean_line
from securechat.client.commands import Command, MarkShown, SaveFile, Visit
from securechat.client.events import (
    Delayed,
    Done,
    Event,
    Held,
    PasswordWanted,
    Ready,
    Received,
    Refused,
    RoomList,
    SafetyNumber,
    Transferred,
    Unreachable,
)
from securechat.errors import RefusedError, SecurechatError, UsageError
from securechat.ui.exit_codes import ExitCode, exit_code
from securechat.ui.objects import conversation_of, to_json
from securechat.ui.rpc.codec import InvalidRequestError, Read, decode_request, encode_error, encode_result
from securechat.ui.session.chat import Chat
from securechat.ui.session.sharing import downloads
from securechat.ui.session.verbs import VERBS
from securechat.ui.text.states import why_password
from securechat.ui.text.wording import title
from securechat.ui.view.completion import complete
from securechat.ui.view.listing import Listing
from securechat.ui.view.news import News
from securechat.ui.view.notify import notification
from securechat.ui.view.query import query_of
from securechat.ui.view.rows import Row, line_of, splices
from securechat.ui.view.status import Link, Typists
from securechat.ui.view.timeline import Timeline
from securechat.ui.web import wishes
from securechat.ui.web.drawing import (
    about_object,
    invitation_object,
    item_object,
    number_objects,
    room_object,
    row_object,
)
from securechat.ui.web.files import Files

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

FOUND: Final = 30
"""Messages that a search shows at once."""

Put = Callable[[bytes], object]


class Screen:
    """What one person sees, on whatever page is there; a page that comes later goes on where the one before was."""

    def __init__(self, client: "ChatClient") -> None:
        self._client = client
        self._put: Put | None = None
        self._listing = Listing(client)
        self._news = News(client)
        self._link = Link()
        self._typists = Typists(monotonic)
        self._timeline: Timeline | None = None
        self._rows: tuple[Row, ...] = ()  # as the page has them
        self._sent: dict[str, bytes] = {}  # the newest text of each kind that is sent whole
        self._calls: dict[int, int] = {}  # command -> how the page calls it
        self._shown: list[str] | None = None  # what the session shows while it carries out a line; else nothing is kept
        self._chat = Chat(client, self._show, piped=False)
        self._placed = b""  # the conversation where the session was last
        self._files = Files(self._do)
        self._newest_shown = self._newest_marked = 0

    @property
    def due(self) -> float:
        """When something changes although nothing happens, in monotonic seconds: somebody has stopped typing."""
        return self._typists.due

    def close(self) -> None:
        """Remove what lies in files."""
        self._files.close()

    # --- pages ----------------------------------------------------------------------------------------------------

    def show_on(self, put: Put | None) -> None:
        """Show all on another page from now on; None: on none."""
        self._put = put
        self._sent.clear()
        self._calls.clear()
        self._rows = ()
        self._files.give_up()
        if put is None:
            return
        self._tell("me", account=clean_line(self._client.account))
        if self._timeline is None and (place := self._client.place()) is not None:
            self._open(place.id)
        self.publish()

    def take(self, message: str | bytes) -> None:
        """Do what a page asks for; bytes are a part of the file that it sends."""
        call = 0
        try:
            if isinstance(message, bytes):
                self._files.take(message)
                return
            line = message.encode()
            if (wish := wishes.decode(line)) is not None:
                call = wish.id
                self._carry_out(wish)
                return
            call, what = decode_request(line)
            if isinstance(what, Read):
                self._answer(encode_result(call, to_json(getattr(self._client, what.name)(**what.arguments))))
            else:
                self._do(call, what)
        except InvalidRequestError as error:
            self._answer(encode_error(error.call, error.code, str(error)))
        except SecurechatError as error:
            self._answer(encode_error(call, exit_code(error), clean(str(error)), "local"))
        except OSError as error:
            self._answer(encode_error(call, ExitCode.FAILURE, f"The file cannot be taken: {error.strerror}.", "local"))

    def _carry_out(self, wish: wishes.Wish) -> None:
        result: Any = None
        match wish:
            case wishes.Open(conversation=where, around=around):
                self._open(bytes.fromhex(where), around)
            case wishes.Older():
                result = self._timeline is not None and self._timeline.show_older()
            case wishes.Newer():
                result = self._timeline is not None and self._timeline.show_newer()
            case wishes.Newest():
                if self._timeline is not None:
                    self._timeline.show_newest()
            case wishes.Seen():
                self._see()
            case wishes.Typing(text=text):
                self._chat.typing(text)
            case wishes.Typed(text=text):
                self._type(text)
            case wishes.Unlock(password=password):
                self._chat.unlock(password)
            case wishes.Complete(text=text):
                found = complete(text, VERBS.values(), self._listing.names)
                result = [{"text": each.text, "note": each.note} for each in found]
            case wishes.Search(text=text, before=before):
                result = self._search(text, before)
            case wishes.Save(local_id=local_id):
                self._do(wish.id, SaveFile(local_id, str(downloads())))
                return
            case wishes.Fetch(local_id=local_id):
                found_lines = self._client.around(local_id, 0)
                if not found_lines:
                    raise UsageError("There is no such message.")
                self._files.fetch(wish.id, found_lines[0])
                return
            case wishes.Upload():
                self._files.begin(wish.id, bytes.fromhex(wish.conversation), wish.name, wish.size, wish.description,
                                  wish.media_type, wish.disposition)  # fmt: skip
                return
        self._answer(encode_result(wish.id, result))

    def _do(self, call: int, command: Command) -> None:
        if call:
            self._calls[command.id] = call
        self._client.do(command)

    def _answer(self, text: bytes) -> None:
        if self._put is not None:
            self._put(text)

    def _tell(self, method: str, **params: Any) -> None:
        self._answer(msgspec.json.encode({"method": method, "params": params}))

    def _tell_anew(self, method: str, **params: Any) -> None:
        """Tell what is sent whole, unless the page has it so."""
        text = msgspec.json.encode({"method": method, "params": params})
        if self._sent.get(method) != text:
            self._sent[method] = text
            self._answer(text)

    # --- conversations --------------------------------------------------------------------------------------------

    def _open(self, where: bytes, around: int = 0) -> None:
        """Raises `UsageError` if there is no such conversation, or line."""
        first = self._client.first_unread(where)
        self._timeline = Timeline(self._client, where, around=around or first, new=first)
        now = self._timeline.conversation
        closed = now.state == "closed"  # what is typed would go to the one that has taken its place
        self._chat.place.turn_to("" if closed else now.name, b"" if closed else now.id)
        self._placed = self._chat.place.id
        self._rows = ()
        self._sent.pop("rows", None)
        self._tell("opened", where=now.id.hex())

    def _follow(self) -> None:
        """Go where the session has gone, by what was typed."""
        found = self._chat.place.find()
        if found is not None and found.id != self._placed:
            self._open(found.id)

    def _see(self) -> None:
        """Note that the end of the open conversation was seen."""
        if self._timeline is None:
            return
        where = self._timeline.conversation.id
        self._listing.see(where)
        self._client.do(Visit(where, self._listing.counted(where)))

    def _type(self, text: str) -> None:
        """Carry out a typed line, and tell what the session shows of it, but the line itself."""
        self._shown = []
        try:
            self._chat.line(text)
            lines = self._shown
        finally:
            self._shown = None
        self._follow()
        if lines:
            self._tell("answer", typed=text, lines=lines)

    def _show(self, line: str) -> None:
        if self._shown is not None:
            self._shown.append(line)

    def _search(self, text: str, before: int) -> list[dict[str, Any]]:
        found = self._client.search(query_of(text, self._client.account), FOUND, before)
        return [
            {"where": each.conversation.hex(), "title": title(self._client.conversation(each.conversation)),
             "line": row_object(line_of(each, self._client.clean, self._client.account))}
            for each in found
        ]  # fmt: skip

    # --- what happens ---------------------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """Take note of an event."""
        told = self._news.of(event)
        self._listing.fold(event)
        self._link.fold(event)
        self._typists.fold(event)
        here = self._timeline is not None and self._timeline.fold(event, told)
        self._chat.event(event)
        self._follow()
        quiet = isinstance(event, Ready | Transferred) or self._files.is_fetching(event.command)
        if (shown := self._files.shows(event)) is not None:
            self._tell("file", **shown)
        for sentence in () if here or quiet else told:
            self._tell("told", kind=sentence.kind, text=sentence.text)
        self._note(event)
        self._ring(event)
        self._reply(event)

    def _note(self, event: Event) -> None:
        """Tell what is no row and no sentence."""
        match event:
            case Received(message=message):
                self._newest_shown = max(self._newest_shown, message.local_id)
            case SafetyNumber(account=account):
                self._tell("safety", account=clean_line(account), keys=list(number_objects(event)))
            case RoomList(rooms=rooms):
                self._tell("roomlist", rooms=[room_object(each) for each in rooms])
            case Held(conversation=where):
                self._tell("held", where=where.hex())
            case PasswordWanted():
                self._tell("password", why=why_password(event))

    def _ring(self, event: Event) -> None:
        """Tell what whoever looks elsewhere is told."""
        where = self._client.conversation(conversation_of(event))
        now = datetime.now().astimezone()
        ring = notification(event, where, self._client.account, now, self._client.prefers)
        if ring is not None:
            self._tell("ring", title=ring.title, text=ring.text, where="" if where is None else where.id.hex())

    def _reply(self, event: Event) -> None:
        """Answer the request that an event is the answer to; the words for it are told."""
        call = self._calls.get(event.command, 0)
        if not call:
            return
        match event:
            case Done():
                self._answer(encode_result(call, None))
            case Refused() | Delayed():
                code = exit_code(RefusedError(event.code, event.text))
                self._answer(encode_error(call, code, "", event.code))
            case Held() | Unreachable():
                self._answer(encode_error(call, ExitCode.UNTRUSTED, "", "held"))
        if isinstance(event, Done | Refused):
            del self._calls[event.command]

    # --- what is shown --------------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Tell the page what is new on it."""
        if self._put is None:
            return
        self._tell_anew("state", state=self._link.now.state, text=self._link.now.text)
        asked = [invitation_object(each) for each in self._client.invitations()]
        self._tell_anew("list", items=[item_object(each) for each in self._listing.items], invitations=asked)
        if self._timeline is not None:
            self._publish_conversation(self._timeline)
        if self._newest_shown > self._newest_marked:
            self._newest_marked = self._newest_shown
            self._client.do(MarkShown(self._newest_shown))

    def _publish_conversation(self, here: Timeline) -> None:
        where, rows = here.conversation.id.hex(), here.rows
        if "opened" not in self._sent:
            self._tell_anew("opened", where=where)
        for change in splices(self._rows, rows):
            changed = [row_object(each) for each in change.rows]
            self._tell("rows", where=where, start=change.start, removed=change.removed, rows=changed)
        self._rows = rows
        self._tell_anew("ends", where=where, before=here.more_before, after=here.more_after)
        self._tell_anew("about", **about_object(here), types=self._typists.told(here.conversation.id))
