"""What front ends read: lines of a program that drives the core, invite lines, and text that others chose."""

import hashlib
import struct
import tempfile
import unicodedata
from contextlib import suppress
from pathlib import Path

from securechat.clean import clean, clean_line
from securechat.client import commands
from securechat.client.recovery_file import _ARMOUR, _CONTEXT, RecoveryContents, _decode, _encode, open_recovery
from securechat.client.vault.key_file import KEY_LENGTH, create, unlock
from securechat.client.wrapping import Cost, unwrap, wrap
from securechat.errors import DecodeError, StorageError, UsageError
from securechat.identity.invite_line import InviteLine, Voucher, decode
from securechat.ui.rpc.codec import Request, decode_request, encode_request
from tests.fuzz.registry import Target

ROOM = bytes(range(32))


def rpc_request(data: bytes) -> None:
    """A line is a request, which is written and read again as itself, or refused."""
    try:
        request = decode_request(data)
    except UsageError:
        return
    assert decode_request(encode_request(request)) == request


def shown_text(data: bytes) -> None:
    """Whatever is shown is visible, and cleaning it again changes nothing."""
    text = clean(data.decode("utf-8", "surrogateescape"))
    for character in text.replace("\n", ""):
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert clean_line(clean_line(text)) == clean_line(text)


def invite_line(data: bytes) -> None:
    """A text is an invite line, which is written as it was read, or refused."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        line = decode(text, 0)
    except UsageError:
        return
    assert line.encode() == "".join(text.split()).lower()


PASSPHRASE = "abcde-fghjk-mnpqr-stuvw"


def recovery_file(data: bytes) -> None:
    """A file is a recovery file under this passphrase, or is refused in a sentence."""
    with suppress(UsageError):
        assert len(open_recovery(data, PASSPHRASE).private) == 32


def recovery_contents(data: bytes) -> None:
    """What is inside one is read, and written as it was read, or refused."""
    try:
        contents = _decode(bytearray(data))
    except (DecodeError, UsageError):
        return
    assert _encode(contents) == data


CHEAP = Cost(time=1, memory=8, lanes=1)
HEAD, COST = 5, 9
"""Bytes of a key file before its cost, and of that."""


def wrapped_secret(data: bytes) -> None:
    """Bytes are the secret that was wrapped, or are refused; a cost above the bound is never paid."""
    with suppress(StorageError):
        assert unwrap(data, bytearray(b"password"), context=b"fuzz", most=CHEAP) == ROOM


def key_file(data: bytes) -> None:
    """A file has the key under this password, or is refused. Its checksum is made right, so that more is looked at.

    Not where it asks for more than the cheapest: a higher cost that is granted takes a second.
    """
    body = data[:-32]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vault.key"
        cheap = data[HEAD : HEAD + COST] == struct.pack(">IIB", CHEAP.time, CHEAP.memory, CHEAP.lanes)
        for content in (data, body + hashlib.sha256(body).digest()) if cheap else (data,):
            path.write_bytes(content)
            try:
                key, cost = unlock(path, bytearray(b"password"))
            except StorageError:
                continue
            assert len(key) == KEY_LENGTH
            assert cost == CHEAP


TARGETS: dict[str, Target] = {
    "rpc_request": rpc_request, "shown_text": shown_text, "invite_line": invite_line, "recovery_file": recovery_file,
    "recovery_contents": recovery_contents, "wrapped_secret": wrapped_secret, "key_file": key_file,
}  # fmt: skip


def seeds() -> dict[str, list[bytes]]:
    """One line of several shapes, and texts that are dangerous as they are."""
    voucher = Voucher(ROOM[:16], "alice", ROOM, ROOM, "#staff", ROOM, 1)
    said = (
        commands.Send(ROOM, "Hello \N{WAVING HAND SIGN}\x1b[2J"),
        commands.OpenDirect("bob", "may I?", ask=True),
        commands.MarkShown(7),
        commands.ListRooms(),
    )
    texts = ("\x1b[2A\r12:00 [bob] bob: fake\nx", "Z" + "\u0300" * 50, "a\u202eb\u200d\ufe0f\U000e0041", "\ufeff\u2028")
    contents = RecoveryContents("localhost:4433", f"sha256:{'ab' * 32}", ROOM[:16], "alice", bytearray(ROOM))
    letters = bytearray(PASSPHRASE.replace("-", "").encode())
    line = _ARMOUR.encode(wrap(_encode(contents), letters, context=_CONTEXT, cost=CHEAP))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vault.key"
        create(path, bytearray(b"password"), cost=CHEAP)
        kept = path.read_bytes()
    return {
        "wrapped_secret": [wrap(bytearray(ROOM), bytearray(b"password"), context=b"fuzz", cost=CHEAP)],
        "key_file": [kept],
        "rpc_request": [encode_request(Request(number, each)) for number, each in enumerate(said, 1)],
        "shown_text": [text.encode() for text in texts],
        "recovery_file": [line.encode()],
        "recovery_contents": [bytes(_encode(contents))],
        "invite_line": [
            InviteLine("localhost:4433", f"sha256:{'ab' * 32}", "code", each).encode().encode()
            for each in (None, voucher)
        ],
    }
