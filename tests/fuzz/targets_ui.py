"""What front ends read: lines of a program that drives the core, invite lines, and text that others chose."""

import unicodedata

from securechat.client import commands
from securechat.errors import UsageError
from securechat.identity.invite_line import InviteLine, Voucher, decode
from securechat.ui.rpc.codec import Call, decode_command, encode_command
from securechat.ui.text.clean import clean, clean_line
from tests.fuzz.registry import Target

ROOM = bytes(range(32))


def rpc_command(data: bytes) -> None:
    """A line is a command, which is written and read again as itself, or refused."""
    try:
        call = decode_command(data)
    except UsageError:
        return
    assert decode_command(encode_command(call)) == call


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


TARGETS: dict[str, Target] = {"rpc_command": rpc_command, "shown_text": shown_text, "invite_line": invite_line}


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
    return {
        "rpc_command": [encode_command(Call(number, each)) for number, each in enumerate(said, 1)],
        "shown_text": [text.encode() for text in texts],
        "invite_line": [
            InviteLine("localhost:4433", f"sha256:{'ab' * 32}", "code", each).encode().encode()
            for each in (None, voucher)
        ],
    }
