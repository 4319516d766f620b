"""An export: a whole vault as one file under a passphrase, for another machine.

    export = head[5] wrapped[117] chunk*       head = "SCex" version[1] = 1
    wrapped: a key of 32 bytes, as `wrapping` says, its context is the head; each guess costs FOR_A_FILE (`passphrase`)
    chunk  = AES-256-GCM(key, nonce = uint88 number || uint8 last, CHUNK bytes, or up to that many in the last one)
             tag[16]

    The chunks, joined:

    struct {
        opaque contents<V>;          /* of: */
            opaque account<V>;       /* UTF-8, normalised */
            opaque server_id[16];
            opaque card<V>;          /* JSON, as `addresses` says; may be empty */
            opaque key_file<V>;      /* as `key_file` says: under the vault's own password, as ever */
            uint64 size;
        opaque database[size];
    }

That is STREAM (Hoang, Reyhanitabar, Rogaway, Vizar, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015), as age has it: a chunk opens in its place alone, and the last one alone as the last.
Whatever is read before the end is in a file that nothing uses before the end was right.

The database in it is a copy that was told to heal: its device's key is renewed at its first login, before anything
else, and a fresh path comes first in each conversation (`Database.write_copy`). So the vault that it was made of is an
older copy from then on, which is shut out like any other (docs/design.md, section 6).
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import disk_usage
from typing import BinaryIO, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securechat.client.addresses import Card, Folder
from securechat.client.passphrase import FOR_A_FILE, MOST, letters_of, wrong
from securechat.client.vault.vault import Vault
from securechat.client.vault_files import CARD, EXPORTING, FIRST_KEY, IMPORTING, KEY, beside
from securechat.client.wrapping import OVERHEAD, Cost, WrongPasswordError, unwrap, wipe, wrap
from securechat.errors import DecodeError, StorageError, UsageError
from securechat.files import PRIVATE, FileLock, make_private_folder, sync, write_atomically
from securechat.names import normalise_account
from securechat.tlscodec import Reader, Writer, encode_vector
from securechat.value import value
from securechat.wire.limits import MAX_ACCOUNT, SERVER_ID_LENGTH

CHUNK: Final = 64 << 10
"""Bytes that are encrypted together: what both sides keep in memory."""

MAX_CARD: Final = 32 << 10
"""Bytes of a card that is taken along, several times what one has; the vault knows itself what is on it."""

ROOM: Final = 64 << 20
"""Bytes that stay free on the disk beside what an import writes."""

_MAGIC: Final = b"SCex"
_HEAD: Final = _MAGIC + b"\x01"
_KEY_LENGTH: Final = 32
_TAG_LENGTH: Final = 16
_MAX_KEY_FILE: Final = 1 << 10


@value
class Contents:
    """What stands before the database. `size`: its bytes."""

    account: str
    server_id: bytes
    card: bytes
    key_file: bytes
    size: int

    def encode(self) -> bytes:
        """Return the encoding, with its length before it."""
        writer = Writer().vector(self.account.encode()).opaque(self.server_id).vector(self.card)
        return encode_vector(bytes(writer.vector(self.key_file).u64(self.size)))


def write_export(vault: Vault, out: BinaryIO, passphrase: str, *, cost: Cost = FOR_A_FILE) -> None:
    """Write an open vault to `out`, under a passphrase that is good enough. Raises `StorageError`, `UsageError`.

    A copy of the database lies beside it meanwhile, encrypted as the vault is.
    """
    device = vault.device.load()
    if device is None or not device.server_id:
        raise UsageError("This vault has not met its server yet, so there is nothing to take along. Start it once.")
    card, copy = beside(vault.path, CARD), beside(vault.path, EXPORTING)
    letters, key = letters_of(passphrase), bytearray(os.urandom(_KEY_LENGTH))
    try:
        vault.write_copy(copy)
        content = card.read_bytes() if card.is_file() and card.stat().st_size <= MAX_CARD else b""
        contents = Contents(device.account, device.server_id, content, vault.key_file(), copy.stat().st_size)
        out.write(_HEAD + wrap(key, letters, context=_HEAD, cost=cost))
        with copy.open("rb") as database:
            _encrypt(out, AESGCM(key), contents.encode(), database)
        out.flush()
    except OSError as error:
        raise StorageError(f"The export cannot be written: {error.strerror or error}.") from error
    finally:
        wipe(letters)
        wipe(key)
        with suppress(OSError):
            copy.unlink(missing_ok=True)


def _encrypt(out: BinaryIO, cipher: AESGCM, first: bytes, database: BinaryIO) -> None:
    number, pending = 0, bytearray(first)
    while True:
        block = database.read(CHUNK)
        pending += block
        while len(pending) > CHUNK or not block:  # what may be the last one waits until it is known to be
            last = len(pending) <= CHUNK
            out.write(cipher.encrypt(_nonce(number, last=last), bytes(pending[:CHUNK]), None))
            del pending[:CHUNK]
            number += 1
            if last:
                return


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class Export:
    """An export that is being read. `contents`: what its first part says; `address`: where its server was last."""

    def __init__(self, source: BinaryIO, passphrase: str) -> None:
        """Read the first part, of a file or a stream. Takes a second.

        Raises `UsageError`, a sentence on what is wrong with it; `WrongPassphraseError` if nothing is.
        """
        start = _read(source, len(_HEAD) + OVERHEAD + _KEY_LENGTH)
        if not start.startswith(_MAGIC):
            raise UsageError("This is no export of securechat: it begins otherwise.")
        if len(start) < len(_HEAD) + OVERHEAD + _KEY_LENGTH:
            raise _cut_off()
        if not start.startswith(_HEAD):
            raise UsageError("This export is of a version that this program does not know. Use a newer program.")
        self._source = source
        self.address = ""
        letters = letters_of(passphrase)
        try:
            key = unwrap(start.removeprefix(_HEAD), letters, context=_HEAD, most=MOST)
        except WrongPasswordError:
            raise wrong("export") from None
        except StorageError as error:
            raise UsageError(f"This export is damaged: nothing was done. {error}") from None
        finally:
            wipe(letters)
        if len(key) != _KEY_LENGTH:
            raise _damaged()
        self._cipher = AESGCM(key)
        wipe(key)
        self._length = 0  # of all chunks, once it is known
        self._chunks = self._decrypt()
        first = next(self._chunks)
        try:
            reader = Reader(first)
            inner = Reader(reader.vector(CHUNK))
            account = inner.vector(4 * MAX_ACCOUNT).decode()
            server_id, card = inner.opaque(SERVER_ID_LENGTH), inner.vector(MAX_CARD)
            self.contents = Contents(account, server_id, card, inner.vector(_MAX_KEY_FILE), inner.u64())
            inner.done()
            if normalise_account(account) != account:
                raise DecodeError("its account is not in its one spelling")
        except (DecodeError, UsageError, UnicodeDecodeError) as error:
            raise UsageError(f"This export was not made by this version of securechat: {error}.") from None
        with suppress(ValueError):
            self.address = msgspec.json.decode(self.contents.card, type=Card).addresses[-1]
        self._begun = first[reader.position :]
        self._length = reader.position + self.contents.size

    def database(self) -> Iterator[bytes]:
        """Yield the database, piece by piece. What was yielded is right only if this comes to its end.

        Raises `UsageError` for what is damaged, cut off, or goes on behind its end.
        """
        got = len(self._begun)
        yield self._begun
        for chunk in self._chunks:
            got += len(chunk)
            if got > self.contents.size:  # for which there was room on the disk
                break
            yield chunk
        if got != self.contents.size:
            raise _damaged()

    def _decrypt(self) -> Iterator[bytes]:
        number, ahead, full = 0, _read(self._source, CHUNK + _TAG_LENGTH), CHUNK + _TAG_LENGTH
        while True:
            chunk, ahead = ahead, _read(self._source, full) if len(ahead) == full else b""
            plain = self._open(number, chunk, last=not ahead)
            if plain is None:
                ends_early = number * CHUNK + len(chunk) - _TAG_LENGTH < self._length
                more = self._open(number, chunk, last=False) is not None
                raise _cut_off() if not ahead and (ends_early or more) else _damaged()
            yield plain
            if not ahead:
                return
            number += 1

    def _open(self, number: int, chunk: bytes, *, last: bool) -> bytes | None:
        try:
            return self._cipher.decrypt(_nonce(number, last=last), chunk, None)
        except InvalidTag:
            return None


def import_vault(export: Export, folder: Path) -> Path:
    """Make the vault that is in an export, in a folder where there is none for its account and server; return its path.

    However it ends, all of it is there or nothing. Raises `StorageError`, or `UsageError` as `Export` does.
    """
    contents = export.contents
    account = contents.account
    make_private_folder(folder)
    place = Folder(folder, account)
    path = place.of(contents.server_id)
    lock = FileLock(beside(path, ".lock"), busy=f"The vault {path} is open in another program. Close that one first.")
    there = [each for each in (path, beside(path, KEY), beside(path, CARD)) if each.exists()]
    try:
        if there:
            raise StorageError(
                f"{account} has a vault for this server here already ({there[0]}), and nothing was done. Move it and "
                "what is beside it away first, or name another folder with --vault."
            )
        if disk_usage(folder).free < contents.size + ROOM:
            raise StorageError(f"The vault takes {contents.size / 2**20:,.0f} MiB, and the disk has no room for it.")
        writing = beside(path, IMPORTING)
        try:
            _write(writing, export)
            # A key before its database is a first start that was cut off: nothing, until the next name makes it whole.
            write_atomically(beside(path, FIRST_KEY), contents.key_file)
            writing.replace(path)
            sync(folder)
            beside(path, FIRST_KEY).replace(beside(path, KEY))
            sync(folder)
        except OSError as error:
            raise StorageError(f"The vault {path} cannot be written: {error.strerror or error}.") from error
        finally:
            writing.unlink(missing_ok=True)
            if not path.exists():
                beside(path, FIRST_KEY).unlink(missing_ok=True)
        with suppress(ValueError):  # it was found without: the vault knows where its server is
            card = msgspec.json.decode(contents.card, type=Card)
            if (card.account, card.server_id) == (account, contents.server_id.hex()):
                write_atomically(beside(path, CARD), contents.card)
        return path
    finally:
        if there or path.exists():
            lock.close()
        else:
            lock.discard()


def _write(path: Path, export: Export) -> None:
    """Write the database to a file of its own, to the disk."""
    path.unlink(missing_ok=True)  # an earlier import was cut off
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as file:
        for piece in export.database():
            file.write(piece)
    sync(path)


def _read(source: BinaryIO, length: int) -> bytes:
    """Read so many bytes, of a pipe too; fewer at the end. Raises `UsageError`."""
    pieces = bytearray()
    try:
        while len(pieces) < length and (piece := source.read(length - len(pieces))):
            pieces += piece
    except OSError as error:
        raise UsageError(f"The export cannot be read: {error.strerror or error}.") from None
    return bytes(pieces)


def _cut_off() -> UsageError:
    return UsageError("This export is cut off, and nothing was done. Copy it again: all of it has to be there.")


def _damaged() -> UsageError:
    return UsageError("This export is damaged, and nothing was done. Copy it again, or make it again.")
