"""What one has seen of a chain: the newest that an identity key has signed, and what is out of date by it.

Of a chain (`statements`) others see pieces: certificates in leaves and key packages, statements in logs. A few of them
are enough to judge the rest: the newest link, certificate and revocation, and the succession if there is one. Each is
signed, so that whoever shows it needs no trust. All here are pure functions on a frozen value.
docs/design.md, section 6.

    older      a certificate before the newest one that was seen
    revoked    one of a device that was revoked after it
    two holders    two links of one place (`seq`) that differ, or a link that follows another one than was seen there:
                   two programs hold the key, since one alone signs each place once
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from securechat.identity.certificate import DeviceCertificate
from securechat.identity.statements import Link, Statement, digest
from securechat.value import value

Age = Literal["current", "older", "revoked"]
"""How a certificate stands in what was seen of its chain. `current`: nothing newer was seen."""


@value
class SeenChain:
    """What was seen of the chain of one account and identity key."""

    newest: Link
    certificate: DeviceCertificate | None = None
    revocation: Statement | None = None
    succession: Statement | None = None  # the first one
    two_holders: bool = False  # two links contradict each other

    @classmethod
    def of(cls, links: Sequence[Link]) -> "SeenChain":
        """Return what is known by a whole chain, or the part that was seen: at least one link."""
        known = cls.begin(links[0])
        for link in links[1:]:
            known = known.see(link)
        return known

    @classmethod
    def begin(cls, link: Link) -> "SeenChain":
        """Return what is known of a chain by its first link that was seen."""
        return cls(link).extended(link)

    def see(self, link: Link) -> "SeenChain":
        """Return what is known after a link of the same chain, whose signature was verified; the same if that is
        nothing new."""
        if link in (self.certificate, self.newest, self.revocation, self.succession):
            return self
        known = self if self.two_holders or not self._contradicts(link) else replace(self, two_holders=True)
        return known.extended(link)

    def age(self, certificate: DeviceCertificate) -> Age:
        """Say how a certificate of this chain stands."""
        revoked, newest = self.revocation, self.certificate
        if revoked is not None and revoked.device_id == certificate.device_id and certificate.seq < revoked.seq:
            return "revoked"
        return "older" if newest is not None and certificate.seq < newest.seq else "current"

    def extended(self, link: Link) -> "SeenChain":
        """Take what is newest from `link`, without a look at whether it fits."""
        known = replace(self, newest=link) if link.seq > self.newest.seq else self
        if isinstance(link, DeviceCertificate):
            if known.certificate is None or link.seq > known.certificate.seq:
                return replace(known, certificate=link)
        elif link.action == "revoke" and (known.revocation is None or link.seq > known.revocation.seq):
            return replace(known, revocation=link)
        elif link.action == "succeed" and known.succession is None:
            return replace(known, succession=link)
        return known

    def _contradicts(self, link: Link) -> bool:
        there = dict(_places(link))
        seen = (self.newest, self.certificate, self.revocation, self.succession)
        return any(there.get(seq, known) != known for each in seen if each for seq, known in _places(each))


def _places(link: Link) -> Iterator[tuple[int, bytes]]:
    """Yield the places of a chain that a link says something of, each with the digest of what stands there."""
    yield link.seq - 1, link.previous
    yield link.seq, digest(link)
