from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from securechat.errors import DecodeError, PeerError
from securechat.identity import certificate as module
from securechat.identity.certificate import (
    CLOCK_SKEW,
    MAX_LIFETIME,
    RULES_EXTENSION,
    DeviceCertificate,
    certificate_of,
    credential,
    in_date,
    issue,
    leaf_validator,
    verify,
)
from securechat.mls.credential import Credential, CredentialType
from securechat.mls.extensions import Extension, ExternalSender
from securechat.mls.leaf_node import Capabilities, LeafNode, LeafNodeSource, Lifetime
from securechat.wire.limits import MAX_LEAF

IDENTITY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\1")
OTHER_IDENTITY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\2")
SIGNATURE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\3").public_key().public_bytes_raw()
SERVER, DEVICE = b"S" * 16, b"D" * 16
NOT_BEFORE, NOT_AFTER, NOW = 3_000_000, 6_000_000, 5_000_000


def make(
    account: str = "alice",
    signature_key: bytes = SIGNATURE_KEY,
    not_before: int = NOT_BEFORE,
    not_after: int = NOT_AFTER,
    place: tuple[int, bytes] = (1, bytes(32)),
) -> DeviceCertificate:
    return issue(
        IDENTITY,
        server_id=SERVER,
        account=account,
        device_id=DEVICE,
        signature_key=signature_key,
        not_before=not_before,
        not_after=not_after,
        seq=place[0],
        previous=place[1],
    )


def leaf(certificate: DeviceCertificate, extensions: tuple[int, ...] = (RULES_EXTENSION,)) -> LeafNode:
    return LeafNode(
        encryption_key=bytes(32),
        signature_key=certificate.signature_key,
        credential=credential(certificate),
        capabilities=Capabilities(extensions=extensions),
        source=LeafNodeSource.KEY_PACKAGE,
        lifetime=Lifetime(0, 1),
        parent_hash=b"",
        extensions=(),
        signature=b"",
    )


def test_an_issued_certificate_verifies_and_has_one_encoding() -> None:
    certificate = make()
    verify(certificate, now=NOW)
    assert certificate.identity_key == IDENTITY.public_key().public_bytes_raw()
    assert DeviceCertificate.decode(certificate.encode()) == certificate
    assert len(certificate.encode()) == 2 + 1 + 16 + 6 + 32 + 8 + 32 + 16 + 32 + 8 + 8 + 64


