"""What a client is made of where it could be made otherwise: the defaults are the product.

The lab builds weakened clients by replacing one part (lab/README.md), and tests set the clock. `Parts` with arguments
stands there alone, which a test holds: no setting, flag or variable leads here. Encryption and the reuse guard (RFC
9420, section 6.3.1) are no parts.
"""

from collections.abc import Callable
from dataclasses import field
from typing import Final

from securechat import policy
from securechat.clean import clean
from securechat.client.clock import Clock
from securechat.client.direct.endpoints import Network
from securechat.client.password import login_secret
from securechat.client.pins import PinBook
from securechat.client.record import Record
from securechat.client.trust import Trust, trust
from securechat.content.envelope import padding
from securechat.value import value

PATH_MESSAGES: Final = 50
"""Own messages after which we commit a fresh path: until then a thief reads on (docs/design.md, section 6, Healing)."""

PATH_MILLISECONDS: Final = 7 * 86_400_000
"""Time after which we commit one before we speak, and an owner's client also without speaking: a week."""


@value
class Timing:
    """When a device renews its path."""

    path_messages: int = PATH_MESSAGES
    path_milliseconds: int = PATH_MILLISECONDS


@value
class Parts:
    """The parts of one client."""

    clock: Clock = field(default_factory=Clock)
    trust: Trust = trust
    """Who the server has to be."""
    pins: type[PinBook] = PinBook
    """What becomes of a key that is met."""
    record: Record = field(default_factory=Record)
    """What has to fit for an entry to be the next one of a log."""
    padding: Callable[[int], int] = padding
    """How many bytes are added to content of so many."""
    rules: Callable[..., object] = policy.check_commit
    """Raises `PeerError` for a commit that the rules forbid."""
    clean: Callable[[str], str] = clean
    """What is shown of a text."""
    secret: Callable[[bytearray, bytes, str, bytes], bytes] = login_secret
    """What is sent instead of a password."""
    timing: Timing = field(default_factory=Timing)
    network: Network = field(default_factory=Network)
    """Which addresses are told and connected to for direct links."""
