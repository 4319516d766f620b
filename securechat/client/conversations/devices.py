"""Devices of an account, as its chain shows them: which there were, since when, until when, and what became of them.

People name a device by the first digits of its id. What they call their own ones beside that is for them alone: it is
in the vault, and sealed in the keepsake. In a certificate everybody who shares a conversation, and the server, could
read it, and somebody else's word for their computer would tell nobody anything. docs/design.md, section 6.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from securechat.clean import clean_line
from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations.decisions import Decisions
from securechat.client.conversations.registry import Registry
from securechat.client.device import mark
from securechat.client.keepsake import MAX_DEVICE_NAME
from securechat.errors import UsageError
from securechat.identity import pins
from securechat.identity.certificate import CLOCK_SKEW, DeviceCertificate
from securechat.identity.chains import SeenChain
from securechat.identity.pins import SHORT
from securechat.identity.statements import Link

_HEARD_LINES: Final = 200
"""Newest lines of a private conversation in which we look for a device: it was last seen then, or longer ago."""

_OWN_LINES: Final = 10_000
"""The newest lines of all conversations, in which we look for our own devices: some milliseconds, and the months of
somebody who writes much."""


def listed(
    context: Context, registry: Registry, decisions: Decisions, account: str, unpublished: frozenset[bytes]
) -> events.Devices:
    """Return what is known of the devices of an account. Raises `UsageError` if nothing is.

    `unpublished`: devices of ours whose revocation the server has not taken yet.
    """
    own = context.device
    if account == own.account:
        links = own.chain
        names = dict(context.vault.device_names.load())
        own_chain, said = SeenChain.of(links), context.vault.history.last_said(account, _OWN_LINES)
        shown = [
            replace(
                _shown(each, own_chain, said.get(each[0].device_id, 0), own.id),
                unpublished=each[0].device_id in unpublished,
                name=names.get(each[0].device_id, ""),
            )
            for each in _by_device(links)
        ]
        return events.Devices(account, tuple(shown))
    found = []
    for key in decisions.known_keys(account):
        chain = context.chains.of(account, key)
        if chain is not None and chain.certificate is not None:
            heard = _heard(context, registry, account, chain.certificate.device_id)
            found.append(_shown([chain.certificate], chain, heard))
    if not found:
        raise UsageError(f"No device of {account} is known yet. Write to them first.")
    return events.Devices(account, tuple(found))


def call(context: Context, form: str, name: str) -> None:
    """Name the device of ours that is typed by its mark, for the user alone; empty: no more. Raises `UsageError`."""
    if len(name) > MAX_DEVICE_NAME or name != clean_line(name).strip():
        raise UsageError(f"A device's name is one line of at most {MAX_DEVICE_NAME} characters that can be shown.")
    context.vault.device_names.save(_typed(context, form).device_id, name)


def named(context: Context, form: str) -> bytes:
    """Return the id of the device of ours that is typed by its mark. Raises `UsageError`, also if it is revoked."""
    own, newest = context.device, _typed(context, form)
    if newest.device_id != own.id and SeenChain.of(own.chain).age(newest) == "revoked":
        raise UsageError(f"Device {mark(newest.device_id)} is revoked already.")
    return newest.device_id


def _typed(context: Context, form: str) -> DeviceCertificate:
    """Return the newest certificate of the device of ours that is typed by its mark, or the beginning of it."""
    typed = form.lower()
    found = [each for each in _by_device(context.device.chain) if mark(each[0].device_id).startswith(typed)]
    if len(typed) < SHORT or len(found) != 1:
        raise UsageError(f"You have {'no such device' if not found else 'several such devices'}. /devices lists them.")
    ((*_, newest),) = found
    return newest


def _by_device(links: Iterable[Link]) -> Iterable[list[DeviceCertificate]]:
    found: dict[bytes, list[DeviceCertificate]] = {}
    for link in links:
        if isinstance(link, DeviceCertificate):
            found.setdefault(link.device_id, []).append(link)
    return found.values()


def _shown(certificates: list[DeviceCertificate], chain: SeenChain, heard: int, own: bytes = b"") -> events.DeviceShown:
    first, newest = certificates[0], certificates[-1]
    age = chain.age(newest)
    return events.DeviceShown(
        mark(newest.device_id), pins.short(newest.identity_key), _began(first), _began(newest), newest.not_after * 1000,
        heard, age, own=newest.device_id == own,
    )  # fmt: skip


def _began(certificate: DeviceCertificate) -> int:
    """Return when a certificate was made (ms): it is valid a day earlier, for clocks that are behind."""
    return (certificate.not_before + CLOCK_SKEW) * 1000


def _heard(context: Context, registry: Registry, account: str, device: bytes) -> int:
    conversation = registry.find(account)
    lines = [] if conversation is None else context.vault.history.newest(conversation.id, _HEARD_LINES)
    return max((line.time for line in lines if line.device == device), default=0)
