"""What the operator can set, and where: flag, else environment, else file, else default.

The file is TOML with the names of `ServerConfig`'s fields at its top level, `max_clients = 50`; a variable of the
environment is SECURECHAT_ and the name in capitals, SECURECHAT_MAX_CLIENTS=50; an empty one counts as unset, and a line
break at its end, as files and secret stores leave it, does not count. An unknown name in the file is an error,
because somebody believes that setting to be in force; other SECURECHAT_ variables belong to other programs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_type_hints

import msgspec
from msgspec import Meta

from securechat.errors import UsageError
from securechat.files import expand
from securechat.hosts import normalise_host
from securechat.names import normalise_room
from securechat.server.rate import Rate, Size
from securechat.toml import TomlFile
from securechat.wire.limits import MAX_GREETING

ENVIRONMENT_PREFIX = "SECURECHAT_"

ACCOUNTS_FILE = "accounts.json"
STORE_FILE = "chat.db"
BLOBS_FOLDER = "blobs"
"""What is in the data folder."""

MAX_ROOMS = 64
"""Rooms that the operator names."""

MAX_NETWORKS = 64
"""Of load balancers: each new connection is compared with all of them."""

Title = Annotated[str, Meta(max_length=MAX_GREETING)]


class RoomNames(frozenset[str]):
    """Names of rooms, written with blanks between them: `#lobby #help`."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form. Raises ValueError."""
        try:
            names = cls(map(normalise_room, text.split()[: MAX_ROOMS + 1]))
        except UsageError as error:
            raise ValueError(f"Expected names of rooms: {error}") from None
        if len(names) > MAX_ROOMS:
            raise ValueError(f"Expected at most {MAX_ROOMS} names of rooms")
        return names

    def __str__(self) -> str:
        """The written form."""
        return " ".join(sorted(self))


class Networks(frozenset[IPv4Network | IPv6Network]):
    """Addresses and networks, written with blanks between them: `10.0.0.5 fd00:5::/64`."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form. Raises ValueError."""
        words = text.split()
        if len(words) > MAX_NETWORKS:
            raise ValueError(f"Expected at most {MAX_NETWORKS} addresses")
        try:
            return cls(map(ip_network, words))
        except ValueError as error:  # of an address in the written form: it is no secret
            raise ValueError(f"Expected addresses or networks, as in `10.0.0.5 fd00:5::/64`: {error}") from None

    def __str__(self) -> str:
        """The written form."""
        return " ".join(sorted(map(str, self)))

    def hold(self, host: str) -> bool:
        """Whether an address is one of these. An IPv6 address may have a zone, and may be one of IPv4."""
        if not self:
            return False
        address = ip_address(host.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in each for each in self)


