"""Revocations: what the tree does not say of devices and identity keys that are over (docs/design.md, section 6).

A statement `revoke` is an entry in every log in which the device has a leaf, and `succeed` in every one in which a
device of the old identity key has one. From then on such a leaf counts as departed: it commits nothing, and the next
regular commit has to remove it. Until the leaf is gone the statement waits: it travels with offers and checkpoints,
being its own proof.

    revoke    the leaf may still give way to a certificate of its identity key that was signed after the statement, so
              that whoever recovers from a theft is asked nothing
    succeed   no certificate of the old key enters any more; the statement waits until the rules do not name that key
              either, because the successor takes over what it was (`successions`)
    contest   takes the place of `succeed`: still no certificate of the old key enters, and nobody takes anything over
"""

from collections.abc import Iterable, Iterator, Sequence

from securechat.errors import PeerError
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.identity.statements import Statement, verify
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.policy.rules import Identity, rules_of


def check_statement(
    group: PublicGroup, encoded: bytes, *, time: int, departed: frozenset[LeafIndex], before: Sequence[Statement]
) -> Statement:
    """Check an entry that is a statement, in the epoch of `group`; `time` in ms.

    `departed`: leaves whose devices have left; `before`: statements that wait. Raises `PeerError`: then the server
    should not have put it there.
    """
    statement = _read(group, encoded, time)
    if any(_same_chain(statement, each) and each.seq >= statement.seq for each in before):
        raise PeerError(f"What {statement.account} has stated is out of date.")
    if statement.action == "contest":
        return statement
    if set(_whose(group, statement)) & (departed - revoked_leaves(group, before)):
        raise PeerError(f"{statement.account} revokes a device that has left.")
    return statement


def check_revocations(group: PublicGroup, encoded: Sequence[bytes], *, time: int) -> tuple[Statement, ...]:
    """Check the statements that wait, as they are shown to somebody who enters; `time`: now, in ms.

    Whether there are others, only the log can tell. Raises `PeerError`.
    """
    statements = tuple(_read(group, each, time) for each in encoded)
    if len({(each.account, each.identity_key) for each in statements}) < len(statements):
        raise PeerError("The server shows two statements by one identity key.")
    return statements


def is_about(statement: Statement, *, account: str, identity_key: bytes, device: bytes, seq: int) -> bool:
    """Whether a statement is about a leaf under this identity key, and a certificate of this `seq`.

    The server chooses by it the logs in which a statement becomes an entry, and the members check that.
    """
    if account != statement.account or (statement.action == "revoke" and device != statement.device_id):
        return False
    if identity_key == statement.identity_key:
        return seq < statement.seq
    return statement.action == "contest" and identity_key == statement.key


def revoked_leaves(group: PublicGroup, revocations: Iterable[Statement]) -> frozenset[LeafIndex]:
    """Return the leaves of revoked devices, and of identity keys that have named a successor."""
    return frozenset(
        leaf for leaf, certificate in _of_same_key(group, revocations) if is_revoked(certificate, revocations)
    )


def is_revoked(certificate: DeviceCertificate, revocations: Iterable[Statement]) -> bool:
    """Whether a certificate was signed before its identity key revoked a device that has a leaf in its place, or by a
    key that has named a successor."""
    return any(
        _same_chain(certificate, each) and (each.action != "revoke" or certificate.seq < each.seq)
        for each in revocations
    )


def still_revoked(group: PublicGroup, revocations: Iterable[Statement]) -> tuple[Statement, ...]:
    """Return the statements that a state still waits with: the leaf is there, or the rules name a key that is over."""
    return tuple(
        each
        for each in revocations
        if revoked_leaves(group, [each]) or (each.action != "revoke" and _is_named(group, each, each.identity_key))
    )


def with_revocation(revocations: Iterable[Statement], new: Statement) -> tuple[Statement, ...]:
    """Return the statements that wait once there is a new one: the newest of each identity key."""
    return (*(each for each in revocations if not _same_chain(new, each)), new)


def _read(group: PublicGroup, encoded: bytes, time: int) -> Statement:
    statement = Statement.decode(encoded)
    if statement.action == "restart":
        raise PeerError(f"A statement of {statement.account} stands where no such statement belongs.")
    verify(statement, now=time // 1000)
    about = _whose(group, statement)
    if statement.action == "revoke" and not about:
        raise PeerError(f"{statement.account} revokes a device that is not here, or a certificate that came later.")
    keys = [statement.identity_key, *([statement.key] if statement.action == "contest" else [])]
    if not about and not any(_is_named(group, statement, key) for key in keys):
        raise PeerError(f"{statement.account} speaks of an identity key that is not here.")
    return statement


def _whose(group: PublicGroup, statement: Statement) -> tuple[LeafIndex, ...]:
    """Return the leaves that a statement is about: at most one, unless it is about identity keys."""
    return tuple(
        leaf
        for leaf, node in group.members()
        if (certificate := certificate_of(node)).server_id == statement.server_id
        and is_about(
            statement,
            account=certificate.account,
            identity_key=certificate.identity_key,
            device=certificate.device_id,
            seq=certificate.seq,
        )
    )


def _is_named(group: PublicGroup, statement: Statement, key: bytes) -> bool:
    """Whether the rules name the account of a statement under a key."""
    rules = rules_of(group.extensions)
    return Identity(statement.account, key) in (*rules.owners, *rules.inviters)


def _of_same_key(
    group: PublicGroup, revocations: Iterable[Statement]
) -> Iterator[tuple[LeafIndex, DeviceCertificate]]:
    keys = {(each.account, each.identity_key) for each in revocations}
    for leaf, node in group.members() if keys else ():
        certificate = certificate_of(node)
        if (certificate.account, certificate.identity_key) in keys:
            yield leaf, certificate


def _same_chain(one: DeviceCertificate | Statement, other: Statement) -> bool:
    return (one.account, one.identity_key) == (other.account, other.identity_key)