@pytest.mark.parametrize(
    "change",
    [
        {"server_id": b"T" * 16},
        {"account": "bob"},
        {"device_id": b"E" * 16},
        {"identity_key": OTHER_IDENTITY.public_key().public_bytes_raw()},
        {"signature_key": OTHER_IDENTITY.public_key().public_bytes_raw()},
        {"seq": 2, "previous": bytes([1] * 32)},
        {"not_before": NOT_BEFORE + 1},
        {"not_after": NOT_AFTER + 1},
        {"signature": bytes(64)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_signature_covers_every_field(change: dict[str, object]) -> None:
    verify(make(), now=NOW)
    with pytest.raises(PeerError, match="signature"):
        verify(replace(make(), **change), now=NOW)  # type: ignore[arg-type]  # one field of the right type


@pytest.mark.parametrize(
    "place", [(0, bytes(32)), (0, bytes([1] * 32)), (1, bytes([1] * 32)), (2, bytes(32)), (1 << 53, bytes([1] * 32))]
)
def test_only_the_first_in_a_chain_follows_nothing(place: tuple[int, bytes]) -> None:
    with pytest.raises(PeerError, match="no place in its chain"):
        verify(make(place=place), now=NOW)


def test_a_signature_of_the_same_bytes_without_the_label_is_refused() -> None:
    certificate = make()
    unlabelled = certificate.to_be_signed()[1 + len(module.LABEL) :]
    assert certificate.encode().startswith(unlabelled)
    with pytest.raises(PeerError, match="signature"):
        verify(replace(certificate, signature=IDENTITY.sign(unlabelled)), now=NOW)


def test_dates_are_checked_with_room_for_wrong_clocks() -> None:
    certificate = make()
    verify(certificate, now=NOT_BEFORE - CLOCK_SKEW)
    verify(certificate, now=NOT_AFTER + CLOCK_SKEW)
    with pytest.raises(PeerError, match="not valid yet"):
        verify(certificate, now=NOT_BEFORE - CLOCK_SKEW - 1)
    with pytest.raises(PeerError, match="expired"):
        verify(certificate, now=NOT_AFTER + CLOCK_SKEW + 1)
    with pytest.raises(PeerError, match="at no time"):
        verify(make(not_before=NOW, not_after=NOW), now=NOW)
    verify(make(not_before=NOW - MAX_LIFETIME, not_after=NOW), now=NOW)
    for lasting in (MAX_LIFETIME + 1, 2**63):
        with pytest.raises(PeerError, match="for more than 45 days"):
            verify(make(not_before=NOW - 1, not_after=NOW - 1 + lasting), now=NOW)


def test_a_certificate_is_in_date_from_a_day_before_to_a_day_after() -> None:
    certificate = make()
    for now, expected in (
        (NOT_BEFORE - CLOCK_SKEW - 1, False), (NOT_BEFORE - CLOCK_SKEW, True), (NOW, True),
        (NOT_AFTER + CLOCK_SKEW, True), (NOT_AFTER + CLOCK_SKEW + 1, False),
    ):  # fmt: skip
        assert in_date(certificate, now) == expected


def test_numbers_that_are_on_the_wire_never_change() -> None:
    assert (RULES_EXTENSION, module.CERTIFY, module.VERSION) == (0xF001, 1, 2)
    assert (CLOCK_SKEW, MAX_LEAF) == (86_400, 1024)
    unplaced = issue(
        IDENTITY, server_id=SERVER, account="alice", device_id=DEVICE, signature_key=SIGNATURE_KEY,
        not_before=NOT_BEFORE, not_after=NOT_AFTER,
    )  # fmt: skip
    assert (unplaced.seq, unplaced.previous) == (1, bytes(32))


@pytest.mark.parametrize("account", ["Alice", "", "a b", "a\nb", "аlice", "x" * 33, "#room"])
def test_a_name_that_is_not_a_normalised_user_name_is_refused_though_well_signed(account: str) -> None:
    with pytest.raises(PeerError, match="account"):
        verify(make(account), now=NOW)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (b"\1" + bytes(31), "small order"),
        (bytes(32), "small order"),
        ((2**255 - 19 + 3).to_bytes(32, "little"), "canonical"),
    ],
)
def test_weak_and_ambiguous_keys_are_refused(key: bytes, reason: str) -> None:
    with pytest.raises(PeerError, match=reason):
        verify(make(signature_key=key), now=NOW)
    with pytest.raises(PeerError, match=reason):
        verify(replace(make(), identity_key=key), now=NOW)


@given(st.binary(max_size=300))
def test_random_bytes_end_in_a_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        DeviceCertificate.decode(data)


def test_damaged_encodings_are_refused() -> None:
    encoded = make().encode()
    for length in range(len(encoded)):
        with pytest.raises(DecodeError):
            DeviceCertificate.decode(encoded[:length])
    another_kind = b"\0\2\2" + encoded[3:]
    for damaged in (encoded + b"\0", b"\0\1" + encoded[2:], another_kind, encoded.replace(b"alice", b"ali\xffe")):
        with pytest.raises(DecodeError):
            DeviceCertificate.decode(damaged)


def test_a_leaf_with_its_devices_certificate_is_valid() -> None:
    validate = leaf_validator(SERVER, NOW)
    validate(leaf(make()), entering=True)
    validate(leaf(make()), entering=False)
    assert certificate_of(leaf(make())) == make()


def test_nobody_proposes_from_outside_and_a_leaf_in_a_tree_has_no_lifetime() -> None:
    validate = leaf_validator(SERVER, NOW)
    with pytest.raises(PeerError, match="no external senders"):
        validate(ExternalSender(SIGNATURE_KEY, credential(make())), entering=True)
    validate(replace(leaf(make()), source=LeafNodeSource.COMMIT, lifetime=None, parent_hash=b""), entering=True)


def test_the_longest_name_and_the_last_place_fit() -> None:
    longest = make("\N{CJK UNIFIED IDEOGRAPH-20000}" * 32)  # four bytes each
    assert DeviceCertificate.decode(longest.encode()) == longest
    verify(make(place=((1 << 53) - 1, bytes([1] * 32))), now=NOW)


def test_a_leaf_that_does_not_agree_with_its_certificate_is_refused() -> None:
    good, validate = leaf(make()), leaf_validator(SERVER, NOW)
    other_key = OTHER_IDENTITY.public_key().public_bytes_raw()
    x509 = Credential(CredentialType.X509, certificates=(b"",))
    for bad, reason in (
        (replace(good, signature_key=other_key), "another key"),
        (leaf(make(), extensions=()), "rules"),
        (leaf(replace(make(), signature=bytes(64))), "signature"),
        (leaf(make(not_after=NOT_BEFORE + 1)), "expired"),
        (leaf(make("Alice")), "not normalised"),
        (replace(good, credential=x509), "another credential"),
        (replace(good, credential=Credential.basic(b"alice")), "cut short|version"),
    ):
        with pytest.raises(PeerError, match=reason):
            validate(bad, entering=True)
    with pytest.raises(PeerError, match="another server"):
        leaf_validator(b"T" * 16, NOW)(good, entering=True)


def test_a_certificate_may_run_out_while_its_device_stands_in_a_conversation() -> None:
    validate = leaf_validator(SERVER, NOW)
    ran_out = leaf(make(not_after=NOT_BEFORE + 1))
    validate(ran_out, entering=False)
    with pytest.raises(PeerError, match="expired"):
        validate(ran_out, entering=True)
    for bad, reason in (
        (leaf(make(not_before=NOW + 2 * CLOCK_SKEW)), "not valid yet"),
        (leaf(replace(make(not_after=NOT_BEFORE + 1), signature=bytes(64))), "signature"),
    ):
        with pytest.raises(PeerError, match=reason):
            validate(bad, entering=False)


@pytest.mark.parametrize("entering", [True, False])
def test_a_leaf_has_a_greatest_size_and_a_greatest_lifetime(*, entering: bool) -> None:
    validate, good = leaf_validator(SERVER, NOW), leaf(make())

    def sized(length: int) -> LeafNode:
        filler = Extension(0xF0F0, bytes(length - len(good.encode()) - 5))  # a type and a longer length come with it
        return replace(good, extensions=(filler,))

    def living(seconds: int) -> LeafNode:
        return replace(good, lifetime=Lifetime(NOW, NOW + seconds))

    assert len(sized(MAX_LEAF).encode()) == MAX_LEAF
    assert MAX_LIFETIME == 45 * 86_400 + CLOCK_SKEW
    for allowed in (sized(MAX_LEAF), living(MAX_LIFETIME)):
        validate(allowed, entering=entering)
    for wrong, reason in (
        (sized(MAX_LEAF + 1), "1,025 bytes"),
        (leaf(make(), extensions=(RULES_EXTENSION,) * 100_000), "bytes"),
        (living(MAX_LIFETIME + 1), "45 days"),
        (replace(good, lifetime=Lifetime(0, 2**64 - 1)), "45 days"),
    ):
        with pytest.raises(PeerError, match=reason):
            validate(wrong, entering=entering)
