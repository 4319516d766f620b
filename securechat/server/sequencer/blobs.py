"""Blobs: who may upload and fetch what (docs/design.md, section 5, Blobs). Their bytes never come here (`Transfers`).

An upload is a member's, and counts as a whole in the account's share from its first byte on; of what all may have
together it takes what is on disk, and finds room for that with each part. Once all its bytes are on disk it gets the
seq of the log's next entry: whoever may read that one may fetch it, and so may those who have entered since. Whoever
names it does so in an entry behind that seq.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from securechat.errors import RefusedError
from securechat.server.config import BlobLimits
from securechat.server.rates import Rates
from securechat.server.sequencer.conversation import Conversation, Conversations, not_found
from securechat.server.sequencer.directory import Directory
from securechat.server.sequencer.operations import BlobArrived, BlobsLost, FilesDeleted
from securechat.server.sequencer.reading import Reading
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import BlobStore
from securechat.server.store.records import Blob
from securechat.wire.blobs import is_blob_length
from securechat.wire.messages import BlobState, Done, DropBlob, FetchBlob, StartBlob

UNFINISHED: Final = 32
"""Uploads of one account that are not whole: a person sends some pictures at once."""

UNFINISHED_SECONDS: Final = 2 * 86_400
"""How long an upload waits for the client to go on with it: over a weekend."""

RETRY_SECONDS: Final = 60.0
"""When those come again who are over a quota: until then something may have expired, or been dropped."""

DROPPED_SECONDS: Final = 1.0
"""The same where a file of that name is still to be deleted."""


class Transfers(Protocol):
    """What moves the bytes. None of it waits."""

    def connect(self, hand_in: Callable[[Session | None, object], None]) -> None:
        """`hand_in(session, operation)`: hands in what was found."""

    def check_room(self, length: int) -> None:
        """Raise RefusedError `disk-full` if there is no room for so many bytes. What was only begun takes none."""

    def begin(self, session: Session, request: StartBlob, blob: Blob) -> None:
        """Go on with an upload; answer how far it has come, or hand in that it has arrived."""

    def fetch(self, session: Session, request: FetchBlob, blob: Blob) -> None:
        """Send a part. Raises RefusedError."""

    def end(self, session: Session) -> None:
        """Do nothing more for a session."""

    def forget(self, file: bytes) -> None:
        """An upload is over."""


class Blobs:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: BlobStore,
        conversations: Conversations,
        reading: Reading,
        directory: Directory,
        transfers: Transfers,
        rates: Rates,
        limits: BlobLimits,
    ) -> None:
        self._turn = turn
        self._store = store
        self._conversations = conversations
        self._reading = reading
        self._directory = directory
        self._transfers = transfers
        self._rates = rates
        self.limits = limits

    def start(self, session: Session, request: StartBlob) -> None:
        """Handle `StartBlob`."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        conversation.member(session)
        found = self._store.find(request.conversation, request.blob)
        if found is None:
            blob = self._add(session, request)
        elif (found.account, found.device, found.size) != (session.account, session.device, request.size):
            raise RefusedError("bad-request", "another upload has this id: draw another one")
        elif found.seq:
            if found.expires <= self._turn.age:
                raise gone()
            blob = found
        else:  # whoever begins it again and again pays for all of it meanwhile, as for one that is whole
            blob = found._replace(expires=self._turn.age + UNFINISHED_SECONDS * 1000)
            self._store.change(blob.file, 0, blob.expires)
        self._turn.after(lambda: self._transfers.begin(session, request, blob))

    def _add(self, session: Session, request: StartBlob) -> Blob:
        """Make room for a new one. Raises RefusedError."""
        limits, account, size = self.limits, session.account, request.size
        if not is_blob_length(size):
            raise RefusedError("bad-request", "no file has this length once it was padded")
        most = min(limits.per_account, limits.in_all)
        if not most:
            raise RefusedError("not-allowed", "this server takes no files")
        if size > most:
            text = f"the server keeps {most / 2**20:,.0f} MiB of files of each account at most"
            raise RefusedError("too-large", text)
        held, unfinished = self._store.held(account)
        if unfinished >= UNFINISHED:
            text = f"{unfinished} uploads of this account are not finished: go on with them, or drop them"
            raise RefusedError("quota", text, retry_after=RETRY_SECONDS)
        if held + size > limits.per_account:
            raise RefusedError(
                "quota",
                f"the server keeps {limits.per_account / 2**20:,.0f} MiB of files of each account, and has "
                f"{held / 2**20:,.0f} MiB of this one. They go {limits.seconds // 86_400} days after they were sent",
                retry_after=RETRY_SECONDS,
            )
        self._transfers.check_room(size)
        self._rates.uploads.take(account, self._turn.now)
        if self._store.is_dropped(request.conversation, request.blob):
            raise RefusedError("busy", "a file of this id is being deleted", retry_after=DROPPED_SECONDS)
        expires = self._turn.age + UNFINISHED_SECONDS * 1000
        return self._store.add(request.conversation, request.blob, account, session.device, size, expires)

    def arrived(self, session: Session, arrived: BlobArrived) -> None:
        """Note that a blob is whole: all of it is on disk."""
        request = arrived.request
        found = self._store.find(request.conversation, request.blob)
        if found is None or found.file != arrived.file:
            raise gone()
        expires = found.expires
        self._turn.after(lambda: self._transfers.forget(found.file))
        if not found.seq:
            conversation = self._conversations.find(request.conversation, self._turn.now)
            conversation.member(session)
            expires = self._turn.age + self.limits.seconds * 1000
            self._store.change(found.file, conversation.head.seq + 1, expires)
        self._turn.answer(session, BlobState(request.id, found.size, expires))

    def fetch(self, session: Session, request: FetchBlob) -> None:
        """Handle `FetchBlob`."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        found = self._store.find(request.conversation, request.blob)
        last = self._last_of(conversation, session)
        if found is None or found.expires <= self._turn.age or (last is not None and found.seq > last):
            raise gone()
        if not self._directory.is_enabled(found.account):
            raise gone()
        if not found.seq:
            raise RefusedError("not-now", "this file is not here as a whole yet", retry_after=RETRY_SECONDS)
        if request.offset >= found.size:
            raise RefusedError("bad-request", "the file ends before that")
        self._transfers.fetch(session, request, found)

    def drop(self, session: Session, request: DropBlob) -> None:
        """Handle `DropBlob`. Whoever has left may still take back what they have uploaded."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        found = self._store.find(request.conversation, request.blob)
        if found is not None and found.account == session.account:
            self._store.drop([found.file])
            self._turn.after(lambda: self._transfers.forget(found.file))
        elif self._reading.membership(conversation, session) is None:
            raise not_found()
        elif found is not None:
            raise RefusedError("not-allowed", "another account has uploaded this file")
        self._turn.answer(session, Done(request.id))

    def lost(self, lost: BlobsLost) -> None:
        """Drop blobs whose bytes are not there."""
        self._store.drop(lost.files)
        for file in lost.files:
            self._turn.after(partial(self._transfers.forget, file))

    def deleted(self, deleted: FilesDeleted) -> None:
        """Note which files are there no more."""
        self._store.forget(deleted.files)

    def leave(self, session: Session) -> None:
        """End what a session sends and fetches."""
        self._transfers.end(session)

    def _last_of(self, conversation: Conversation, session: Session) -> int | None:
        """Return up to which seq a session may read a log; None: up to its end. Raises RefusedError `not-found`."""
        member = self._reading.membership(conversation, session)
        if member is None:
            raise not_found()
        return member.last_seq


def gone() -> RefusedError:
    """Return the refusal of a blob that is not there, and of one that is not for whoever asks."""
    return RefusedError(
        "gone", "the server does not have this file, or not for you: it has expired, or whoever sent it took it back"
    )
