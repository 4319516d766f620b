"""Transcript hashes: the running hash over all commits of a group (RFC 9420, section 8.2)."""

from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import InvalidMessage
from securechat.mls.framing import AuthenticatedContent
from securechat.tlscodec import Writer


def confirmed_transcript_hash(
    suite: CipherSuite, interim_before: bytes, commit: AuthenticatedContent
) -> bytes:
    """confirmed_transcript_hash_[epoch]: takes in the commit up to its signature."""
    writer = Writer().opaque(interim_before).u16(commit.wire_format)
    commit.content.write(writer)
    return suite.hash_of(bytes(writer.vector(commit.auth.signature)))


def interim_transcript_hash(suite: CipherSuite, confirmed: bytes, confirmation_tag: bytes) -> bytes:
    """interim_transcript_hash_[epoch]: takes in the confirmation tag.

    Raises `InvalidMessage` if the tag does not have a MAC's length: without secrets, that is all there is to check.
    """
    if len(confirmation_tag) != suite.hash_size:
        raise InvalidMessage("a confirmation tag has the wrong length")
    return suite.hash_of(bytes(Writer().opaque(confirmed).vector(confirmation_tag)))
