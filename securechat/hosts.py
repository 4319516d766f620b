"""What a server's host may be called, in one spelling. RFC 1123, section 2.1; RFC 3490 (IDNA, as Python's ssl has it).

What people type is an address: `LocalHost`, `chat.example.` and `BÜCHER.example` are hosts that have another spelling.
"""

import ipaddress
import re
from typing import Final

from securechat.errors import UsageError

MAX_HOST: Final = 253
"""Letters in a name, dots included: RFC 1035 has 255 bytes, of which two are lengths."""

MAX_LABEL: Final = 63
"""Letters between two dots: RFC 1035."""

_SHOWN: Final = 40
"""Letters of a name too long that an error shows."""

_DOTS: Final = re.compile("[.\u3002\uff0e\uff61]")
"""What counts as a dot: RFC 3490, section 3.1."""

_INTERFACE: Final = re.compile("[A-Za-z0-9_.-]*")
"""What networks call theirs, and what no shell or terminal takes for something else: addresses come in files, too."""

_LABEL: Final = re.compile("[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
"""With `_`, which no host should have and those of containers often do."""


def normalise_host(host: str) -> str:
    """Return the one spelling of a host's name or IP address.

    A name is in lower case and ASCII (`xn--` stands for other letters), without the dot that may end it; an address is
    written as `ipaddress` does, perhaps with `%` and a network interface. Raises UsageError, which says what is wrong.
    """
    if not host:
        raise UsageError("the name of a host cannot be empty")
    if len(host) > MAX_HOST + 1:  # the dot at its end
        raise UsageError(f"{host[:_SHOWN]!a}... has {len(host)} letters; the name of a host has at most {MAX_HOST}")
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        pass
    else:
        if _INTERFACE.fullmatch(address.partition("%")[2]):  # `ipaddress` takes anything behind the sign
            return address
        raise UsageError(f"{host[:_SHOWN]!a} names no network interface behind its %")
    labels = _DOTS.split(host)
    if len(labels) > 1 and not labels[-1]:
        del labels[-1]
    name = ".".join(_normalise_label(label, host) for label in labels)
    if len(name) > MAX_HOST:
        raise UsageError(f"{host[:_SHOWN]!a}... is {name[:_SHOWN]}... in full, which has more than {MAX_HOST} letters")
    if re.fullmatch("[0-9.]+", name):  # a mistyped address
        raise UsageError(f"{host!a} is neither a host name nor an IP address")
    return name


def is_loopback(host: str) -> bool:
    """Whether a host, in its one spelling, is this machine by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def address_of(host: str, port: int) -> str:
    """Write an address as people do: `HOST:PORT`, `[IPv6]:PORT`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _normalise_label(label: str, host: str) -> str:
    if not label:
        raise UsageError(f"{host!a} has an empty part: a dot at its beginning, or two in a row")
    try:
        encoded = label.encode("idna").decode("ascii").lower()
    except UnicodeError as error:  # which for ASCII means the length, and else also letters that no host may have
        encoded = "" if "long" not in str(error) else "x" * (MAX_LABEL + 1)
    if len(encoded) > MAX_LABEL:
        raise UsageError(f"{label[:_SHOWN]!a}... in the name of a host has more than {MAX_LABEL} letters up to its dot")
    if not _LABEL.fullmatch(encoded):
        raise UsageError(f"{host!a} is neither a host name nor an IP address")
    return encoded
