"""Our submissions to one conversation: messages in order, and commits between (docs/design.md, sections 4 and 6).

Everything is in the vault before it is sent, under its number, and stays there until it is seen in the log: a retry
sends the same bytes with the same number (invariants 5 and 6). Several messages may be on their way at once; a commit
goes alone. After a refusal nothing more is sent until everything on its way is answered; then:

    another commit came first       encrypt all of it again in the new epoch, in order
    somebody has left               commit their removal first, then as above
    busy, leased, full disk         the same bytes again, a little later
    the other side does not read    the same, and the user is told: what is said later waits behind it
    a number the server does not    the same bytes again, later each time: what counts is the log
        expect
    anything else                   that one will never be taken: its line in the history says why

While a key is not accepted or somebody who came by a door is not confirmed (`holds`), messages are held, not refused.
"""

from collections.abc import Callable
from itertools import count
from typing import Final

from securechat import policy
from securechat.client import events
from securechat.client.backoff import Backoff
from securechat.client.conversations import amendments, directory, evidence, freshness, holds, log, phases
from securechat.client.conversations.committing import Committing
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.marking import Marking
from securechat.client.conversations.numbers import encode_number
from securechat.client.conversations.waiting import Waiting
from securechat.client.parts import PATH_MESSAGES
from securechat.client.vault.outbox import OutboxRow
from securechat.content import envelope
from securechat.content.registry import Name
from securechat.errors import InternalError
from securechat.mls.framing import ContentType
from securechat.mls.proposals import Remove
from securechat.wire.messages import RETRYABLE, Accepted, Leave, Refused, Reply, Submit

WINDOW: Final = PATH_MESSAGES
"""Messages of one conversation on their way at once: as many as one path permits. It fills a long link, and to encrypt
them again takes a few milliseconds."""

_DISPUTED: Final = (
    "What you say here waits: {} saw another history than you. Compare with them in some other way; /repair sends it "
    "all the same."
)

_LOOK_SECONDS: Final = 3600.0
"""How long we wait at least before we look again how fresh a room is."""

_FULL: Final = (
    "{} has not read for too long, and the server keeps no more for them. What you say waits here in its order and is "
    "sent once they have read."
)
_NOT_HERE: Final = "the message that it is about is not in this conversation"
_ADVICE: Final = "Send it again, in parts if it is long; if that is refused too, ask the operator of the server."

_SENT_AS: Final[dict[str, tuple[type[Submit | Leave], ContentType]]] = {
    "message": (Submit, ContentType.APPLICATION),
    "leave": (Leave, ContentType.PROPOSAL),
    "marks": (Submit, ContentType.APPLICATION),
}


