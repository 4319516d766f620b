"""Networks for direct links on one machine, each of whose clients takes it for another one."""

import ipaddress
from collections.abc import Iterable

from securechat.client.direct.endpoints import Address, Endpoint, Network


class Loopback(Network):
    """A network in which this machine is another one: tests have no second one."""

    address: Address = ipaddress.ip_address("127.0.0.1")

    def told(self, server: str, *, wide: bool) -> list[Address]:  # noqa: ARG002
        return [self.address]

    def allowed(self, endpoints: Iterable[Endpoint], *, wide: bool) -> list[Endpoint]:  # noqa: ARG002
        return list(endpoints)


class Elsewhere(Loopback):
    """The same at an address by which nobody reaches the server."""

    address = ipaddress.ip_address("127.77.66.55")
