"""How a client knows its server: by the CA that it was given, or by those that its vault trusts already."""

import ssl
from collections.abc import Callable, Sequence

from securechat.client.settings import ClientSettings
from securechat.transport.certificate_files import CA
from securechat.transport.deadline import Deadline
from securechat.transport.tls import client_context, client_context_for_pin, context_trusting

Trust = Callable[[ClientSettings, Sequence[CA], Deadline], ssl.SSLContext]
"""From the settings, the vault's CAs and a deadline to the context that accepts this server and no other."""


def trust(settings: ClientSettings, trusted: Sequence[CA], deadline: Deadline) -> ssl.SSLContext:
    """Return the context that accepts this server and no other. `trusted`: the vault's CAs, if the settings name none.

    With a pin alone, the server is asked for the CA that it belongs to. Raises StorageError, UsageError, PeerError or
    OSError.
    """
    if settings.ca_file is not None:
        return client_context(settings.ca_file)
    if known := [ca for ca in trusted if settings.pin.strip().lower() in ("", ca.text)]:
        return context_trusting(known)
    return client_context_for_pin(settings.host, settings.port, settings.ca_pin, deadline)
