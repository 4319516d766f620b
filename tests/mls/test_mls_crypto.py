"""Keys that must be refused, and the parts of HPKE that are ours, against RFC 9180's own vectors."""

import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from securechat.errors import UsageError
from securechat.mls.crypto import hpke, sealing
from securechat.mls.crypto.suite import SUPPORTED_SUITES, CipherSuite, cipher_suite
from securechat.mls.crypto.suite import (
    MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE,
)
from securechat.mls.errors import CannotDecrypt, InvalidMessage
from tests.mls.vectors import FOLDER

RFC_9180 = FOLDER.parent.parent / "specs" / "rfc9180-hpke.md"
SUITE_448 = cipher_suite(4)
P = 2**255 - 19
P448 = 2**448 - 2**224 - 1
ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
ORDER_8_OTHER = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"

SMALL_ORDER_ED25519 = [
    (1).to_bytes(32, "little"),  # the identity
    (P - 1).to_bytes(32, "little"),
    bytes(32),
    (1 << 255).to_bytes(32, "little"),
    bytes.fromhex(ORDER_8),
    (int.from_bytes(bytes.fromhex(ORDER_8), "little") | 1 << 255).to_bytes(32, "little"),
    bytes.fromhex(ORDER_8_OTHER),
    (int.from_bytes(bytes.fromhex(ORDER_8_OTHER), "little") | 1 << 255).to_bytes(32, "little"),
]
SMALL_ORDER_X25519 = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    P.to_bytes(32, "little"),
    (P + 1).to_bytes(32, "little"),
    (1 | 1 << 255).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


SMALL_ORDER_ED448 = [
    (y | sign << 455).to_bytes(57, "little") for y, sign in ((1, 0), (P448 - 1, 0), (0, 0), (0, 1))
]
SMALL_ORDER_X448 = [u.to_bytes(56, "little") for u in (0, 1, P448 - 1, P448, P448 + 1)]


def with_suites(of_25519: list[bytes], of_448: list[bytes]) -> list[object]:
    """Parameters: each key with its cipher suite."""
    return [
        pytest.param(suite, key, id=f"{suite.value}-{key.hex()}")
        for suite, keys in ((SUITE, of_25519), (SUITE_448, of_448))
        for key in keys
    ]


@pytest.mark.parametrize(("suite", "key"), with_suites(SMALL_ORDER_ED25519, SMALL_ORDER_ED448))
def test_small_order_signature_keys_are_refused(suite: CipherSuite, key: bytes) -> None:
    (Ed25519PublicKey if suite is SUITE else Ed448PublicKey).from_public_bytes(key)  # the library takes them
    with pytest.raises(InvalidMessage, match="small order"):
        suite.signature.check_public_key(key)
    with pytest.raises(InvalidMessage, match="small order"):
        suite.verify_with_label(key, b"label", b"content", key + bytes(len(key)))


def test_a_small_order_key_would_verify_a_signature_that_nobody_made() -> None:
    identity = SMALL_ORDER_ED25519[0]
    Ed25519PublicKey.from_public_bytes(identity).verify(identity + bytes(32), b"any message")


@pytest.mark.parametrize(
    ("suite", "key"),
    with_suites(
        [(y | sign).to_bytes(32, "little") for y in (P, P + 1, P + 3, 2**255 - 1) for sign in (0, 1 << 255)],
        [
            (y | sign).to_bytes(57, "little")
            for y in (P448, P448 + 1, P448 + 3, 2**448 - 1, 5 | 1 << 448, 5 | 1 << 454)
            for sign in (0, 1 << 455)
        ],
    ),
)
def test_non_canonical_signature_keys_are_refused(suite: CipherSuite, key: bytes) -> None:
    with pytest.raises(InvalidMessage, match="canonical"):
        suite.signature.check_public_key(key)


@pytest.mark.parametrize(("suite", "key"), with_suites(SMALL_ORDER_X25519, SMALL_ORDER_X448))
def test_encryption_keys_with_zero_shared_secrets_are_refused(suite: CipherSuite, key: bytes) -> None:
    with pytest.raises(InvalidMessage, match="small order"):
        suite.kem.check_public_key(key)
    with pytest.raises(InvalidMessage, match="zero"):
        hpke.encrypt_with_label(suite, key, b"label", b"", b"plaintext")
    with pytest.raises(InvalidMessage, match="zero"):
        hpke.export_as_sender(suite, key, b"", b"", 32)
    private = hpke.HpkePrivateKey.generate(suite)
    with pytest.raises(InvalidMessage, match="zero"):
        hpke.export_as_receiver(suite, private, key, b"", b"", 32)
    with pytest.raises(CannotDecrypt):
        hpke.decrypt_with_label(suite, private, b"label", b"", key, bytes(32))


@pytest.mark.parametrize("value", [1, 4])
def test_keys_of_another_length_are_refused(value: int) -> None:
    suite = cipher_suite(value)
    honest = sealing.SignaturePrivateKey.generate(suite).public_key
    encryption = hpke.HpkePrivateKey.generate(suite).public_key
    for check, key in ((suite.signature.check_public_key, honest), (suite.kem.check_public_key, encryption)):
        check(key)
        for wrong in (b"", key[:-1], key + b"\x00"):
            with pytest.raises(InvalidMessage, match=f"not {len(key)}"):
                check(wrong)


