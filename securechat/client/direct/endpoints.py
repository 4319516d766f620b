"""Where a direct link may lead: which of our addresses we tell, and to which of theirs we connect.

An offer comes from somebody who may be hostile, and what it names we connect to from within our own network. So it is
bound to private addresses, unless the user has said otherwise of this person, and never leads to this machine, to what
is only on the same wire, to many at once, or to a cloud's metadata service.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from securechat.value import value

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MIN_PORT: Final = 1024
"""Below it are the ports of a system's own services, and no listener of ours (RFC 6335, section 6)."""

MAX_ENDPOINTS: Final = 4
"""Places in one offer: one of each family, toward the server and toward elsewhere."""

_Networks: TypeAlias = list[ipaddress.IPv4Network | ipaddress.IPv6Network]


def _networks(*written: str) -> _Networks:
    return [ipaddress.ip_network(each) for each in written]


_PRIVATE: Final = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""RFC 1918 and RFC 4193. The space that providers share (RFC 6598) is not the user's own network."""

_METADATA: Final = _networks("fd00:ec2::/32", "fd20:ce::/64", "168.63.129.16/32")
"""Where Amazon, Google and Azure tell an instance its secrets, beside the link-local 169.254.169.254."""

_SPACE: Final = _networks("0.0.0.0/0", "2000::/3")
"""Where public addresses are. What maps IPv4 into IPv6 is outside, as are multicast and what is local to a wire."""

_SPECIAL: Final = _networks(
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)  # fmt: skip
"""What is there and not public (RFC 6890 and its registries). Python's own tables differ from version to version."""


@value
class Endpoint:
    """A place where somebody listens."""

    address: Address
    port: int

    def __str__(self) -> str:
        """Return it as people write it (RFC 3986, section 3.2.2)."""
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"

    @property
    def family(self) -> socket.AddressFamily:
        """The family of its sockets."""
        return socket.AF_INET if self.address.version == 4 else socket.AF_INET6


def is_reachable(address: Address, *, wide: bool) -> bool:
    """Whether a link may lead to an address, or we may tell it as ours. `wide`: the user allows public ones, too."""
    if _within(address, _METADATA):
        return False
    return _within(address, _PRIVATE) or (wide and _within(address, _SPACE) and not _within(address, _SPECIAL))


def _within(address: Address, networks: _Networks) -> bool:
    return any(address in network for network in networks)  # none of the other version is


def allowed(endpoints: Iterable[Endpoint], is_own: Callable[[Address], bool], *, wide: bool) -> list[Endpoint]:
    """Return those endpoints of an offer to which we may connect, in its order, each once."""
    found = [
        each
        for each in dict.fromkeys(endpoints)
        if each.port >= MIN_PORT and is_reachable(each.address, wide=wide) and not is_own(each.address)
    ]
    return found[:MAX_ENDPOINTS]


def is_own(address: Address) -> bool:
    """Whether an address is one of this machine: nobody else's can be bound to."""
    try:
        with socket.socket(Endpoint(address, 0).family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def own_addresses(server: str) -> list[Address]:
    """Return the addresses from which this machine reaches its server, by its address, and everybody else.

    Nothing is sent: to connect a UDP socket asks the system's routes alone.
    """
    found: dict[Address, None] = {}
    for there in (server, *_ELSEWHERE):
        try:
            towards = ipaddress.ip_address(there)
            with socket.socket(Endpoint(towards, MIN_PORT).family, socket.SOCK_DGRAM) as probe:
                probe.connect((there, MIN_PORT))
                found[ipaddress.ip_address(probe.getsockname()[0])] = None
        except (OSError, ValueError):  # no such route or family
            continue
    return list(found)


_ELSEWHERE: Final = ("192.0.2.1", "2001:db8::1")
"""Addresses of nobody (RFC 5737, 3849): the default route leads there."""


class Network:
    """The network around a client."""

    def told(self, server: str, *, wide: bool) -> list[Address]:
        """Return the addresses of ours that we may tell, and listen at; `server`: the address of ours."""
        return [each for each in own_addresses(server) if is_reachable(each, wide=wide)][:MAX_ENDPOINTS]

    def allowed(self, endpoints: Iterable[Endpoint], *, wide: bool) -> list[Endpoint]:
        """Return those of an offer to which we may connect."""
        return allowed(endpoints, is_own, wide=wide)
