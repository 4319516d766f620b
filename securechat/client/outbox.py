"""What we submit to one conversation: messages in their order, commits one at a time (design, sections 4 and 6).

Everything is in the vault before it is sent, under its number, and stays there until it is seen in the log: a retry
sends the same bytes with the same number (invariants 5 and 6). Several messages may be on their way at once; a commit
goes alone. After a refusal nothing more is sent until everything on its way is answered; then:

    another commit came first       encrypt all of it again in the new epoch, in order
    somebody has left               commit their removal first, then as above
    busy, leased, full disk         the same bytes again, a little later
    a number the server does not    our state is an old copy: enter anew
        expect
    anything else                   that one will never be taken: its line in the history says why

Messages are held, not refused, while a key of the other people has changed and the user has not decided.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from securechat import content, policy
from securechat.client import events
from securechat.client.conversation import Conversation, Staged, encode_number
from securechat.client.device import check_key_packages
from securechat.client.vault import ChangeRow, OutboxRow
from securechat.content import Body, Envelope
from securechat.errors import InternalError, PeerError
from securechat.identity.certificate import DeviceCertificate
from securechat.mls.key_package import KeyPackage
from securechat.mls.proposals import Add, Proposal, Remove
from securechat.wire.messages import (
    PASSING,
    Accepted,
    Commit,
    FetchKeyPackages,
    KeyPackages,
    Leave,
    Refused,
    Reply,
    Submit,
)

WINDOW: Final = 16
"""Messages of one conversation on their way at once: fills a long link, and is little to encrypt again."""

PATH_MESSAGES: Final = 50
"""Own messages after which we commit a fresh path (design, section 6): what a thief of our keys could go on reading."""

PATH_MILLISECONDS: Final = 7 * 86_400_000
"""The same by time: a week."""

RETRY_SECONDS: Final = (0.2, 0.5)
"""Between these, at random, we try again what was refused for a passing reason; doubled up to `MAX_RETRY_SECONDS`."""

MAX_RETRY_SECONDS: Final = 30.0

_encode_packages: Final = msgspec.msgpack.Encoder().encode
_decode_packages: Final = msgspec.msgpack.Decoder(list[bytes]).decode


def encode_body(body: Body, sent: int) -> bytes:
    """Return a body as it waits in the outbox: an envelope that does not know its place in the log yet."""
    return content.encode(Envelope(0, bytes(32), sent, body))


class Backoff:
    """How long to wait before trying again: longer each time, at random, so that many do not come back together."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tries = 0
        self.until = 0.0

    def wait(self, retry_after: int = 0) -> None:
        """The try failed: wait longer than the last time, and at least as long as the server says (ms)."""
        seconds = min(random.uniform(*RETRY_SECONDS) * 2**self._tries, MAX_RETRY_SECONDS)  # noqa: S311  # nosec B311  # spreads load
        seconds = max(seconds, retry_after / 1000)
        self._tries = min(self._tries + 1, 16)  # beyond that the maximum holds anyway
        self.until = self._clock() + seconds

    def reset(self) -> None:
        """A try succeeded."""
        self._tries, self.until = 0, 0.0

    @property
    def waiting(self) -> bool:
        """Whether it is too early for the next try."""
        return self._clock() < self.until