class Outbox:
    """The way out of one conversation. Lives as long as one connection; lasting state is in the vault."""

    def __init__(self, conversation: Conversation, marking: Marking) -> None:
        self._conversation = conversation
        self._marking = marking
        self._context = conversation.context
        self._vault = conversation.context.vault
        self._on_their_way: set[int] = set()  # numbers of messages and leaves without their answer
        self._refused = False  # since nothing was on its way
        self._held: events.Held | events.Unreachable | None = None  # why what the user says is not sent
        self._full = False  # the other side does not read
        self._waiting = Waiting(conversation)
        self._explained: Callable[[], bool] | None = None  # returns whether the entry that explains a refusal has come
        self.backoff = Backoff(self._context.clock.monotonic)
        self.due = 0.0  # when to look again how fresh the room is (monotonic seconds); 0: at the next commit
        self._looked_in = -1  # epoch
        self._committing = Committing(conversation, self.backoff, self._waiting, self._await)

    def pump(self) -> None:
        """Submit what can be submitted now. Call after anything has changed, inside a transaction."""
        conversation, row = self._conversation, self._conversation.row
        if row.phase not in phases.READING or not conversation.caught_up:
            return
        self._look()
        directory.tell(conversation)
        if self._full:
            self._tell_delayed()
        if self._explained is not None and self._explained():
            self._explained = None
            self.backoff.reset()
        if self.backoff.waiting:
            return
        if (staged := conversation.staged) is not None:
            if not staged.submitted and not self._on_their_way:
                self._committing.submit(staged)
            return
        items = self._vault.outbox.first(row.id, WINDOW)
        unwanted = any(item.kind == "marks" for item in items) and not self._marking.may_tell(conversation)
        if self._are_void(items) or (unwanted and not self._on_their_way):
            if self._on_their_way:
                return
            conversation.void_ciphertexts()
            items = self._vault.outbox.first(row.id, WINDOW)
        if not self._on_their_way:
            self._refused = False
            if self._committing.prepare(items):
                return
            if not items and (mark := self._marking.next(conversation)) is not None:
                conversation.put(mark, kind="marks")
                items = self._vault.outbox.first(row.id, WINDOW)
        if not self._refused:
            self._submit_items(items)

    def _are_void(self, items: list[OutboxRow]) -> bool:
        """Whether ciphertexts cannot be used any more: another epoch has begun, or one before them was given up.

        The vault says so, and not this connection: it may be lost before those after it are answered.
        """
        numbers = count(self._conversation.row.number + 1)
        epoch = self._conversation.group.epoch
        return any(
            item.payload and (item.number, item.epoch) != (number, epoch)
            for item, number in zip(items, numbers, strict=False)
        )

    def _look(self) -> None:
        """See how fresh the room is, and when to look again."""
        conversation, clock = self._conversation, self._context.clock
        if conversation.group.epoch == self._looked_in and not 0 < self.due <= clock.monotonic():
            return
        freshness.look(conversation)
        self._looked_in, next_look = conversation.group.epoch, freshness.due(conversation)
        wait = max((next_look - clock.milliseconds()) / 1000, _LOOK_SECONDS)
        self.due = clock.monotonic() + wait if next_look else 0.0

    def _submit_items(self, items: list[OutboxRow]) -> None:
        conversation = self._conversation
        number = conversation.row.number
        for item in items:
            about = None
            if item.about and not item.payload:
                about = amendments.name_of(conversation, item.about)
                if about is None:
                    self._give_up(item, "local", _NOT_HERE)
                    self._context.touched.add(conversation.id)
                    continue
            number += 1
            if item.payload and item.number in self._on_their_way:
                continue
            if item.kind == "message" and not self._may_speak(number, item.roster):
                if self._held is not None and conversation.row.closed:
                    self._give_up_held(items, self._held)
                return
            payload = item.payload
            if not payload:
                payload = self._encrypt(item, number, about)
                item.number, item.epoch, item.payload = number, conversation.group.epoch, payload
                self._vault.outbox.save_ciphertext(item)
            elif item.number != number:
                raise InternalError("the numbers in the outbox have a gap")
            conversation.encrypted[number] = item
            self._on_their_way.add(number)
            kind, content_type = _SENT_AS[item.kind]
            answer = self._answer_to(item.id, number, payload, content_type)
            self._context.request(kind(0, conversation.id, number, payload), answer)

    def _give_up_held(self, items: list[OutboxRow], held: events.Held | events.Unreachable) -> None:
        """Whoever leaves waits neither for a decision on a key nor for a device: what is held is not sent."""
        if self._on_their_way:
            return
        if isinstance(held, events.Unreachable):
            why = f"{held.account} had no device to get it, and you left"
        elif held.whose:
            why = f"it was held for the key of {held.whose[0].account}, and you left"
        else:
            why = "it was held since you had been away, and you left"
        for item in items:
            if item.kind == "message":
                self._give_up(item, "local", why)
        self._context.touched.add(self._conversation.id)

    def _may_speak(self, number: int, roster: int) -> bool:
        conversation, row = self._conversation, self._conversation.row
        if conversation.departed:
            return False
        if self._context.device.is_expired(self._context.clock.seconds()):
            self._waiting.tell_expired()
            return False
        if evidence.disputed(conversation) and not row.closed:
            text = _DISPUTED.format(", ".join(sorted(conversation.doubts)))
            self._waiting.tell(events.Delayed(row.id, "local", text))
            return False
        if row.sent_on_path + number - row.number > self._context.parts.timing.path_messages:
            return False  # a fresh path comes first, once these are answered
        held = holds.held(conversation, roster) or directory.held(conversation)
        if held != self._held:
            self._held = held
            self._waiting.over()
        if held is not None and not row.closed:
            self._waiting.tell(held)
        return held is None

    def _tell_delayed(self) -> None:
        row = self._conversation.row
        self._waiting.tell(events.Delayed(row.id, "reader-full", _FULL.format(row.name)))

    def _encrypt(self, item: OutboxRow, number: int, about: Name | None) -> bytes:
        conversation, group = self._conversation, self._conversation.group
        if item.kind == "leave":
            leaving = policy.departure_data(number, group.public.member(group.own_leaf))
            return group.propose(Remove(group.own_leaf), authenticated_data=leaving)
        plaintext = envelope.place(item.content, conversation.row.cursor, conversation.row.chain, about)
        payload = group.encrypt(
            plaintext, authenticated_data=encode_number(number), padding=self._context.parts.padding(len(plaintext))
        )
        conversation.use_keys(group)
        return payload

    def _answer_to(self, item: int, number: int, payload: bytes, content_type: ContentType) -> Callable[[Reply], None]:
        def answer(reply: Reply) -> None:
            self._on_their_way.discard(number)
            self._context.touched.add(self._conversation.id)
            if isinstance(reply, Accepted):
                log.receive_own(self._conversation, reply, number, payload, content_type)
                self._full = False
                self._waiting.over()
                if self._conversation.row.number >= number:
                    self.backoff.reset()
                else:  # its entry has to come by the log
                    self._await(lambda: self._conversation.row.number >= number)
            elif isinstance(reply, Refused):
                self._handle_refusal(item, number, reply)

        return answer

    def _await(self, explained: Callable[[], bool]) -> None:
        """Submit nothing until what explains an answer has come: it is on its way, if the server is an honest one.

        Of another one, ask again later, and later each time.
        """
        if not self.backoff.waiting:
            self._explained = explained
            self.backoff.wait()

    def _handle_refusal(self, item: int, number: int, refused: Refused) -> None:
        conversation = self._conversation
        current = self._vault.outbox.get(item)
        if current is None or current.number != number:
            return  # it was encrypted again, or given up, after our resync
        first, self._refused = not self._refused, True
        if current.kind == "marks":  # it is not worth a wait: what is said after it moves up by one number
            self._vault.outbox.delete(item)
            conversation.encrypted.pop(number, None)
            if refused.code not in ("stale-epoch", "commit-first"):  # that was chance: the next one may go in a moment
                self._marking.put_off(conversation, refused.retry_after / 1000)
        if conversation.row.phase not in phases.READING:
            return
        if refused.code in ("stale-epoch", "commit-first"):
            epoch = conversation.group.epoch
            if first and current.epoch == epoch and not conversation.departed:
                self._await(lambda: conversation.group.epoch != epoch or bool(conversation.departed))
                self._waiting.tell_long(refused, self.backoff)
            return
        if current.kind == "marks":
            return
        full = refused.code == "reader-full"
        if refused.code in RETRYABLE and not (full and conversation.row.closed):  # to leave needs no reader
            self.backoff.wait(refused.retry_after / 1000)
            if full:
                self._full = True
                self._tell_delayed()
            else:
                self._waiting.tell_long(refused, self.backoff)
        elif refused.code == "wrong-number":
            if first and number == conversation.row.number + 1:
                self._waiting.tell_other_number(number)
                self._await(lambda: conversation.row.number >= number)
            # otherwise it only followed one that was refused itself
        elif refused.code == "not-found":
            self._waiting.tell_denied()
            self.backoff.wait()
        elif first:
            self._vault.refused.add(conversation.id, current.payload)
            self._give_up(current, refused.code, refused.text)  # those after it move up by one number

    def _give_up(self, item: OutboxRow, code: str, text: str) -> None:
        """It will never be sent: `code` and `text` say why, in the server's words unless the code is "local"."""
        self._vault.outbox.delete(item.id)
        self._conversation.encrypted.pop(item.number, None)
        message = None
        if item.local_id:
            problem = f"This message was not sent: {text if code == 'local' else f'the server says: {text}'}."
            if not self._conversation.row.closed:
                problem += f" {_ADVICE}"
            message = self._vault.history.fail(item.local_id, problem)
        self._context.answers.refuse(("item", item.id), code, text, message)
