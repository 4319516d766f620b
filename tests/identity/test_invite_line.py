"""The invite line: what is written is read, and each damage is told from the others."""

import base64
import hashlib
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.errors import UsageError
from securechat.identity import line_proof
from securechat.identity.armour import MAX_TEXT
from securechat.identity.invite_line import (
    MAX_ADDRESS,
    MAX_CODE,
    MAX_DAYS,
    PREFIX,
    InviteLine,
    Voucher,
    decode,
    is_line,
)
from securechat.identity.line_proof import Claim
from securechat.tlscodec import Writer
from securechat.ui.view.lines import wrap
from securechat.wire.limits import MAX_TIME

NOW = 1_762_000_000_000
SECRET = bytes(range(32))
VOUCHER = Voucher(bytes(16), "alice", b"\1" * 32, b"\2" * 32, "#staff", SECRET, NOW + 1)
LINE = InviteLine("chat.example:4433", f"sha256:{'ab' * 32}", "fgh2-jkm4", VOUCHER)
TEXT = LINE.encode()

accounts = st.sampled_from(["alice", "bob", "zoë", "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 32])
rooms = st.sampled_from([(b"", ""), (bytes(32), "#staff"), (b"\xff" * 32, "#" + "x" * 31)])
vouchers = st.builds(
    lambda server, account, key, room, secret, until: Voucher(server, account, key, room[0], room[1], secret, until),
    st.binary(min_size=16, max_size=16), accounts, st.binary(min_size=32, max_size=32), rooms,
    st.binary(min_size=32, max_size=32), st.integers(NOW + 1, MAX_TIME),
)  # fmt: skip
printable = st.characters(min_codepoint=33, max_codepoint=126)
lines = st.builds(
    lambda address, pin, code, voucher: InviteLine(address, f"sha256:{pin.hex()}", code, voucher),
    st.text(printable, min_size=1, max_size=MAX_ADDRESS), st.binary(min_size=32, max_size=32),
    st.text(printable, max_size=MAX_CODE), st.none() | vouchers,
)  # fmt: skip


@given(lines)
def test_what_is_written_is_read(line: InviteLine) -> None:
    assert decode(line.encode(), NOW) == line
    assert len(line.encode()) < MAX_TEXT / 2


def test_capitals_and_line_breaks_of_a_mail_are_forgiven() -> None:
    wrapped = "\r\n".join(TEXT[at : at + 60] for at in range(0, len(TEXT), 60))
    assert decode(f"  {wrapped.upper()}\n", NOW) == LINE


def test_a_line_may_be_copied_from_our_own_terminal_client() -> None:
    shown = wrap(f"-- {TEXT}", 80, lambda _: 1)
    assert shown.count("\n") > 2
    assert decode(shown.removeprefix("-- "), NOW) == LINE


def test_every_wrong_character_is_found() -> None:
    for place in range(len(TEXT)):
        other = "b" if TEXT[place] == "a" else "a"
        with pytest.raises(UsageError):
            decode(TEXT[:place] + other + TEXT[place + 1 :], NOW)


def test_no_text_at_all_is_no_line() -> None:
    for nothing in ("", " \n"):
        with pytest.raises(UsageError, match="This is no invite line"):
            decode(nothing, NOW)


def test_bits_beyond_the_last_byte_are_none() -> None:
    """One line for one content: else a line that is marked as used could be shown in another spelling."""
    spelled = [letter for letter in "abcdefghijklmnopqrstuvwxyz234567" if not refuses(TEXT[:-1] + letter)]
    assert spelled == [TEXT[-1]]


def refuses(text: str) -> bool:
    try:
        decode(text, NOW)
    except UsageError:
        return True
    return False


@given(st.text(max_size=200))
def test_any_text_is_a_line_or_refused(text: str) -> None:
    for each in (text, PREFIX + text, TEXT + text.replace(" ", "x")):
        with suppress(UsageError):
            assert decode(each, NOW).encode() == "".join(each.replace("┃", "").split()).lower()


@pytest.mark.parametrize("length", [3, len(PREFIX), len(PREFIX) + 3, len(TEXT) - 200, len(TEXT) - 1])
def test_a_line_that_is_cut_off_is_called_so(length: int) -> None:
    with pytest.raises(UsageError, match="cut off"):
        decode(TEXT[:length], NOW)


def test_each_damage_has_its_own_words() -> None:
    cases = {
        "begins with securechat1": "hello",
        "much longer": TEXT + " " * MAX_TEXT,
        "a character that belongs to none, 10 after securechat1": TEXT[:20] + "0" + TEXT[21:],
        "goes on after its end": TEXT + "aa",
        "A character of this invite line is wrong": TEXT[:40] + ("b" if TEXT[40] == "a" else "a") + TEXT[41:],
        "another version": PREFIX + "a" * 40,
    }
    for words, text in cases.items():
        with pytest.raises(UsageError, match=words):
            decode(text, NOW)


def test_a_line_ends_with_its_last_millisecond() -> None:
    assert decode(TEXT, NOW) == LINE
    with pytest.raises(UsageError, match=r"ended on 1 Nov 2025. Ask alice"):
        decode(TEXT, NOW + 1)


def forged(voucher: bytes, *, address: bytes = b"x", code: bytes = b"") -> str:
    """A line with a right checksum whose voucher is these bytes."""
    body = bytes(Writer().vector(address).opaque(bytes(32)).vector(code)) + b"\x01" + voucher
    data = b"\x01" + len(body).to_bytes(2, "big") + body
    data += hashlib.sha256(b"securechat invite line v1" + data).digest()[:4]
    return PREFIX + base64.b32encode(data).decode().rstrip("=").lower()


def test_a_line_that_another_program_made_wrong_is_refused() -> None:
    assert decode(forged(VOUCHER.encode()), NOW).voucher == VOUCHER
    for wrong in (
        replace(VOUCHER, account="Al ice"), replace(VOUCHER, account=""), replace(VOUCHER, title="staff"),
        replace(VOUCHER, title=""), replace(VOUCHER, room=b""), replace(VOUCHER, room=bytes(31)),
        replace(VOUCHER, until=MAX_TIME + 1), replace(VOUCHER, title="#a\x1b[2J"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="was not made by securechat"):
            decode(forged(wrong.encode()), NOW)
    for damaged in (VOUCHER.encode() + b"\0", VOUCHER.encode()[:-1], bytes(2000)):
        with pytest.raises(UsageError, match="was not made by securechat"):
            decode(forged(damaged), NOW)


@pytest.mark.parametrize("wrong", [b"chat example:1", b"", b"\x1b[2J", b"\xff", b"x" * 262])
def test_an_address_or_a_code_that_another_program_made_wrong_is_refused(wrong: bytes) -> None:
    with pytest.raises(UsageError, match="was not made by securechat"):
        decode(forged(VOUCHER.encode(), address=wrong), NOW)
    if wrong:  # no code is needed where registration is open
        with pytest.raises(UsageError, match="was not made by securechat"):
            decode(forged(VOUCHER.encode(), code=wrong), NOW)


def test_the_longest_of_everything_fits() -> None:
    letter = "\N{CJK UNIFIED IDEOGRAPH-20000}"  # four bytes
    voucher = replace(VOUCHER, account=letter * 32, title="#" + letter * 31)
    line = InviteLine("x" * 261, LINE.pin, "y" * 64, voucher)
    assert decode(line.encode(), NOW) == line
    assert decode(forged(voucher.encode(), address=b"x" * 261, code=b"y" * 64), NOW).voucher == voucher
    assert (MAX_ADDRESS, MAX_CODE, MAX_DAYS) == (261, 64, 14)
    for address, code in (("x" * 262, ""), ("x", "y" * 65)):
        with pytest.raises(UsageError, match="an address, a pin and a code"):
            InviteLine(address, LINE.pin, code).encode()


def test_a_text_is_looked_at_up_to_its_greatest_length() -> None:
    assert MAX_TEXT == 4096
    assert decode(TEXT + " " * (4096 - len(TEXT)), NOW) == LINE
    with pytest.raises(UsageError, match="much longer"):
        decode(TEXT + " " * (4097 - len(TEXT)), NOW)


@pytest.mark.parametrize(
    "line",
    [
        replace(LINE, address="chat example:1"), replace(LINE, address=""), replace(LINE, address="x" * 300),
        replace(LINE, code="a b"), replace(LINE, code="x" * 65), replace(LINE, pin="sha256:12"),
    ],
)  # fmt: skip
def test_what_no_line_can_hold_is_not_written(line: InviteLine) -> None:
    with pytest.raises(UsageError, match="address, a pin and a code"):
        line.encode()


def test_neither_code_nor_secret_is_printed() -> None:
    shown = repr(LINE) + str(LINE)
    assert "fgh2" not in shown
    assert repr(SECRET) not in shown
    assert is_line(f" {TEXT}")
    assert not is_line("line.txt")


# --- the proof ----------------------------------------------------------------------------------------------------

CLAIM = Claim(bytes(16), b"\2" * 32, ("alice", b"\1" * 32), ("bob", b"\3" * 32), b"key package")


def test_a_proof_is_good_for_what_it_says_and_nothing_else() -> None:
    public, proof = line_proof.public_half(SECRET), line_proof.prove(SECRET, CLAIM)
    assert line_proof.is_proof(public, CLAIM, proof)
    for other in (
        replace(CLAIM, server_id=b"\1" * 16), replace(CLAIM, room=b""), replace(CLAIM, room=b"\3" * 32),
        replace(CLAIM, inviter=("carol", b"\1" * 32)), replace(CLAIM, inviter=("alice", b"\4" * 32)),
        replace(CLAIM, newcomer=("carl", b"\3" * 32)), replace(CLAIM, newcomer=("bob", b"\4" * 32)),
        replace(CLAIM, key_package=b"another"),
    ):  # fmt: skip
        assert not line_proof.is_proof(public, other, proof)
    assert not line_proof.is_proof(line_proof.public_half(bytes(32)), CLAIM, proof)


def test_a_claim_is_printed_without_its_key_package() -> None:
    assert "key package" not in repr(CLAIM)


def test_every_wrong_bit_of_a_proof_counts() -> None:
    public, proof = line_proof.public_half(SECRET), line_proof.prove(SECRET, CLAIM)
    for bit in range(8 * len(proof)):
        wrong = bytearray(proof)
        wrong[bit // 8] ^= 1 << bit % 8
        assert not line_proof.is_proof(public, CLAIM, bytes(wrong))
