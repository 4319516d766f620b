"""The chain over a log: the formula of the design, and what it protects."""

import hashlib

import pytest

from securechat.wire.chain import CHAIN_START, HANDED_BACK, MLS_MESSAGE, OPERATORS_WORD, STATEMENT, next_chain

ENTRY = {"conversation": b"c" * 32, "seq": 7, "time": 1_700_000_000_000, "device": b"d" * 16, "number": 3}


@pytest.mark.parametrize(
    ("group_info", "group_info_vector"), [(b"", b"\0"), (b"g" * 300, b"\x41\x2c" + b"g" * 300)]
)
def test_the_chain_is_the_hash_the_design_names(group_info: bytes, group_info_vector: bytes) -> None:
    payload = b"p" * 300
    expected = hashlib.sha256(
        CHAIN_START
        + b"\x20" + b"c" * 32
        + (7).to_bytes(8, "big") + (1_700_000_000_000).to_bytes(8, "big")
        + b"\x10" + b"d" * 16
        + (3).to_bytes(8, "big")
        + b"\x01"
        + b"\x41\x2c" + payload
        + group_info_vector
    ).digest()  # fmt: skip
    assert next_chain(CHAIN_START, payload=payload, group_info=group_info, **ENTRY) == expected  # type: ignore[arg-type]  # ids and numbers


@pytest.mark.parametrize(("size", "length"), [(63, "3f"), (64, "4040"), (16383, "7fff"), (16384, "80004000")])
def test_lengths_take_their_shortest_form(size: int, length: str) -> None:
    payload = bytes(size)
    expected = hashlib.sha256(
        bytes(32) + b"\x20" + bytes(48) + b"\x10" + bytes(24) + b"\x01" + bytes.fromhex(length) + payload + b"\0"
    ).digest()
    assert next_chain(CHAIN_START, bytes(32), 0, 0, bytes(16), 0, payload) == expected


@pytest.mark.parametrize("field", sorted({"chain", "payload", "group_info", "kind", *ENTRY}))
def test_every_field_of_an_entry_changes_the_chain(field: str) -> None:
    fields: dict[str, object] = {"chain": CHAIN_START, "payload": b"p", "group_info": b"g", "kind": 1, **ENTRY}
    changed = fields[field]
    other = changed + 1 if isinstance(changed, int) else b"x" * len(changed)  # type: ignore[arg-type]  # bytes
    assert next_chain(**fields) != next_chain(**{**fields, field: other})  # type: ignore[arg-type]  # as above


def test_the_kinds_of_entries_stay_what_they_are() -> None:
    """They are in logs on disk, and in every chain."""
    assert [MLS_MESSAGE, STATEMENT, OPERATORS_WORD, HANDED_BACK] == [1, 2, 3, 4]