@pytest.mark.parametrize("value", sorted(SUPPORTED_SUITES))
def test_honest_keys_are_taken_and_their_work_is_checked(value: int) -> None:
    suite = cipher_suite(value)
    signer = sealing.SignaturePrivateKey.generate(suite)
    suite.signature.check_public_key(signer.public_key)
    signature = signer.sign_with_label(b"label", b"content")
    suite.verify_with_label(signer.public_key, b"label", b"content", signature)
    for label, content in ((b"other", b"content"), (b"label", b"other")):
        with pytest.raises(InvalidMessage, match="signature"):
            suite.verify_with_label(signer.public_key, label, content, signature)

    private = hpke.HpkePrivateKey.generate(suite)
    suite.kem.check_public_key(private.public_key)
    kem_output, ciphertext = hpke.encrypt_with_label(suite, private.public_key, b"label", b"context", b"text")
    assert hpke.decrypt_with_label(suite, private, b"label", b"context", kem_output, ciphertext) == b"text"
    for label, context in ((b"other", b"context"), (b"label", b"other")):
        with pytest.raises(CannotDecrypt):
            hpke.decrypt_with_label(suite, private, label, context, kem_output, ciphertext)

    kem_output, secret = hpke.export_as_sender(suite, private.public_key, b"", b"context", suite.hash_size)
    assert hpke.export_as_receiver(suite, private, kem_output, b"", b"context", suite.hash_size) == secret
    assert hpke.export_as_receiver(suite, private, kem_output, b"", b"other", suite.hash_size) != secret


@pytest.mark.parametrize("value", [2, 5, 7])
def test_points_that_are_compressed_or_off_the_curve_are_refused(value: int) -> None:
    suite = cipher_suite(value)
    good = hpke.HpkePrivateKey.generate(suite).public_key
    half = len(good) // 2
    for bad in (good[:-1], good[:-1] + bytes([good[-1] ^ 1]), bytes([2]) + good[1 : half + 1], b"\x00", b""):
        with pytest.raises(InvalidMessage):
            suite.kem.check_public_key(bad)
        with pytest.raises(InvalidMessage):
            suite.signature.check_public_key(bad)


@pytest.mark.parametrize("value", [1, 4])
def test_a_cut_encapsulated_key_is_not_completed_from_the_ciphertext(value: int) -> None:
    suite = cipher_suite(value)
    private = hpke.HpkePrivateKey.generate(suite)
    kem_output, ciphertext = hpke.encrypt_with_label(suite, private.public_key, b"label", b"", b"text")
    with pytest.raises(CannotDecrypt, match="length"):
        hpke.decrypt_with_label(suite, private, b"label", b"", kem_output[:-1], kem_output[-1:] + ciphertext)


def test_base_mode_as_we_write_it_out_opens_what_the_library_seals_and_the_reverse() -> None:
    private = hpke.HpkePrivateKey.generate(SUITE)
    info = hpke._encrypt_context(b"label", b"context")
    kem_output, ciphertext = hpke.encrypt_with_label(SUITE, private.public_key, b"label", b"context", b"text")
    ours = hpke._setup_base_receiver(SUITE, private, kem_output, info)
    assert sealing.aead_open(SUITE, ours.key, ours.base_nonce, b"", ciphertext) == b"text"
    kem_output, ours = hpke._setup_base_sender(SUITE, private.public_key, info)
    ciphertext = sealing.aead_seal(SUITE, ours.key, ours.base_nonce, b"", b"text")
    assert hpke.decrypt_with_label(SUITE, private, b"label", b"context", kem_output, ciphertext) == b"text"


def test_unknown_suites_are_refused() -> None:
    for value in (0, 8, 0x0A0A, 0xFFFF):
        with pytest.raises(InvalidMessage, match="not supported"):
            cipher_suite(value)


def test_a_private_key_that_is_none_is_our_mistake() -> None:
    with pytest.raises(UsageError):
        sealing.SignaturePrivateKey(SUITE, bytes(31))


@pytest.mark.skipif(not RFC_9180.exists(), reason=f"no RFC 9180 with its vectors: save its text as {RFC_9180}")
@pytest.mark.parametrize(
    ("value", "title"),
    [
        (1, "DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM"),
        (2, "DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-128-GCM"),
        (3, "DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305"),
        (5, "DHKEM(P-521, HKDF-SHA512), HKDF-SHA512, AES-256-GCM"),
    ],
)
def test_key_derivation_and_export_agree_with_rfc_9180(value: int, title: str) -> None:
    suite = cipher_suite(value)
    text = RFC_9180.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("### PSK Setup")[0]

    def field(name: str) -> bytes:
        match = re.search(rf"^{name}:\s*((?:[0-9a-f]+\s)+)", text, re.MULTILINE)
        assert match is not None
        return bytes.fromhex("".join(match[1].split()))

    private = hpke.HpkePrivateKey.derive(suite, field("ikmR"))
    assert (private.private, private.public_key) == (field("skRm"), field("pkRm"))
    schedule = hpke._setup_base_receiver(suite, private, field("enc"), field("info"))
    assert (schedule.key, schedule.base_nonce) == (field("key"), field("base_nonce"))
    exports = re.findall(r"exporter_context:\s*([0-9a-f]*)\nL: 32\nexported_value:\n([0-9a-f]{64})", text)
    assert len(exports) == 3
    kem_output, info = field("enc"), field("info")
    for context, expected in exports:
        exported = hpke.export_as_receiver(suite, private, kem_output, info, bytes.fromhex(context), 32)
        assert exported.hex() == expected
