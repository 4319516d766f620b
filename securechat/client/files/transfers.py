"""Transfers: files that are sent and saved, step by step, each step noted in the vault before the next one begins.

    send    sealing   its bytes are encrypted into a copy of our own, so that whatever becomes of the file, no key and
                      nonce is ever used for other bytes, and what is sent again is the same
            waiting   for the server to say how much of the copy it has
            moving    parts of it go there, a few at once
            then      the message that names it is said, the copy deleted; where there is a direct link to the other
                      one, it is said first, and the server may be spared the rest (`linked`)
    save    opening   if it was saved before, and is still there, it is taken from there
            waiting   it is looked how much of the sealed file is here
            moving    parts of it come, a few at once, and are appended
            opening   it is decrypted into the folder, checked, and gets its name there
            then      the sealed file is deleted

A small file goes inside its message, and is saved from there. After a kill or a lost connection each goes on: of what
the server has by its own word, of what is here by the length of the file. What ends before it is whole is told with the
reason, and nothing of it is left. A file whose line is deleted or ends is given up with it (`vault.schema`).

What goes over the connection for files is bounded, so that words do not wait behind it (`pace`). The files that wait
take turns.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Final

import msgspec

from securechat.client import commands, events
from securechat.client.backoff import TOLD_SECONDS, Backoff
from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.registry import Registry
from securechat.client.files.jobs import (
    Append,
    CancelledError,
    Clear,
    Job,
    LostError,
    Measure,
    Outcome,
    Reached,
    Read,
    Reuse,
    Save,
    Seal,
    Sealed,
    Sweep,
    Unseal,
)
from securechat.client.files.linked import Linked
from securechat.client.files.pace import Pace
from securechat.client.files.placing import new_temporary_name
from securechat.client.files.saving import LINE_GONE, Saving, is_awaited
from securechat.client.files.sealing import DamagedFileError, new_key
from securechat.client.files.transfer import Transfer
from securechat.client.vault.transfers import TransferRow
from securechat.client.vault_files import FILES, beside
from securechat.content.registry import MAX_FILE, MAX_FILE_NAME, MAX_INLINE, File, encode_body, file_of
from securechat.errors import SecurechatError, StorageError, UsageError, sentence
from securechat.files import has_no_room
from securechat.wire.blobs import part_length
from securechat.wire.limits import BLOB_ID_LENGTH
from securechat.wire.messages import (
    RETRYABLE,
    BlobState,
    DropBlob,
    FetchBlob,
    PutBlob,
    Refused,
    Reply,
    StartBlob,
)

MAX_TRANSFERS: Final = 100
"""Files on their way at once: each may have a copy on this disk."""

INLINE: Final = 2048
"""Bytes up to which a file goes inside its message. A voice note may have `MAX_INLINE`: it is heard at once."""

MAX_RESTARTS: Final = 3
"""How often a file is begun anew because the disk has not kept what was written."""

OUT: Final = "only who is in the conversation with it gets it, and you are not any more. Ask for it to be sent again."
"""Why a file cannot be saved whose conversation is over, also if there is a new one by that name."""

_TOLD_SECONDS: Final = 0.5
_CONTENT_UNKNOWN: Final = bytes(32)



class Transfers:
    """All files on their way, in the engine's units."""

    def __init__(self, context: Context, registry: Registry) -> None:
        """Load what the vault has; what nobody needs any more is deleted."""
        self._context = context
        self._registry = registry
        self._folder = beside(context.vault.path, FILES)
        self._pace = Pace(context.clock.monotonic)
        self._running: dict[int, Transfer] = {}
        self._written = -1  # what the vault's `writes` were when it was looked whose lines are still there
        self._linked = Linked(context, registry, self)
        self._saving = Saving(context, registry, self._linked, self)
        self.handlers: Final[Mapping[type[commands.Command], Callable[[Any], None]]] = {
            commands.SendFile: self._send,
            commands.SaveFile: self._save,
            commands.CancelFile: self._cancel,
        }
        for row in context.vault.transfers.load():
            file = file_of("file", row.body)
            if file is not None:
                self._running[row.id] = Transfer(row, file, Backoff(context.clock.monotonic))
        kept = frozenset(self.copy_of(each).name for each in self._running.values())
        if kept or self._folder.exists():
            context.jobs.append(Sweep(0, 0, self._folder, kept))
        for folder, temporary in context.vault.transfers.leftovers():
            context.jobs.append(Clear(0, 0, None, Path(folder), temporary))

    # --- commands -------------------------------------------------------------------------------------------------

    def _send(self, command: commands.SendFile) -> None:
        self._check_room()
        conversation = _open(self._registry.wanted(command.conversation))
        path = Path(command.path)
        if not path.is_absolute():
            raise UsageError("Give the whole path of the file.")
        called, media_type = command.name or path.name, command.media_type
        if command.disposition == "voice":  # what is said of it, and not of what it is made of
            called, media_type = f"{PurePath(called).stem}.ogg", "audio/ogg"
        name = called.encode(errors="replace")[:MAX_FILE_NAME].decode(errors="ignore")
        if not name:
            raise UsageError("The file has no name: give it one.")
        file = File(
            command.description or name, name, media_type, command.disposition, 0, _CONTENT_UNKNOWN,
            os.urandom(BLOB_ID_LENGTH), new_key(), b"",
        )  # fmt: skip
        body = _checked(file)
        row = self._context.vault.transfers.add("send", conversation.id, command.path, body)
        transfer = self._begin(row, file)
        transfer.by_server, transfer.fresh = command.upload_first, True
        self._seal(transfer)

    def _save(self, command: commands.SaveFile) -> None:
        self._check_room()
        history, folder = self._context.vault.history, Path(command.folder)
        message, file = history.message(command.local_id), history.file(command.local_id)
        if file is None:
            raise UsageError("There is no file in that message.")
        if message.own and not message.seq:
            raise UsageError("That file is yours, and is not sent yet.")
        if not folder.is_absolute():
            raise UsageError("Give the whole path of the folder.")
        saves = [each for each in self._running.values() if each.row.kind == "save"]
        # By a link and at the server a file is known by its blob, and a hostile message may name that of another one.
        if any(each.row.line == command.local_id or each.file.blob == file.blob != b"" for each in saves):
            raise UsageError("That file is being saved already.")
        row = self._context.vault.transfers.add(
            "save", message.conversation, command.folder, encode_body(file)[1],
            line=command.local_id, temporary=new_temporary_name(), began=self._context.clock.milliseconds(),
        )  # fmt: skip
        self._begin(row, file)

    def _begin(self, row: TransferRow, file: File) -> Transfer:
        transfer = self._running[row.id] = Transfer(row, file, Backoff(self._context.clock.monotonic))
        self._context.answers.wait_for(("transfer", row.id))
        self.tell(transfer, at_once=True)
        return transfer

    def _cancel(self, command: commands.CancelFile) -> None:
        transfer = self._running.get(command.transfer)
        if transfer is None:
            raise UsageError("There is no such file on its way.")
        self.end_with(transfer, "you have cancelled it.")
        self._context.emit(events.Done())

    def _check_room(self) -> None:
        if len(self._running) >= MAX_TRANSFERS:
            raise UsageError(f"{MAX_TRANSFERS} files are on their way already. Wait until some have come to an end.")

    # --- for the engine -------------------------------------------------------------------------------------------

    def end(self) -> None:
        """The connection is gone: what was on its way there and back is asked for anew."""
        self._context.unshared = True
        for transfer in self._running.values():
            if transfer.stage in ("waiting", "moving") and not (transfer.link and transfer.row.kind == "save"):
                transfer.wait()

    @property
    def timer(self) -> float | None:
        """When to call `look` because something is tried again, on the monotonic clock."""
        running = self._running.values()
        waits = [wait for each in running for wait in (each.backoff.until, self._linked.timer(each)) if wait]
        return min(waits, default=None) if self._registry.connected else None

    def look(self) -> None:
        """Let everything take its next step. Call at the end of a unit."""
        if self._registry.connected and self._context.unshared:
            self._context.unshared = False
            for conversation, blob in self._context.vault.transfers.unshared():
                self._drop(conversation, blob)
        had, self._context.had = self._context.had, []
        for transfer in [each for each in self._running.values() if each.row.kind == "send" and each.said]:
            if (transfer.row.conversation, transfer.file.blob) in had:
                self.had(transfer)
        self._linked.tell_had()
        if not self._running:
            return
        if self._context.vault.writes != self._written:
            there = self._context.vault.transfers.ids()
            for transfer in [each for each in self._running.values() if each.row.id not in there]:
                self.end_with(transfer, LINE_GONE)
            self._written = self._context.vault.writes
        for transfer in [*self._running.values()]:
            self._look_at(transfer)
        if self._registry.connected:
            self._ask_for_parts()

    def _look_at(self, transfer: Transfer) -> None:
        row = transfer.row
        if row.kind == "save":
            self._linked.watch(transfer)
        elif row.sealed and transfer.file.blob and not transfer.by_server:
            self._linked.look(transfer)
            if transfer.link and not transfer.said:
                self._say_first(transfer)
            if self._linked.spares(transfer):
                return
        ready = not transfer.backoff.waiting or (row.kind == "save" and self._linked.can_fetch(transfer))
        if transfer.stage == "waiting" and not transfer.asked and ready:
            transfer.backoff.until = 0.0
            self._resume(transfer)

    @property
    def shown(self) -> tuple[events.Transfer, ...]:
        """All of them, the oldest first, as front ends see them."""
        return tuple(map(self._shown, self._running.values()))

    def finish(self, outcome: Outcome) -> None:
        """A job has come to its end, or further."""
        job, result = outcome.job, outcome.result
        if isinstance(job, Clear):
            if job.temporary and result is None:
                self._context.vault.transfers.cleared(job.temporary)
            return
        transfer = self._running.get(job.transfer)
        if transfer is None or isinstance(result, CancelledError):
            return
        if job.attempt != transfer.attempt:
            return
        if isinstance(result, Reached):
            transfer.done = result.bytes
            self.tell(transfer)
        elif isinstance(result, SecurechatError):
            self._fail(transfer, job, result)
        else:
            self._done(transfer, job, result)

    def _fail(self, transfer: Transfer, job: Job, error: SecurechatError) -> None:
        if transfer.row.kind == "save" and isinstance(error, StorageError) and has_no_room(error):
            self._saving.wait_for_room(transfer, str(error))
            return
        # The copy is gone, or a crash has kept less of it than it seemed.
        damaged = isinstance(error, DamagedFileError) and not isinstance(job, Append)
        transfer.by_server = transfer.by_server or (damaged and transfer.came_directly)
        lost = isinstance(error, LostError) or isinstance(job, Read)
        if lost or (damaged and (transfer.kept or transfer.came_directly)):
            self._restart(transfer)
        elif isinstance(error, DamagedFileError):
            self.end_with(transfer, f"{sentence(str(error))} Ask for it to be sent again.")
        else:
            self.end_with(transfer, str(error))

    def _done(self, transfer: Transfer, job: Job, result: object) -> None:
        match job, result:
            case Seal(), Sealed():
                self._sealed(transfer, result)
            case Read(), list(parts):
                self._put(transfer, job, parts)
            case Measure(), int(length):
                self._saving.measured(transfer, length)
            case Append(parts=parts), int(length):
                self._saving.appended(transfer, len(parts), length)
            case (Unseal() | Save() | Reuse()), Path():
                self._saving.saved(transfer, result)
            case Reuse(), None:
                transfer.looked = True
                transfer.wait()
            case _:
                pass

    # --- steps ----------------------------------------------------------------------------------------------------

    def _resume(self, transfer: Transfer) -> None:
        row = transfer.row
        if row.kind == "save":
            self._saving.resume(transfer)
        elif not row.sealed:
            self._restart(transfer)
        elif not transfer.file.blob:
            self._say(transfer)
        elif self._registry.connected and (conversation := self._target(transfer)) is not None:
            transfer.asked, transfer.target = True, conversation.id
            begin = StartBlob(0, conversation.id, transfer.file.blob, transfer.total)
            self._context.request(begin, self._answer(transfer, self._started))

    def _target(self, transfer: Transfer) -> Conversation | None:
        """Return the conversation to which a file goes, if it can now: it may go on in another one by now."""
        conversation = self._registry.get(transfer.row.conversation)
        if conversation is None or conversation.row.closed or conversation.row.phase in phases.STOPPED:
            self.end_with(transfer, "the conversation is closed or has stopped, and nothing can be said there.")
            return None
        if conversation.row.phase not in phases.READING:
            return None
        if conversation.id != transfer.row.conversation:
            transfer.row.conversation = conversation.id
            self._context.vault.transfers.save(transfer.row)
        return conversation

    def _seal(self, transfer: Transfer) -> None:
        transfer.stage, file = "sealing", transfer.file
        most_inside = MAX_INLINE if file.disposition == "voice" else INLINE
        self.hand_out(transfer, Seal(
            transfer.row.id, transfer.attempt, source=Path(transfer.row.path), copy=self.copy_of(transfer),
            key=file.key, blob=file.blob, inline=most_inside, most=MAX_FILE, disposition=file.disposition,
            unwanted=transfer.unwanted,
        ))  # fmt: skip

    def _restart(self, transfer: Transfer) -> None:
        """Begin with the first step: of what is sent, under another key and id."""
        transfer.restarts += 1
        if transfer.restarts > MAX_RESTARTS:
            self.end_with(transfer, "the disk does not keep what is written for it. See that it is sound.")
            return
        transfer.wait()
        transfer.kept, transfer.came_directly, transfer.afresh = False, False, True
        if transfer.row.kind == "send":
            self._clear(transfer)
            drawn = {"size": 0, "digest": _CONTENT_UNKNOWN, "blob": os.urandom(BLOB_ID_LENGTH), "key": new_key()}
            self._note(transfer, sealed=False, **drawn)
            self._seal(transfer)

    def _sealed(self, transfer: Transfer, sealed: Sealed) -> None:
        found = sealed.digest
        if sealed.inline or not found.size:
            whole = {"size": found.size, "digest": found.digest, "blob": b"", "key": b"", "inline": sealed.inline}
            self._note(transfer, sealed=True, **whole, **sealed.described)
            self._say(transfer)
            return
        self._note(transfer, sealed=True, size=found.size, digest=found.digest, **sealed.described)
        transfer.stage, transfer.done = "waiting", 0
        if transfer.fresh and not transfer.by_server:
            self._linked.begin(transfer)
        self.tell(transfer, at_once=True)

    def _note(self, transfer: Transfer, *, sealed: bool, **fields: Any) -> None:
        transfer.file = msgspec.structs.replace(transfer.file, **fields)
        transfer.row.body, transfer.row.sealed = encode_body(transfer.file)[1], sealed
        self._context.vault.transfers.save(transfer.row)

    def link_news(self, link: bytes, news: object) -> None:
        """Something has happened to a direct link."""
        self._linked.news(link, news, [*self._running.values()])

    def had(self, transfer: Transfer) -> None:
        """The other one has all of a file, by a direct link: nobody needs it from the server."""
        if self._registry.connected:  # else what was uploaded of it expires
            self._drop(transfer.row.conversation, transfer.file.blob)
        self._sent(transfer)

    def _started(self, transfer: Transfer, state: BlobState) -> None:
        if state.offset > transfer.total:
            self.end_with(transfer, "the server says that it has more of it than there is.")
            return
        transfer.move(state.offset)
        self.tell(transfer, at_once=True)
        self._arrived(transfer, state)

    def _arrived(self, transfer: Transfer, state: BlobState) -> None:
        """So much is on the server's disk."""
        if state.offset > transfer.done:
            transfer.told_code = ""
            transfer.backoff.reset()
        transfer.done = state.offset
        self.tell(transfer)
        if state.offset < transfer.total:
            return
        if transfer.said:
            self._sent(transfer)
            return
        conversation = self._target(transfer)
        if conversation is not None and conversation.id == transfer.target:
            self._note(transfer, sealed=True, until=state.expires)
            self._say(transfer)
        else:
            transfer.wait()

    def _ask_for_parts(self) -> None:
        """Have more parts go on their way, once there is room for some (`Pace.room`): of each file in turns."""
        asked: dict[int, list[int]] = {}
        for _ in range(self._pace.room(sum(each.in_flight for each in self._running.values()))):
            wanting = [each for each in self._running.values() if each.wants]
            if not wanting:
                break
            transfer = min(wanting, key=lambda each: each.in_flight)
            length = part_length(transfer.next, self._pace.chunks, transfer.total)
            transfer.next += length
            transfer.in_flight += 1
            asked.setdefault(transfer.row.id, []).append(length)
        for each, lengths in asked.items():
            transfer = self._running[each]
            offset = transfer.next - sum(lengths)
            if transfer.row.kind == "save":
                for length in lengths:
                    self._saving.fetch(transfer, offset, length)
                    offset += length
            else:
                copy, wanted = self.copy_of(transfer), tuple(lengths)
                read = Read(each, transfer.attempt, copy, offset, wanted, unwanted=transfer.unwanted)
                self._context.jobs.append(read)

    def _put(self, transfer: Transfer, read: Read, parts: Sequence[bytes]) -> None:
        if tuple(map(len, parts)) != read.lengths:
            self._restart(transfer)  # the copy is not whole
            return
        offset = read.offset
        for part in parts:
            put = PutBlob(0, transfer.row.conversation, transfer.file.blob, offset, part)
            offset += len(part)
            self.ask_for(transfer, put, self._stored(offset))

    def _stored(self, end: int) -> Callable[[Transfer, BlobState], None]:
        def stored(transfer: Transfer, state: BlobState) -> None:
            transfer.in_flight -= 1
            if state.offset == end:
                self._arrived(transfer, state)
            else:  # it is not where it should be: ask how far it is
                transfer.wait()
                transfer.backoff.wait()

        return stored

    def ask_for(self, transfer: Transfer, request: PutBlob | FetchBlob, then: Callable[[Transfer, Any], None]) -> None:
        """Have the server take or send a part; `then` gets what it answers, unless that is a refusal."""
        self._context.request(request, self._pace.timed(self._answer(transfer, then)))

    def _sent(self, transfer: Transfer) -> None:
        self._context.emit(events.FileSent(self._shown(transfer)))
        self.forget(transfer)

    def _say(self, transfer: Transfer) -> None:
        """Say the message that names a file: everything that it takes is where it has to be."""
        conversation = self._target(transfer)
        if conversation is None:
            transfer.wait()
        else:
            self._put_line(transfer, conversation)
            self._sent(transfer)

    def _say_first(self, transfer: Transfer) -> None:
        """Say it before the server has the file: the other one can have it by a link, and the server later."""
        conversation = self._target(transfer)
        if conversation is not None:
            transfer.row.line = self._put_line(transfer, conversation)
            self._context.vault.transfers.save(transfer.row)
            transfer.wait()  # what is on its way to the server is not gone on with
            self.tell(transfer, at_once=True)

    def _put_line(self, transfer: Transfer, conversation: Conversation) -> int:
        context, row = self._context, transfer.row
        line = context.vault.history.add(
            conversation.id, context.device.account, encode_body(transfer.file),
            own=True, trust="verified", device=context.device.id, author=context.device.identity_key,
            written=context.clock.milliseconds(),
        )  # fmt: skip
        item = conversation.put(transfer.file, line.local_id)
        context.emit(events.Said(line, command=context.answers.waiting(("transfer", row.id))))
        context.answers.move(("transfer", row.id), ("item", item))
        return line.local_id

    # --- ends -----------------------------------------------------------------------------------------------------

    def _answer(self, transfer: Transfer, then: Callable[[Transfer, Any], None]) -> Callable[[Reply], None]:
        attempt = transfer.attempt

        def answer(reply: Reply) -> None:
            if self._running.get(transfer.row.id) is not transfer or transfer.attempt != attempt:
                return
            if isinstance(reply, Refused):
                self._refused(transfer, reply)
            else:
                then(transfer, reply)

        return answer

    def _refused(self, transfer: Transfer, refused: Refused) -> None:
        again = refused.code in RETRYABLE or refused.code == "wrong-number"
        at_least, text = refused.retry_after / 1000, f"The server says: {sentence(refused.text)}"
        if transfer.row.kind == "save" and is_awaited(transfer.file, refused):
            if why := self._saving.why_not_awaited(transfer):
                self.end_with(transfer, why)
                return
            again, at_least, text = True, *self._saving.awaited(transfer)
        if not again:
            left = transfer.row.kind == "save" and refused.code == "not-found"
            self.end_with(transfer, OUT if left else f"the server says: {sentence(refused.text)}")
            return
        transfer.wait()  # what else is on its way fails like this one, or is repeated
        transfer.backoff.wait(at_least)
        if transfer.backoff.lasts > TOLD_SECONDS:
            self.tell_delay(transfer, refused.code, f"{text} It is tried again by itself.")

    def tell_delay(self, transfer: Transfer, code: str, text: str) -> None:
        """Tell why a file has to wait, once."""
        if transfer.told_code != code:
            transfer.told_code = code
            command = self._context.answers.waiting(("transfer", transfer.row.id))
            self._context.emit(events.TransferDelayed(self._shown(transfer), code, text, command=command))

    def is_sending(self, line: int) -> bool:
        """Whether the file of a line of ours is on its way to others."""
        return any(each.row.line == line for each in self._running.values() if each.row.kind == "send")

    def end_with(self, transfer: Transfer, why: str) -> None:
        """Give a file up, and say why: `why`, as the end of a sentence."""
        row, context = transfer.row, self._context
        text = f"{transfer.file.name} was not {'sent' if row.kind == 'send' else 'saved'}: {why}"
        command = context.answers.waiting(("transfer", row.id))
        context.emit(events.TransferEnded(self._shown(transfer), text, command=command))
        if command:
            context.answers.refuse(("transfer", row.id), "local", text)
        if row.kind == "send" and row.sealed and transfer.file.blob:
            context.vault.transfers.unshare(row.conversation, transfer.file.blob)
            context.unshared = True
        self.forget(transfer)

    def _drop(self, conversation: bytes, blob: bytes) -> None:
        """Have the server delete what nobody is to have, now or on a later connection."""

        def dropped(reply: Reply) -> None:
            if not (isinstance(reply, Refused) and reply.code in RETRYABLE):
                self._context.vault.transfers.dropped(blob)

        self._context.request(DropBlob(0, conversation, blob), dropped)

    def forget(self, transfer: Transfer) -> None:
        """It is over: nothing is kept of it but where it was saved."""
        self._running.pop(transfer.row.id, None)
        self._context.vault.transfers.remove(transfer.row.id)
        if transfer.row.kind == "send":
            self._linked.forget(transfer)
        self._clear(transfer)

    def _clear(self, transfer: Transfer) -> None:
        transfer.unwanted.set()
        transfer.unwanted = threading.Event()
        row = transfer.row
        clear = Clear(row.id, 0, self.copy_of(transfer), Path(row.path), row.temporary)
        if row.kind == "save" and transfer.link:  # which writes to it
            self._linked.stop(transfer, clear)
        else:
            self._context.jobs.append(clear)

    def hand_out(self, transfer: Transfer, job: Job) -> None:
        """Have a job done that is the next step, and tell of it."""
        self._context.jobs.append(job)
        self.tell(transfer, at_once=True)

    def copy_of(self, transfer: Transfer) -> Path:
        """Return where the sealed file of a transfer is."""
        return self._folder / f"{transfer.row.id}-{transfer.file.blob.hex()}"

    def _shown(self, transfer: Transfer) -> events.Transfer:
        row, size = transfer.row, transfer.file.size
        offered = row.kind == "send" and transfer.said and self._linked.spares(transfer)
        stage: events.TransferStage = "offered" if offered else transfer.stage
        moved = transfer.done * size // transfer.total if stage in ("moving", "offered") else transfer.done
        return events.Transfer(
            row.id, row.kind, row.conversation, row.line, transfer.file.name, stage,
            min(moved, size) if size else moved, size,
        )  # fmt: skip

    def tell(self, transfer: Transfer, *, at_once: bool = False) -> None:
        """Tell how far a file has come, if it is time to."""
        now = self._context.clock.monotonic()
        if at_once or now - transfer.told >= _TOLD_SECONDS:
            transfer.told = now
            command = self._context.answers.waiting(("transfer", transfer.row.id))
            self._context.emit(events.Transferred(self._shown(transfer), command=command))


def _open(conversation: Conversation) -> Conversation:
    """Return a conversation in which something can be said. Raises `UsageError`."""
    row = conversation.row
    if row.closed:
        raise UsageError("This conversation is closed.")
    if row.kind == "direct" and conversation.context.blocks(row.name):
        raise UsageError(f"You have blocked {row.name}. /unblock {row.name} first, if you want to talk.")
    if row.asked == "theirs":
        raise UsageError(f"{row.name} asks to talk with you: accept or decline first.")
    if row.phase in phases.STOPPED:
        raise UsageError("This conversation has stopped. /repair tries to rejoin it.")
    return conversation


def _checked(file: File) -> bytes:
    """Return a file's body. Raises `UsageError` if a field of it is beyond its limits."""
    try:
        body = encode_body(file)[1]
        msgspec.msgpack.decode(body, type=File)
    except msgspec.ValidationError as error:
        raise UsageError(f"The file cannot be described like that: {error}.") from None
    return body