class Outbox:
    """The way out of one conversation. Lives as long as one connection; what lasts is in the vault."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._context = conversation.context
        self._vault = conversation.context.vault
        self._on_their_way: set[int] = set()  # numbers of messages and leaves without their answer
        self._refused = False  # since nothing was on its way
        self._void = False  # the ciphertexts cannot be used any more
        self._fetching: set[int] = set()  # changes whose key packages are asked for
        self._held_for = ""  # whose changed key the user was told about
        self.backoff = Backoff(self._context.clock.monotonic)

    def pump(self) -> None:
        """Submit what can be submitted now. Call after anything has changed, inside a transaction."""
        conversation, row = self._conversation, self._conversation.row
        if row.phase != "member" or not conversation.caught_up or self.backoff.waiting:
            return
        if (staged := conversation.staged) is not None:
            if not staged.submitted and not self._on_their_way:
                self._submit_commit(staged)
            return
        items = self._vault.outbox(row.id, WINDOW)
        if self._void or any(item.payload and item.epoch != conversation.group.epoch for item in items):
            if self._on_their_way:
                return
            self._vault.void_ciphertexts(row.id)
            self._void = False
            items = self._vault.outbox(row.id, WINDOW)
        if not self._on_their_way:
            self._refused = False
            if self._prepare_commit(items):
                return
        if not self._refused:
            self._submit_items(items)

    # --- messages -------------------------------------------------------------------------------------------------

    def _submit_items(self, items: list[OutboxRow]) -> None:
        conversation = self._conversation
        number = conversation.row.number
        for item in items:
            number += 1
            if item.payload and item.number in self._on_their_way:
                continue
            if item.kind == "message" and not self._may_speak(number):
                return
            payload = item.payload
            if not payload:
                payload = self._encrypt(item, number)
                self._vault.save_ciphertext(item.id, number, conversation.group.epoch, payload)
            elif item.number != number:
                raise InternalError("the numbers in the outbox have a gap")
            self._on_their_way.add(number)
            kind = Submit if item.kind == "message" else Leave
            self._context.request(kind(0, conversation.id, number, payload), self._answer_to(item.id, number, payload))

    def _may_speak(self, number: int) -> bool:
        conversation, row = self._conversation, self._conversation.row
        if conversation.departed:
            return False
        if row.sent_on_path + number - row.number > PATH_MESSAGES:
            return False  # a fresh path comes first, once these are answered
        if row.kind != "open":
            for account in row.members.split():
                if self._context.pins.has_changed(account):
                    if self._held_for != account:
                        self._held_for = account
                        self._context.emit(events.Held(row.id, account))
                    return False
        self._held_for = ""
        return True

    def _encrypt(self, item: OutboxRow, number: int) -> bytes:
        conversation, group = self._conversation, self._conversation.group
        if item.kind == "leave":
            leaving = policy.departure_data(number, group.public.member(group.own_leaf))
            return group.propose(Remove(group.own_leaf), authenticated_data=leaving)
        unplaced = content.decode(item.content)
        row = conversation.row
        plaintext = content.encode(Envelope(row.cursor, row.chain, unplaced.sent, unplaced.body))
        payload = group.encrypt(
            plaintext, authenticated_data=encode_number(number), padding=content.padding(len(plaintext))
        )
        conversation.use_group(group, new_epoch=False)
        return payload

    def _answer_to(self, item: int, number: int, payload: bytes) -> Callable[[Reply], None]:
        def answer(reply: Reply) -> None:
            self._on_their_way.discard(number)
            self._context.touched.add(self._conversation.id)
            if isinstance(reply, Accepted):
                self.backoff.reset()
                self._conversation.receive_own(_checked(reply, self._conversation.id, number), payload)
            elif isinstance(reply, Refused):
                self._handle_refusal(item, number, reply)

        return answer

    def _handle_refusal(self, item: int, number: int, refused: Refused) -> None:
        conversation = self._conversation
        current = self._vault.outbox_item(item)
        if current is None or current.number != number:
            return  # it was encrypted anew, or given up, after we had entered anew
        first, self._refused = not self._refused, True
        if conversation.row.phase != "member" or refused.code in ("stale-epoch", "commit-first"):
            return  # the entry that explains it has come, or is on its way
        if refused.code in PASSING:
            self.backoff.wait(refused.retry_after)
        elif refused.code == "wrong-number":
            if first and number == conversation.row.number + 1:
                conversation.need_resync()
            # else it only followed one that was refused itself
        elif refused.code == "not-found":
            conversation.lose()
        elif first:
            self._void = True  # those after it move up by one number
            self._give_up(current, refused)

    def _give_up(self, item: OutboxRow, refused: Refused) -> None:
        self._vault.dequeue(item.id)
        if item.local_id:
            message = self._vault.fail_message(item.local_id, f"This message was not sent: {refused.text}")
            self._context.emit(events.Received(message))
        self._context.emit(events.Refused(refused.code, refused.text))

    # --- commits --------------------------------------------------------------------------------------------------

    def _prepare_commit(self, items: list[OutboxRow]) -> bool:
        """Make, keep and send the commit that has to come next, if one has to. Nothing is on its way."""
        conversation, row = self._conversation, self._conversation.row
        leaving = bool(items) and items[0].kind == "leave"
        if row.closed and (leaving or not items):
            return False
        now = self._context.clock.milliseconds()
        changes = self._changes(now // 1000)
        stale_path = row.sent_on_path >= PATH_MESSAGES or now - row.path_time >= PATH_MILLISECONDS
        if not changes and not stale_path and not (items and conversation.departed):
            return False
        removals = [Remove(leaf) for leaf in sorted(conversation.departed)]
        proposals: list[Proposal] = [*removals, *(change for change in changes if change not in removals)]
        self._commit(proposals, now)
        return True

    def _changes(self, now: int) -> list[Proposal]:
        """Return the proposals for what the user asked for, as far as we have what they need."""
        conversation = self._conversation
        proposals: list[Proposal] = []
        for change in self._vault.changes(conversation.id):
            if change.action == "remove":
                leaves = [leaf for leaf, person in conversation.people.items() if person.account == change.account]
                proposals += map(Remove, leaves)
            elif change.key_packages:
                packages = _decode_packages(change.key_packages)
                with self._refusing(change):
                    proposals += [Add(package) for package, _ in self._check(packages, change.account, now)]
            elif change.id not in self._fetching:
                self._fetching.add(change.id)
                self._context.request(FetchKeyPackages(0, change.account), self._fetched_for(change))
        return proposals

    def _fetched_for(self, change: ChangeRow) -> Callable[[Reply], None]:
        def answer(reply: Reply) -> None:
            self._fetching.discard(change.id)
            self._context.touched.add(self._conversation.id)
            if isinstance(reply, KeyPackages):
                with self._refusing(change):
                    checked = self._check(reply.key_packages, change.account, self._context.clock.seconds())
                    for _, person in checked:
                        self._context.pins.observe(person)
                    if self._context.pins.has_changed(change.account):
                        raise PeerError(f"The key of {change.account} has changed; /trust or /verify decides.")
                    self._vault.save_change_packages(change.id, _encode_packages(reply.key_packages))
            elif isinstance(reply, Refused) and reply.code in PASSING:
                self.backoff.wait(reply.retry_after)
            elif isinstance(reply, Refused):
                self._vault.delete_change(change.id)
                self._context.emit(events.Refused(reply.code, f"{change.account} was not added: {reply.text}"))

        return answer

    @contextmanager
    def _refusing(self, change: ChangeRow) -> Iterator[None]:
        """Drop a change that turns out to be impossible, and tell the user."""
        try:
            yield
        except PeerError as error:
            self._vault.delete_change(change.id)
            self._context.emit(events.Refused("local", f"{change.account} was not added: {error} Invite them again."))

    def _check(self, packages: list[bytes], account: str, now: int) -> list[tuple[KeyPackage, DeviceCertificate]]:
        return check_key_packages(packages, account, validate=self._context.device.validator(now), now=now)

    def _commit(self, proposals: list[Proposal], now: int) -> None:
        conversation = self._conversation
        number = conversation.row.number + 1
        try:
            staged = conversation.group.commit(
                proposals,
                refer=None,
                authenticated_data=encode_number(number),
                tree_in_welcome=False,
                validate=self._context.device.validator(now // 1000),
                now=now // 1000,
            )
            policy.check_commit(staged.public, departed=conversation.departed)
        except PeerError as error:
            self._drop_changes("local", str(error))
            return
        request = Commit(0, conversation.id, number, staged.message, staged.welcome or b"", staged.group_info or b"")
        conversation.stage(number, request, staged)
        if conversation.staged is not None:
            self._submit_commit(conversation.staged)

    def _submit_commit(self, staged: Staged) -> None:
        request = staged.request
        if not isinstance(request, Commit):
            raise InternalError("a member has staged something else than a commit")
        staged.submitted = True

        def answer(reply: Reply) -> None:
            self._context.touched.add(self._conversation.id)
            if isinstance(reply, Accepted):
                self.backoff.reset()
                accepted = _checked(reply, self._conversation.id, staged.number)
                self._conversation.receive_own(accepted, request.commit)
            elif isinstance(reply, Refused) and self._conversation.staged is staged:
                self._handle_refused_commit(staged, reply)

        self._context.request(msgspec.structs.replace(request), answer)

    def _handle_refused_commit(self, staged: Staged, refused: Refused) -> None:
        conversation = self._conversation
        if conversation.row.phase != "member" or refused.code == "stale-epoch":
            return  # the commit that came first discards ours when it arrives
        if refused.code in PASSING:
            staged.submitted = False
            self.backoff.wait(refused.retry_after)
            return
        removed = {leaf for leaf, _ in staged.commit.public.removed} if staged.commit is not None else set()
        conversation.unstage()
        if refused.code == "wrong-number":
            conversation.need_resync()
        elif refused.code == "not-found":
            conversation.lose()
        elif refused.code == "commit-first" or not conversation.departed <= removed:
            self.backoff.wait()  # somebody has left meanwhile: the next one removes them too
        else:
            self._drop_changes(refused.code, refused.text)

    def _drop_changes(self, code: str, text: str) -> None:
        """The commit is not possible: tell so, and do not try the same at once again."""
        for change in self._vault.changes(self._conversation.id):
            self._vault.delete_change(change.id)
        self._context.emit(events.Refused(code, text))
        self.backoff.wait()


def _checked(accepted: Accepted, conversation: bytes, number: int) -> Accepted:
    if (accepted.conversation, accepted.number) != (conversation, number):
        raise PeerError("the server accepted something else than what was submitted")
    return accepted

