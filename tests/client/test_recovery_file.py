"""The recovery file: what is written is read with its passphrase alone, and each damage is told from the others."""

import math
import struct
import unicodedata
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from securechat import codes
from securechat.client import recovery_file
from securechat.client.passphrase import FOR_A_FILE, MOST, WrongPassphraseError, letters_of
from securechat.client.password_source import PasswordSource
from securechat.client.recovery_file import (
    PREFIX,
    RecoveryContents,
    open_recovery,
    recovery_of,
    seal_recovery,
)
from securechat.client.settings import ClientSettings
from securechat.client.vault.identity import DeviceRow
from securechat.client.vault.identity_key import IdentityKey
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import OVERHEAD, Cost, wrap
from securechat.errors import UsageError
from securechat.identity.armour import MAX_TEXT
from securechat.transport.certificate_files import CA
from securechat.wire.limits import MAX_ACCOUNT

CHEAP = Cost(time=1, memory=8, lanes=1)
PRIVATE = bytes(range(32))
CONTENTS = RecoveryContents("chat.example:4433", f"sha256:{'ab' * 32}", b"S" * 16, "alice", bytearray(PRIVATE))
LINE, PASSPHRASE = seal_recovery(CONTENTS, cost=CHEAP)


def opened(text: str, passphrase: str = PASSPHRASE) -> RecoveryContents:
    return open_recovery(text.encode(), passphrase)


def sealed(contents: bytes, *, cost: Cost = CHEAP) -> str:
    """A line that holds anything, under our passphrase."""
    letters = bytearray(PASSPHRASE.replace("-", "").encode())
    body = wrap(bytearray(contents), letters, context=recovery_file._CONTEXT, cost=cost)
    return recovery_file._ARMOUR.encode(body)


