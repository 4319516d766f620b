"""Files that are saved: what is there of one is measured, the rest is fetched and appended, and the whole is opened.

Where the disk has no room, it waits with what it has (`wait_for_room`). What was said before the server had it is
waited for (`why_not_awaited`): it may come there, or by a direct link.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations.registry import Registry
from securechat.client.files.jobs import Append, Job, Measure, Reuse, Save, Unseal
from securechat.client.files.linked import Linked
from securechat.client.files.pace import AT_ONCE
from securechat.client.files.sealing import Digest
from securechat.client.files.transfer import Transfer
from securechat.content.registry import File
from securechat.wire.blobs import whole_part
from securechat.wire.messages import BlobBytes, FetchBlob, PutBlob, Refused

AWAITED_MILLISECONDS: Final = 3 * 86_400_000
"""How long somebody who saves a file goes on asking for one that was said before the server had it: whoever has sent it
may have switched off over a weekend. Each wait is a tenth of the time since, up to MAX_AWAITED_SECONDS."""

MAX_AWAITED_SECONDS: Final = 600.0

_GONE: Final = "the server does not have it any more, since it keeps files for a time. Ask for it to be sent again."
LINE_GONE: Final = "the message with it is gone."
_NEVER_CAME: Final = "it has not come to the server in three days. Ask for it to be sent again."
_WENT_DIRECTLY: Final = "the server does not have it: it was sent straight to the other one, and is where you had it."


class Steps(Protocol):
    """What is done with a file otherwise."""

    def copy_of(self, transfer: Transfer) -> Path:
        """Return where its sealed file is."""

    def hand_out(self, transfer: Transfer, job: Job) -> None:
        """Have a job done that is the next step, and tell of it."""

    def tell(self, transfer: Transfer, *, at_once: bool = False) -> None:
        """Tell how far it is."""

    def tell_delay(self, transfer: Transfer, code: str, text: str) -> None:
        """Tell why it has to wait, once."""

    def ask_for(self, transfer: Transfer, request: PutBlob | FetchBlob, then: Callable[[Transfer, Any], None]) -> None:
        """Have the server send a part; `then` gets what it answers, unless that is a refusal."""

    def is_sending(self, line: int) -> bool:
        """Whether the file of a line of ours is on its way to others."""

    def end_with(self, transfer: Transfer, why: str) -> None:
        """Give it up, and say why: `why`, as the end of a sentence."""

    def forget(self, transfer: Transfer) -> None:
        """It is over."""


class Saving:
    """The steps of all files that are saved."""

    def __init__(self, context: Context, registry: Registry, linked: Linked, steps: Steps) -> None:
        self._context = context
        self._registry = registry
        self._linked = linked
        self._steps = steps

    def resume(self, transfer: Transfer) -> None:
        """Begin, or go on from what is here."""
        row, file = transfer.row, transfer.file
        saved = "" if transfer.looked else self._context.vault.transfers.saved(row.line)
        if saved:
            transfer.stage = "opening"
            self._steps.hand_out(transfer, Reuse(
                row.id, transfer.attempt, saved=Path(saved), folder=Path(row.path), temporary=row.temporary,
                name=file.name, digest=Digest(file.size, file.digest), unwanted=transfer.unwanted,
            ))  # fmt: skip
        elif not file.blob:
            transfer.stage = "opening"
            self._steps.hand_out(transfer, Save(
                row.id, transfer.attempt, folder=Path(row.path), temporary=row.temporary, name=file.name,
                data=file.inline, digest=Digest(file.size, file.digest), unwanted=transfer.unwanted,
            ))  # fmt: skip
        elif self._registry.connected or self._linked.can_fetch(transfer):
            transfer.asked = True
            measure = Measure(
                row.id, transfer.attempt, self._steps.copy_of(transfer), transfer.total, Path(row.path), file.size,
                transfer.afresh, unwanted=transfer.unwanted,
            )  # fmt: skip
            self._context.jobs.append(measure)

    def measured(self, transfer: Transfer, length: int) -> None:
        """Go on from so much of the sealed file."""
        if length > transfer.total:
            length = 0
        length = whole_part(length, transfer.total)  # a full disk may have taken a piece of the next chunk
        transfer.afresh = False
        transfer.kept = transfer.kept or length > 0
        transfer.move(length)
        self._steps.tell(transfer, at_once=True)
        if length == transfer.total:
            self._open(transfer)
        else:
            self._linked.fetch(transfer, length)

    def fetch(self, transfer: Transfer, offset: int, length: int) -> None:
        """Ask the server for a part."""
        row = transfer.row
        where = self._registry.get(row.conversation)
        request = FetchBlob(0, row.conversation if where is None else where.id, transfer.file.blob, offset, length)
        self._steps.ask_for(transfer, request, self._fetched(offset, length))

    def _fetched(self, offset: int, length: int) -> Callable[[Transfer, BlobBytes], None]:
        def take(transfer: Transfer, part: BlobBytes) -> None:
            if part.size != transfer.total:
                self._steps.end_with(transfer, "what the server has is not as long as the message says.")
                return
            if len(part.data) != length:
                self._steps.end_with(transfer, "the server sends other parts of it than it was asked for.")
                return
            transfer.backoff.reset()
            transfer.told_code = ""
            transfer.arrived[offset] = part.data
            self._append(transfer)

        return take

    def _append(self, transfer: Transfer) -> None:
        """Give the disk what has arrived: several parts at once, unless no more are on their way."""
        begin, parts = transfer.appended, list[bytes]()
        while (part := transfer.arrived.get(begin)) is not None:
            parts.append(part)
            begin += len(part)
        awaited = transfer.in_flight - transfer.appending - len(parts)
        if not parts or (awaited and len(parts) < AT_ONCE):
            return
        for part in parts:
            del transfer.arrived[transfer.appended]
            transfer.appended += len(part)
        transfer.appending += len(parts)
        row, file = transfer.row, transfer.file
        self._context.jobs.append(Append(
            row.id, transfer.attempt, self._steps.copy_of(transfer), begin - sum(map(len, parts)), parts, file.key,
            file.blob, file.size, unwanted=transfer.unwanted,
        ))  # fmt: skip

    def appended(self, transfer: Transfer, parts: int, length: int) -> None:
        """So much of it is here."""
        transfer.in_flight -= parts
        transfer.appending -= parts
        transfer.done = length
        self._steps.tell(transfer)
        if length == transfer.total:
            self._open(transfer)

    def _open(self, transfer: Transfer) -> None:
        transfer.stage, file, row = "opening", transfer.file, transfer.row
        self._steps.hand_out(transfer, Unseal(
            row.id, transfer.attempt, copy=self._steps.copy_of(transfer), folder=Path(row.path),
            temporary=row.temporary, name=file.name, key=file.key, blob=file.blob,
            digest=Digest(file.size, file.digest), unwanted=transfer.unwanted,
        ))  # fmt: skip

    def saved(self, transfer: Transfer, path: Path) -> None:
        """It is in the folder, and is what its message says."""
        row, context = transfer.row, self._context
        command = context.answers.waiting(("transfer", row.id))
        context.emit(events.FileSaved(row.line, transfer.file.name, str(path), command=command))
        self._linked.is_whole(transfer)
        context.vault.transfers.note_saved(row.line, str(path))
        context.answers.done(("transfer", row.id))
        self._steps.forget(transfer)

    def wait_for_room(self, transfer: Transfer, why: str) -> None:
        """Go on once there is room on the disk again: what is there of it stays."""
        transfer.wait()
        transfer.backoff.wait()
        text = f"{transfer.file.name} is not saved yet: {why} It goes on by itself once there is room."
        self._steps.tell_delay(transfer, "local", text)

    def awaited(self, transfer: Transfer) -> tuple[float, str]:
        """Return for how many seconds at least one waits that the server does not have yet, and what is said then."""
        since = (self._context.clock.milliseconds() - transfer.row.began) / 1000
        who = self._context.vault.history.message(transfer.row.line).sender
        text = f"The server does not have it yet: {who}'s client brings it there, or offers a direct link."
        return min(max(since / 10, 0.0), MAX_AWAITED_SECONDS), text

    def why_not_awaited(self, transfer: Transfer) -> str:
        """Return why a file that the server does not have will not come there; empty: it may still come."""
        row, context = transfer.row, self._context
        if transfer.file.until or context.vault.transfers.saved(row.line):  # it was there, or has come past it
            return _GONE
        line = context.vault.history.target(row.line)
        if line is None:  # it has gone with what came just before
            return LINE_GONE
        if line.own and not self._steps.is_sending(row.line):
            return _WENT_DIRECTLY
        return "" if context.clock.milliseconds() - row.began < AWAITED_MILLISECONDS else _NEVER_CAME


def is_awaited(file: File, refused: Refused) -> bool:
    """Whether a server that refuses a file that is saved may get it yet."""
    return refused.code == "gone" or (refused.code == "not-now" and not file.until)
