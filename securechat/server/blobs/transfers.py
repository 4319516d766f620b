"""Uploads and downloads: bytes on their way between connections and files, beside the sequencer's turn.

Who may upload and fetch what says the sequencer (`sequencer.blobs`); the bytes never come there. An I/O thread hands a
part of an upload in here, and a worker writes it; a worker reads what was asked for and sends it. Of one upload one
worker writes at a time, everything that has come by then, with one fsync, and then answers all of it: what a client is
told of is on disk. Of one session one part is read at a time, and only once its connection has taken most of the
others: so whatever is said on it has at most `READY_BYTES` before it, and a part. Who sends more parts than
`limits.BLOB_WINDOW` without waiting for answers is refused; parts of an upload that are in memory are paid for as every
large request is (`carrying.payer`).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from securechat.errors import RefusedError, StorageError
from securechat.files import has_no_room
from securechat.server.blobs.port import BlobFiles, BlobLostError
from securechat.server.logs import get_logger
from securechat.server.sequencer.blobs import gone
from securechat.server.sequencer.operations import BlobArrived, BlobsLost, Workers
from securechat.server.sequencer.session import Session, refusal
from securechat.server.space import Space
from securechat.server.store.records import Blob
from securechat.wire import limits
from securechat.wire.messages import BlobBytes, BlobState, Code, FetchBlob, PutBlob, Request, StartBlob

log = get_logger(__name__)

READY_BYTES = 128 << 10
"""Bytes that wait for a connection beyond which no more of a blob is read for it: half of the largest part."""

RETRY_SECONDS = 60.0
"""When those come again for whom there is no room."""

AGAIN_SECONDS = 1.0
"""When those come again whose blob has just been dropped: its file goes in the meantime."""

TOLD_SECONDS = 60.0
"""How often the log is told that the disk fails, at most."""

_Key = tuple[bytes, bytes]  # conversation and blob


class _Upload:
    """One upload that somebody goes on with. Requires the lock; `session` None: nobody does any more."""

    __slots__ = ("asked", "blob", "durable", "end", "key", "ready", "session", "waiting", "working")

    def __init__(self, key: _Key, blob: Blob) -> None:
        self.key = key
        self.blob = blob
        self.session: Session | None = None
        self.asked: list[StartBlob] = []  # how far it has come
        self.ready = False  # `durable` is known
        self.durable = 0  # bytes on disk
        self.end = 0  # the same with those that wait
        self.waiting: deque[PutBlob] = deque()
        self.working = False  # a worker has it


class Transfers:
    """See the module. I/O threads call `put` and `drained`, the sequencer's turn all else that is for sessions."""

    def __init__(self, files: BlobFiles, workers: Workers, space: Space, most: int) -> None:
        """`most`: bytes of all files together; a change of it counts from the next part on."""
        self._files = files
        self._workers = workers
        self._space = space
        self.most = most
        self._hand_in: Callable[[Session | None, object], None]
        self._lock = threading.Lock()  # protects all that follows, and the parts of sessions that are about blobs
        self._writing = 0  # bytes that workers are writing, which the files do not count yet
        self._told_until = 0.0  # until then the log is not told of a failure again (monotonic seconds)
        self._uploads: dict[_Key, _Upload] = {}
        self._held: dict[bytes, _Upload] = {}  # by file

    def connect(self, hand_in: Callable[[Session | None, object], None]) -> None:
        """`hand_in(session, operation)`: to the sequencer. Called once, before anything else."""
        self._hand_in = hand_in

    def check_room(self, length: int) -> None:
        """Raise RefusedError `disk-full` if there is no room for so many bytes more. What was only begun takes none."""
        with self._lock:
            self._check_most(length)
        self._space.check_for_file(length)

    def _check_most(self, length: int) -> None:
        """See `check_room`. Requires the lock."""
        if self._files.held + self._writing + length > self.most:
            text = "the server keeps as many files as its operator lets it; some go each day"
            raise RefusedError("disk-full", text, retry_after=RETRY_SECONDS)

    # --- uploads ----------------------------------------------------------------------------------------------------

    def begin(self, session: Session, request: StartBlob, blob: Blob) -> None:
        """Go on with an upload, in this session and no other one, from where it is; a worker answers."""
        with self._lock:
            upload = self._uploads.get(key := (request.conversation, request.blob))
            if upload is None:
                upload = self._uploads[key] = self._held[blob.file] = _Upload(key, blob)
            self._give_up(upload, "this upload was begun anew: go on with that")
            if upload.session is not session:
                upload.asked.clear()
                upload.session = session
                session.uploads.add(key)
            upload.blob = blob
            upload.ready = False
            upload.asked.append(request)
            self._work_on(upload)

    def put(self, session: Session, request: PutBlob) -> None:
        """Take the next bytes of an upload; a worker answers. Raises RefusedError."""
        with self._lock:
            upload = self._uploads.get((request.conversation, request.blob))
            if upload is None or upload.session is not session or not upload.ready:
                raise RefusedError("not-now", "start this upload first, and wait for the answer")
            end = request.offset + len(request.data)
            if end <= upload.durable:
                session.outlet.send(BlobState(request.id, upload.durable, upload.blob.expires))
                return
            if request.offset != upload.end or end > upload.blob.size:
                raise RefusedError("wrong-number", f"{upload.end:,} bytes of this upload are here: go on behind them")
            if session.parts >= limits.BLOB_WINDOW:
                raise RefusedError("busy", f"more than {limits.BLOB_WINDOW} parts at once: wait for the answers")
            session.parts += 1
            upload.end = end
            upload.waiting.append(request)
            self._work_on(upload)

    def forget(self, file: bytes) -> None:
        """An upload is over: its blob is whole, or was dropped."""
        self.release(file)

    def _give_up(self, upload: _Upload, why: str) -> None:
        """Refuse what waits to be written. Requires the lock."""
        if upload.session is not None:
            self._refuse(upload.session, upload.waiting, "wrong-number", why)
        upload.waiting.clear()
        upload.end = upload.durable

    def _leave(self, upload: _Upload) -> None:
        """Let nobody go on with it for now. Requires the lock."""
        if upload.session is not None:
            upload.session.uploads.discard(upload.key)
        upload.session = None
        upload.ready = False
        upload.asked.clear()
        if not upload.working:
            del self._uploads[upload.key], self._held[upload.blob.file]

    def _work_on(self, upload: _Upload) -> None:
        if not upload.working:
            upload.working = True
            self._submit(lambda: self._work(upload), upload.blob.account)

    def _work(self, upload: _Upload) -> None:
        """On a worker's thread: say how far it has come, or write what has come."""
        with self._lock:
            session, blob = upload.session, upload.blob
            asked, upload.asked = upload.asked, []
            parts, at = list(upload.waiting), upload.durable
            upload.waiting.clear()
        if session is not None:
            if asked:
                self._look(upload, session, blob, asked)
            if parts:
                self._write(upload, session, blob, parts, at)
        with self._lock:
            upload.working = False
            if upload.session is None:
                self._leave(upload)
            elif upload.asked or upload.waiting:
                self._work_on(upload)

    def _look(self, upload: _Upload, session: Session, blob: Blob, asked: Sequence[StartBlob]) -> None:
        """Answer how far an upload has come."""
        try:
            # A server that was killed may have written more than it had made durable, and told of.
            size = self._files.settle(blob.file)
            if size > blob.size:
                self._files.delete(blob.file)
                size = 0
        except StorageError as error:
            self._failed(session, asked, error)
            return
        if blob.seq and size != blob.size:
            self._lost(session, blob, asked)
            return
        with self._lock:
            if upload.session is session:
                upload.durable = upload.end = size
                upload.ready = not upload.asked  # somebody who asks again is answered first
        for request in asked:
            if size == blob.size:  # killed before that was noted, or it has been for long
                self._hand_in(session, BlobArrived(request, blob.file))
            else:
                session.outlet.send(BlobState(request.id, size, blob.expires))

    def _write(self, upload: _Upload, session: Session, blob: Blob, parts: Sequence[PutBlob], at: int) -> None:
        """Write parts that follow each other, and answer them."""
        length = sum(len(part.data) for part in parts)
        try:
            self._append(blob.file, at, length, parts)
        except (StorageError, RefusedError) as error:
            with self._lock:
                upload.ready = False
                self._give_up(upload, "what comes before this was not written: start the upload again")
                session.parts -= len(parts)
            if isinstance(error, RefusedError):
                self._send(session, parts, error)
            elif isinstance(error, BlobLostError):
                self._lost(session, blob, parts)
            else:
                self._failed(session, parts, error)
            return
        with self._lock:
            upload.durable = at + length
            session.parts -= len(parts)
        for part in parts:
            so_far = part.offset + len(part.data)
            if so_far == blob.size:
                self._hand_in(session, BlobArrived(part, blob.file))
            else:
                session.outlet.send(BlobState(part.id, so_far, blob.expires))

    def _append(self, file: bytes, at: int, length: int, parts: Sequence[PutBlob]) -> None:
        """Write parts if there is room for them. Raises RefusedError and StorageError."""
        self._space.check_for_file(length)
        with self._lock:
            self._check_most(length)
            self._writing += length
        try:
            self._files.append(file, at, [part.data for part in parts])
        finally:
            with self._lock:
                self._writing -= length

    # --- downloads --------------------------------------------------------------------------------------------------

    def fetch(self, session: Session, request: FetchBlob, blob: Blob) -> None:
        """Send a part of a blob once the session's connection can take it; a worker does. Raises RefusedError."""
        with self._lock:
            if len(session.blob_reads) >= limits.BLOB_WINDOW:
                raise RefusedError("busy", f"more than {limits.BLOB_WINDOW} parts at once: wait for the answers")
            session.blob_reads.append((request, blob))
            self._read_for(session)

    def drained(self, session: Session) -> None:
        """The session's connection has taken everything."""
        with self._lock:
            self._read_for(session)

    def _read_for(self, session: Session) -> None:
        """Have a worker read, unless one does or nothing is wanted. Requires the lock."""
        if session.blob_reads and not session.blob_reading:
            session.blob_reading = True
            self._submit(lambda: self._read(session), session.account)

    def _read(self, session: Session) -> None:
        """On a worker's thread: read one part, and send it."""
        with self._lock:
            session.blob_reading = False  # before looking at what waits: whoever takes the last of it comes here again
            if not session.blob_reads or session.outlet.backlog > READY_BYTES:
                return
            session.blob_reading = True
            request, blob = session.blob_reads.popleft()
        try:
            length = min(request.length, blob.size - request.offset)
            data = self._files.read(blob.file, request.offset, length)
            session.outlet.send(BlobBytes(request.id, blob.size, data))
        except BlobLostError:
            self._hand_in(None, BlobsLost((blob.file,)))
            session.outlet.send(refusal(request.id, gone()))
        except StorageError as error:
            self._failed(session, [request], error)
        with self._lock:
            session.blob_reading = False
            self._read_for(session)

    # --- both -------------------------------------------------------------------------------------------------------

    def end(self, session: Session) -> None:
        """Do nothing more for a session that has ended."""
        with self._lock:
            session.blob_reads.clear()
            for key in list(session.uploads):
                upload = self._uploads[key]
                upload.waiting.clear()
                self._leave(upload)

    def release(self, file: bytes) -> bool:
        """Let nobody go on with an upload into a file that no blob has; whether nobody writes to it now. Any thread."""
        with self._lock:
            if (upload := self._held.get(file)) is not None:
                self._give_up(upload, "this upload is over")
                self._leave(upload)
            return file not in self._held

    @property
    def uploads(self) -> int:
        """How many uploads somebody goes on with. Any thread."""
        return len(self._uploads)

    def _submit(self, job: Callable[[], None], account: str) -> None:
        """Have a worker do it. No session owns the job: it knows by itself when nobody waits any more."""
        self._workers.submit(job, account)

    def _lost(self, session: Session, blob: Blob, requests: Sequence[Request]) -> None:
        log.error("bytes of a blob are missing; it is dropped", account=blob.account, size=blob.size)
        self._hand_in(None, BlobsLost((blob.file,)))
        text = "the server has lost what was uploaded: start again"
        self._send(session, requests, RefusedError("busy", text, retry_after=AGAIN_SECONDS))

    def _failed(self, session: Session, requests: Sequence[Request], error: StorageError) -> None:
        if has_no_room(error):
            text = "the server's disk is full: what was uploaded stays, and can be gone on with later"
        else:
            if (now := time.monotonic()) >= self._told_until:  # a disk that fails must not fill the log as well
                self._told_until = now + TOLD_SECONDS
                log.error("a blob cannot be read or written", reason=str(error))
            text = "the server cannot read or write files at the moment; try again later"
        self._send(session, requests, RefusedError("disk-full", text, retry_after=RETRY_SECONDS))

    def _refuse(self, session: Session, parts: Sequence[PutBlob] | deque[PutBlob], code: Code, text: str) -> None:
        """Refuse parts that wait. Requires the lock."""
        session.parts -= len(parts)
        for part in parts:
            session.outlet.send(refusal(part.id, RefusedError(code, text)))

    def _send(self, session: Session, requests: Sequence[Request], refused: RefusedError) -> None:
        for request in requests:
            session.outlet.send(refusal(request.id, refused))
