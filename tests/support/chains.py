"""What the identity key of somebody signs, in their name, by their own hand or a thief's; and who is shown it."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.client.chains import ChainBook
from securechat.identity.certificate import DeviceCertificate, issue
from securechat.identity.statements import Action, Head, Statement, state
from tests.support.people import Person, opened

OTHER_KEY = b"k" * 32


def certificate(person: Person) -> DeviceCertificate:
    return person.engine._context.device.certificate


def certified(
    person: Person, head: Head, key: bytes = OTHER_KEY, *, device_id: bytes = b""
) -> DeviceCertificate:
    """What `person`, or a thief of the identity key, certifies behind `head`."""
    device, now = person.engine._context.device, person.clock.seconds()
    with opened(device.row.identity) as identity:
        return issue(
            identity, server_id=device.row.server_id, account=person.name,
            device_id=device_id or device.id, signature_key=key,
            not_before=now - 86_400, not_after=now + 86_400, seq=head.seq + 1, previous=head.digest,
        )  # fmt: skip


def revocation(person: Person) -> Statement:
    own = certificate(person)
    return stated(person, "revoke", Head.after(own), key=own.signature_key, device_id=own.device_id)


def stated(
    person: Person,
    action: Action,
    head: Head,
    *,
    key: bytes = OTHER_KEY,
    device_id: bytes = b"",
    days: int = 0,
    successor: Ed25519PrivateKey | None = None,
) -> Statement:
    """What the identity key of `person` states behind `head`, dated so many days from now."""
    device, now = person.engine._context.device, person.clock.seconds()
    with opened(device.row.identity) as identity:
        return state(
            identity, head, action, server_id=device.row.server_id, account=person.name,
            time=now + days * 86_400, key=key, device_id=device_id, successor=successor,
        )  # fmt: skip


def later(person: Person) -> DeviceCertificate:
    return certified(person, Head.after(certificate(person)))


def book(person: Person) -> ChainBook:
    return person.engine._context.chains


def show(person: Person, *links: DeviceCertificate | Statement) -> None:
    """Have somebody meet links somewhere."""
    with person.engine._unit():
        for link in links:
            if isinstance(link, Statement):
                person.engine._context.hear(link)
            else:
                book(person).see(link)
    person.flush()