accounts = st.sampled_from(["alice", "zoë", "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 32])
printable = st.characters(min_codepoint=33, max_codepoint=126)
all_contents = st.builds(
    lambda address, pin, server, account, private: RecoveryContents(
        address, f"sha256:{pin.hex()}", server, account, bytearray(private)
    ),
    st.text(printable, min_size=1, max_size=261), st.binary(min_size=32, max_size=32),
    st.binary(min_size=16, max_size=16), accounts, st.binary(min_size=32, max_size=32),
)  # fmt: skip


@given(all_contents)
def test_what_is_written_is_read(contents: RecoveryContents) -> None:
    line, passphrase = seal_recovery(contents, cost=CHEAP)
    assert opened(f"{line}\n", passphrase) == contents
    assert len(line) < MAX_TEXT / 2
    assert bytes(contents.private).hex() not in line


def test_it_has_the_identity_key_itself() -> None:
    assert opened(LINE).public == Ed25519PrivateKey.from_private_bytes(PRIVATE).public_key().public_bytes_raw()


def test_what_a_hand_changes_is_forgiven() -> None:
    broken = "\r\n".join(LINE[at : at + 60] for at in range(0, len(LINE), 60))
    assert opened(f"  {broken.upper()}\n", f" {PASSPHRASE.replace('-', ' ').upper()} ") == CONTENTS


def test_a_passphrase_has_99_bits_and_is_another_one_each_time() -> None:
    assert math.floor(codes.LENGTH * math.log2(len(codes.LETTERS))) == 99
    assert len(PASSPHRASE.replace("-", "")) == codes.LENGTH
    assert len({seal_recovery(CONTENTS, cost=CHEAP) for _ in range(10)}) == 10


def test_another_passphrase_does_not_open_it() -> None:
    with pytest.raises(WrongPassphraseError, match="does not open"):
        opened(LINE, codes.make_code())


@pytest.mark.parametrize(
    ("kept", "added", "reason"),
    [(0, "", "empty"), (22, "", "20 small letters and digits"), (23, "a", "20 small letters and digits"),
     (22, "l", "without i, l, o"), (22, "\udc80", "belongs to none")],
)  # fmt: skip
def test_a_slip_in_the_passphrase_is_said_and_not_quoted(kept: int, added: str, reason: str) -> None:
    with pytest.raises(WrongPassphraseError, match=reason) as refused:
        opened(LINE, PASSPHRASE[:kept] + added)
    assert PASSPHRASE[:5] not in str(refused.value)


OWN = "Gletscher Tulpe-harvest violín copper"


def test_a_passphrase_of_ones_own_opens_it_however_it_is_typed() -> None:
    line, passphrase = seal_recovery(CONTENTS, OWN, cost=CHEAP)
    assert passphrase == OWN
    decomposed = unicodedata.normalize("NFD", OWN)
    for typed in (OWN, decomposed, OWN.upper(), OWN.replace(" ", ""), f"{OWN}\n"):
        assert opened(line, typed) == CONTENTS
    for typed in (OWN[:-1], OWN.replace("í", "i"), PASSPHRASE):
        with pytest.raises(WrongPassphraseError, match="does not open"):
            opened(line, typed)


@pytest.mark.parametrize(
    "weak",
    ["password1", "Tr0ub4dor&3", "correct horse battery staple", "alice alice alice alice", "x" * 500, " ", "a\x00b",
     "qwertyuiop asdfghjkl zxcvbnm", "\udc80"],
)  # fmt: skip
def test_one_that_can_be_guessed_is_refused_and_not_quoted(weak: str) -> None:
    with pytest.raises(UsageError, match="too easy to guess|must not be empty or hold") as refused:
        seal_recovery(CONTENTS, weak, cost=CHEAP)
    assert weak.strip() == "" or weak not in str(refused.value)


@pytest.mark.parametrize("place", [*range(0, len(LINE), 7), len(LINE) - 1])
def test_each_wrong_character_is_noticed(place: int) -> None:
    other = "a" if LINE[place] != "a" else "b"
    with pytest.raises(UsageError, match="recovery file") as refused:
        opened(LINE[:place] + other + LINE[place + 1 :])
    assert not isinstance(refused.value, WrongPassphraseError)


@given(st.integers(0, len(LINE) - 1))
def test_a_file_that_is_cut_off_is_called_so(length: int) -> None:
    with pytest.raises(UsageError, match="cut off" if length else "one begins with"):
        opened(LINE[:length])


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\xff", "not text"), (b"", "one begins with"), (b"securechat1abc", f"one begins with {PREFIX}"),
     (b" " * (MAX_TEXT + 1), "much longer")],
)  # fmt: skip
def test_what_is_no_recovery_file_is_told_in_a_sentence(data: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as refused:
        open_recovery(data, PASSPHRASE)
    assert str(refused.value).endswith(".")


def test_what_follows_it_is_no_part_of_it() -> None:
    for more, reason in (("aaaa", "goes on after its end"), ("1", "belongs to none")):
        with pytest.raises(UsageError, match=reason):
            opened(LINE + more)


@pytest.mark.parametrize(
    "cost",
    [(0, 8, 1), (MOST.time + 1, 8, 1), (1, 7, 1), (1, MOST.memory + 1, 1), (1, 8, 0), (1, 1 << 19, MOST.lanes + 1),
     (2**32 - 1, 2**32 - 1, 255)],
)  # fmt: skip
def test_a_cost_that_we_never_choose_is_refused_before_it_is_paid(cost: tuple[int, int, int]) -> None:
    body = recovery_file._ARMOUR.decode(LINE)
    hostile = recovery_file._ARMOUR.encode(struct.pack(">IIB", *cost) + body[9:])
    with pytest.raises(UsageError, match="more memory or time"):
        opened(hostile)


def test_what_we_choose_is_far_below_what_is_refused() -> None:
    assert FOR_A_FILE.time * 4 == MOST.time
    assert FOR_A_FILE.memory * 2 == MOST.memory
    assert FOR_A_FILE.lanes <= MOST.lanes


@pytest.mark.parametrize("length", [0, 1, OVERHEAD - 1])
def test_a_body_that_is_too_short_was_not_made_here(length: int) -> None:
    with pytest.raises(UsageError, match="not made by securechat"):
        opened(recovery_file._ARMOUR.encode(bytes(length)))


def test_contents_that_we_would_not_write_are_refused() -> None:
    good = bytes(recovery_file._encode(CONTENTS))
    assert opened(sealed(good)) == CONTENTS
    shouting = bytes(recovery_file._encode(replace(CONTENTS, account="Alice")))
    spaced = bytes(recovery_file._encode(replace(CONTENTS, account="a b")))
    for wrong in (b"", good[:31], good[:-1], good[1:], good + b"x", shouting, spaced, b"\1\xff" + good[18:]):
        with pytest.raises(UsageError, match="not made by this version"):
            opened(sealed(wrong))


def test_printing_what_is_in_it_does_not_show_the_key() -> None:
    contents = opened(LINE)
    shown = repr(contents)
    assert "alice" in shown
    assert repr(bytes(PRIVATE))[2:12] not in shown
    assert PRIVATE.hex() not in shown
    contents.wipe()
    assert contents.private == bytes(32)


def test_what_is_secret_is_overwritten_once_it_is_written_or_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytearray] = []
    encode, decode, letters = recovery_file._encode, recovery_file._decode, letters_of

    def noted(buffer: bytearray) -> bytearray:
        assert any(buffer)
        seen.append(buffer)
        return buffer

    monkeypatch.setattr(recovery_file, "_encode", lambda contents: noted(encode(contents)))
    monkeypatch.setattr(recovery_file, "_decode", lambda encoded: decode(noted(encoded)))
    monkeypatch.setattr(recovery_file, "letters_of", lambda passphrase: noted(letters(passphrase)))
    line, passphrase = seal_recovery(CONTENTS, cost=CHEAP)
    assert opened(line, passphrase).private == PRIVATE
    with pytest.raises(WrongPassphraseError):
        opened(line)
    assert (
        len(seen) == 5
    )  # contents and passphrase of the one, passphrase and contents of the other, a wrong passphrase
    assert not any(map(any, seen))
    assert CONTENTS.private == PRIVATE


def test_a_file_holds_the_longest_name_there_is() -> None:
    longest = "\N{CJK UNIFIED IDEOGRAPH-20000}" * MAX_ACCOUNT  # four bytes each
    assert opened(sealed(bytes(recovery_file._encode(replace(CONTENTS, account=longest))))).account == longest


def test_a_vault_gives_what_it_knows_of_its_server_and_nothing_before_it_has_met_it(tmp_path: Path) -> None:
    settings = ClientSettings("chat.example", 4433, pin=CONTENTS.pin)
    with closing(Vault.open(tmp_path / "vault", "alice", PasswordSource.typed("correct horse"), cost=CHEAP)) as vault:
        key = IdentityKey.of("alice", bytearray(PRIVATE), bytearray(b"correct horse"), CHEAP)
        device = DeviceRow(key, b"d" * 16, b"s" * 32)
        for unmet in (None, device):
            if unmet is not None:
                vault.device.save(unmet)
            with pytest.raises(UsageError, match="has not met its server yet"):
                recovery_of(vault, settings)
        vault.device.save(replace(device, server_id=CONTENTS.server_id))
        assert recovery_of(vault, settings) == CONTENTS
        vault.authorities.take_up(CA(b"\xcd" * 32, b"certificate"))  # which the user has trusted since
        assert recovery_of(vault, settings) == replace(CONTENTS, pin=f"sha256:{'cd' * 32}")