class BlobLimits(NamedTuple):
    """Bytes of blobs of one account, and of all together, and for how many seconds one is kept."""

    per_account: int
    in_all: int
    seconds: int


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """All settings of a server. Defaults suit a first try on one machine."""

    host: str = "127.0.0.1"
    """Address to listen at; `0.0.0.0` for all of IPv4, `::` for all of IPv6 and IPv4."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 4433
    """0: any free one."""
    data: Path = Path("data")
    """Folder of accounts and logs."""
    cert: Path = Path("certs/server.pem")
    key: Path = Path("certs/server-key.pem")
    name: Title = "securechat"
    """What clients show as the server's name."""
    greeting: Title = ""
    rooms: RoomNames = RoomNames(("#lobby",))
    """Open rooms that belong to nobody: whoever enters first makes them, and the operator keeps order there."""
    max_clients: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Accounts that may be in at once; the rest wait in order."""
    max_clients_per_address: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """The same from one network address, an IPv4 address or an IPv6 /64; none: three quarters of `max_clients`. Set it
    to `max_clients` where all clients seem to come from one: in a container, or behind a proxy that says nothing."""
    trusted_proxies: Networks = field(default_factory=Networks)
    """Addresses of load balancers that say whose each connection is, by version 2 of the PROXY protocol. Whoever
    connects from there has to say it; nobody else can."""
    registration: Literal["open", "closed", "invite"] = "open"
    invite_code: Annotated[str, Meta(max_length=64)] = field(default="", repr=False)
    """With registration `invite`: a code for everybody. Without one, only the codes that `securechat admin` makes are
    good.

    There is no flag for it: everybody on a machine sees other people's arguments.
    """
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] | None = None
    """Port on this machine for Prometheus and health checks (`metrics`); none: not served; 0: any free one."""
    durability: Literal["disk", "memory"] = "disk"
    """`memory`: for measuring only. Entries are acknowledged before they are on disk: a power failure loses them."""
    show_ciphertext: bool = False
    """Log every relayed entry in hexadecimal, for teaching."""
    bytes_per_account: Size = Size(1 << 30)
    """What an account may have on the disk: what it has written and others have still to read, with what is kept of its
    rooms. Sixteen people who have been away for a month hold as much (`store.records.READER_BYTES`)."""
    blob_bytes_per_account: Size = Size(4 << 30)
    """What an account may have here of the files that it sends, as long as they are kept: some films. 0: none."""
    blob_bytes: Size = Size(64 << 30)
    """The same of all accounts together. Besides, files end where twice the `disk_floor` is free, so that talk goes on.
    """
    blob_days: Annotated[int, Meta(ge=1, le=365)] = 30
    """Days for which a file is kept once it is here: as long as messages wait for readers in rooms."""
    disk_floor: Size = Size(256 << 20)
    """Bytes that stay free: below that nothing new is taken (`space`). The write-ahead log may take 40 MiB while what
    is there is read and tidied, and a site that writes 1 MB/s gives its operator some minutes."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged; `debug` shows every request except messages, without their secrets."""

    @property
    def share(self) -> int:
        """Accounts of one address that may be in at once."""
        return self.max_clients_per_address or self.max_clients - self.max_clients // 4

    @property
    def blob_limits(self) -> BlobLimits:
        """What may be kept of blobs."""
        return BlobLimits(self.blob_bytes_per_account, self.blob_bytes, self.blob_days * 86_400)

    # Rates, in the file and the environment as text: `attempts_per_address = "200 + 5/s"`. See `rates`.
    connections_per_address: Rate = Rate(10_000, 50)
    """All clients of the largest site come back at once; 50 handshakes a second take a twentieth of a processor."""
    attempts_per_address: Rate = Rate(200, 5)
    """Failed attempts: a class of students that mistypes fits in, a dictionary does not."""
    attempts_per_account: Rate = Rate(20, 0.2)
    """Failed attempts: more than a person makes, and at most 17,000 guesses a day."""
    logins_per_account: Rate = Rate(100, 0.5)
    """Right passwords: a script that logs in each minute, and a fortieth of a password worker."""
    password_changes_per_account: Rate = Rate(10, 0.002)
    """Each takes a password worker three times as long as a login, and rewrites the accounts file: 170 a day."""
    registrations_per_address: Rate = Rate(500, 0.1)
    """A school's first day; using up all 10,000 accounts takes one address more than a day."""
    accounts_per_address: Rate = Rate(2500, 0.002)
    """The same in the long run: a quarter of all accounts, and 170 more a day."""
    requests_per_account: Rate = Rate(4000, 200)
    """An honest client makes a few per conversation when it connects, and few an hour after that."""
    submissions_per_account: Rate = Rate(20_000, 500)
    """More than any person or bot has to say; in a room of 100, 500 messages a second take a quarter of a processor."""
    messages_per_account: Rate = Rate(40_000, 2000)
    """All that an account's programs send, acknowledgements and pings too: several times what they honestly do, and a
    two-hundredth of a processor. Beyond it they are read later."""
    fetches_per_account: Rate = Rate(1000, 20)
    """Enough to invite everybody to the largest room at once."""
    fetches_of_account: Rate = Rate(1000, 5)
    """Each one takes away a key package, and the last-resort one that remains protects a first message less."""
    statements_per_account: Rate = Rate(50, 0.002)
    """What an identity key signs is kept for ever: a rotation a month and the odd revocation; at most 170 a day."""
    rooms_per_account: Rate = Rate(100, 0.02)
    """Rooms made: a teacher's term in one evening, then 70 an hour."""
    keepsakes_per_account: Rate = Rate(20, 0.01)
    """One each time that its owner types the password, and each may be 256 KiB to write: at most 220 MB a day."""
    uploads_per_account: Rate = Rate(200, 0.1)
    """Files that it begins to send: an evening's pictures at once, then six a minute."""
    transfers_per_account: Rate = Rate(8 << 20, 16 << 10)
    """KiB of files that it sends and fetches: 8 GiB at once, and 16 MiB a second, a sixth of a gigabit line."""


_TYPES = get_type_hints(ServerConfig, include_extras=True)

def load_config(flags: Mapping[str, object], environment: Mapping[str, str], file: Path | None = None) -> ServerConfig:
    """Combine the settings; `flags` holds those that were given, by field name.

    Raises UsageError that says where the bad setting is (line of the file, variable, flag), or that the file cannot be
    read.
    """
    settings = _read_file(file) if file is not None else {}
    for name in _TYPES:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if name in flags:
            settings[name] = _convert(name, flags[name], "--" + name.replace("_", "-"), strict=True)
        elif (value := environment.get(variable, "").rstrip("\r\n")) and not _is_of_kubernetes(name, value):
            # Not strict: everything in the environment is text.
            settings[name] = _convert(name, value, variable, strict=False)
    return ServerConfig(**settings)


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Whether this is about a service called `securechat` or `securechat-metrics`, as Kubernetes tells containers."""
    return name in ("port", "metrics_port") and value.startswith("tcp://")


def _read_file(path: Path) -> dict[str, Any]:
    file = TomlFile(path)
    settings = {}
    for name, value in file.table.items():
        if name not in _TYPES:
            raise UsageError(f"{file.place(name)}: there is no setting {name!a}; there are {', '.join(_TYPES)}")
        try:
            settings[name] = _convert(name, value, name, strict=True)
        except UsageError as error:
            raise UsageError(f"{file.place(name)}, {error}") from None
    return settings


def _convert(name: str, value: object, where: str, *, strict: bool) -> object:
    try:
        for written in (Networks, Rate, RoomNames, Size):
            if _TYPES[name] is written:
                return written.parse(str(value))
        if isinstance(value, str) and _TYPES[name] is not Path:  # a path may be any bytes
            value.encode()
        converted = msgspec.convert(value, _TYPES[name], strict=strict, dec_hook=_path)
        return normalise_host(converted) if name == "host" else converted
    except UnicodeEncodeError:
        raise UsageError(f"{where}: this is not text in UTF-8") from None
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    except ValueError as error:  # msgspec.ValidationError is one
        raise UsageError(f"{where}: {str(error)[:200]}") from None  # it may hold the value


def _path(_: type, value: object) -> Path:
    """`msgspec` asks this for the one type of setting that it does not know."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("Expected a path")
    try:
        return expand(value)
    except UsageError as error:
        raise ValueError(str(error)) from None
