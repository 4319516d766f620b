"""The working group's vectors for RFC 9605: headers, and the suites with whole tags."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from securechat.errors import PeerError
from securechat.sframe.header import Header
from securechat.sframe.keys import NONCE_LENGTH, DecryptionKey, EncryptionKey, Suite

FILE = Path(__file__).parents[2] / os.environ.get(
    "SECURECHAT_SFRAME_VECTORS", "../shared/vectors/sframe/test-vectors.json"
)

needs_vectors = pytest.mark.skipif(
    not FILE.is_file(),
    reason=f"no SFrame test vectors at {FILE}: clone the repository sframe of GitHub's sframe-wg, and let"
    " SECURECHAT_SFRAME_VECTORS name test-vectors/test-vectors.json in it",
)

Case = dict[str, Any]
H = bytes.fromhex


@pytest.fixture(scope="module")
def vectors() -> dict[str, list[Case]]:
    loaded: dict[str, list[Case]] = json.loads(FILE.read_text(encoding="utf-8"))
    return loaded


@needs_vectors
def test_every_header(vectors: dict[str, list[Case]]) -> None:
    for case in vectors["header"]:
        header, encoded = Header(case["kid"], case["ctr"]), H(case["encoded"])
        assert header.encode() == encoded
        assert Header.decode(encoded + b"what follows") == (header, len(encoded))
    assert len(vectors["header"]) > 200


@needs_vectors
@pytest.mark.parametrize("suite", Suite)
def test_every_suite(vectors: dict[str, list[Case]], suite: Suite) -> None:
    (case,) = [case for case in vectors["sframe"] if case["cipher_suite"] == suite]
    kid, base_key = case["kid"], H(case["base_key"])
    label, salt = b"SFrame 1.0 Secret key ", b"SFrame 1.0 Secret salt "
    assert suite.derive(label, base_key, kid, suite.key_length) == H(case["sframe_key"])
    assert suite.derive(salt, base_key, kid, NONCE_LENGTH) == H(case["sframe_salt"])
    frame = EncryptionKey(suite, kid, base_key, next_ctr=case["ctr"]).encrypt(H(case["pt"]), H(case["metadata"]))
    assert frame == H(case["ct"])
    assert DecryptionKey(suite, kid, base_key).decrypt(frame, H(case["metadata"])) == H(case["pt"])


@needs_vectors
@pytest.mark.parametrize("suite", Suite)
def test_not_with_one_bit_flipped_in_any_byte(vectors: dict[str, list[Case]], suite: Suite) -> None:
    (case,) = [case for case in vectors["sframe"] if case["cipher_suite"] == suite]
    key = DecryptionKey(suite, case["kid"], H(case["base_key"]))
    frame, metadata = bytearray(H(case["ct"])), bytearray(H(case["metadata"]))
    for part in (frame, metadata):
        for at in range(len(part)):
            for bit in range(8):
                part[at] ^= 1 << bit
                with pytest.raises(PeerError):
                    key.decrypt(bytes(frame), bytes(metadata))
                part[at] ^= 1 << bit
    for length in range(len(frame)):
        with pytest.raises(PeerError):
            key.decrypt(bytes(frame[:length]), bytes(metadata))
    assert key.decrypt(bytes(frame), bytes(metadata)) == H(case["pt"])
