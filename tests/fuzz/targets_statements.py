"""What people and their devices sign, the rules they agree on, and what is inside the encryption of a message.

Each decoder has one encoding for one value, so that what was signed or hashed is what was read.
"""

from contextlib import suppress
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.content import envelope
from securechat.content.registry import Invite, Request, Text
from securechat.errors import DecodeError, PeerError
from securechat.identity import certificate as certificates
from securechat.identity import statements
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.keepsake import Keepsake
from securechat.identity.statements import EMPTY, Head, Link, check_chain, decode_link, digest, state
from securechat.mls.extensions import Extension
from securechat.names import normalise_account
from securechat.policy.rules import VERSION, Identity, Rules, extension_type, in_order, rules_of
from securechat.policy.words import Word
from tests.fuzz.registry import Target

NOW = 1_700_000_000
BYTES = bytes(range(32))
SERVER = BYTES[:16]


def content(data: bytes) -> None:
    """Content is an envelope in its one encoding, and has room to be padded, or it is damaged."""
    try:
        read = envelope.decode(data)
    except DecodeError:
        return
    assert envelope.encode(read) == data
    assert 0 <= envelope.padding(len(data)) <= max(envelope.FLOOR, len(data) // 8)


def link(data: bytes) -> None:
    """A link of a chain is a certificate or a statement in its one encoding. What is sound is signed in whole."""
    try:
        read = decode_link(data)
    except DecodeError:
        return
    assert read.encode() == data
    if not is_sound(read):
        return
    assert read.account == normalise_account(read.account)
    for altered in (replace(read, seq=read.seq + 1), replace(read, account=f"{read.account}x")):
        assert not is_sound(altered)
    with suppress(PeerError):
        assert check_chain([read], EMPTY, now=NOW) == Head(1, digest(read))


def is_sound(link: Link) -> bool:
    """Whether it is rightly signed, and dated before NOW."""
    try:
        if isinstance(link, DeviceCertificate):
            certificates.verify(link, now=NOW)
        else:
            statements.verify(link, now=NOW)
    except PeerError:
        return False
    return True


def rules(data: bytes) -> None:
    """Rules make sense, are in their one encoding and in order, or are refused."""
    try:
        read = rules_of((Extension(extension_type(VERSION), data),))
    except PeerError:
        return
    assert read.encode() == data
    assert read.owners == in_order(read.owners)
    assert not {who.account for who in read.owners} & set(read.barred)
    assert not {who.account for who in read.who_adds} & set(read.barred)
    assert read.kind != "invite" or read.owners


def signed_word(data: bytes) -> None:
    """An operator's word is in its one encoding, or refused."""
    with suppress(DecodeError):
        assert Word.decode(data).encode() == data


def keepsake(data: bytes) -> None:
    """A keepsake is in its one encoding, and its signature covers its number; or it is refused."""
    try:
        read = Keepsake.decode(data)
        assert read.encode() == data
        read.verify()
    except PeerError:
        return
    try:
        replace(read, number=read.number + 1).verify()
    except PeerError:
        return
    raise AssertionError("the signature does not cover the number")


TARGETS: dict[str, Target] = {
    "content": content, "link": link, "rules": rules, "signed_word": signed_word, "keepsake": keepsake,
}  # fmt: skip


def seeds() -> dict[str, list[bytes]]:
    """One of each kind, signed now."""
    key, successor = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public, named = key.public_key().public_bytes_raw(), successor.public_key().public_bytes_raw()
    who = Identity("alice", public)
    issued = certificates.issue(
        key, server_id=SERVER, account="alice", device_id=SERVER, signature_key=named,
        not_before=NOW - 10, not_after=NOW + 10,
    )  # fmt: skip
    stated = [
        state(
            key, Head.after(issued), "revoke", time=NOW, key=named, device_id=SERVER, server_id=SERVER, account="alice"
        ),
        state(key, EMPTY, "succeed", time=NOW, key=named, successor=successor, server_id=SERVER, account="alice"),
        state(key, EMPTY, "contest", time=NOW, key=named, server_id=SERVER, account="alice"),
        state(key, EMPTY, "restart", time=NOW, key=named, server_id=SERVER, account="alice"),
    ]
    bodies = (
        Text("hi"),
        Request("may I?"),
        Invite(BYTES, "invite", "#club", "member", (("bob", BYTES),), BYTES, NOW, "come"),
    )
    agreed = (
        Rules("direct"),
        Rules(
            "invite", "#club", "all of us", 86_400, owners=(who,), inviters=(Identity("bob", BYTES),), barred=("carl",)
        ),
        Rules("open", "#lobby", site_key=BYTES),
    )
    words = (
        Word(SERVER, BYTES, 3, 4, NOW, "bar", b"mallory"),
        Word(SERVER, BYTES, 3, 4, NOW, "remove", b"mallory", BYTES),
    )
    sealed = Keepsake(SERVER, "alice", public, 1, NOW, bytes(12), b"sealed").signed_by(key)
    return {
        "content": [envelope.encode(envelope.Envelope(7, BYTES, NOW * 1000, body)) for body in bodies],
        "link": [each.encode() for each in (issued, *stated)],
        "rules": [each.encode() for each in agreed],
        "signed_word": [each.encode() for each in words],
        "keepsake": [sealed.encode()],
    }
