"""What the operator can set, and where: flag, else environment, else file, else default.

The file is TOML with the names of `ServerConfig`'s fields at its top level, `max_clients = 50`; a variable of the
environment is SECURECHAT_ and the name in capitals, SECURECHAT_MAX_CLIENTS=50. An unknown name in the file is an error,
because somebody believes that setting to be in force; other SECURECHAT_ variables belong to other programs.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

import msgspec
from msgspec import Meta

from securechat.errors import UsageError
from securechat.names import normalise_room
from securechat.server.rate import Rate
from securechat.wire.limits import MAX_GREETING

ENVIRONMENT_PREFIX = "SECURECHAT_"

MAX_CONFIG = 16 << 10
"""Bytes of a config file: all settings with a paragraph of comment on each."""

MAX_DOTS = 100
"""Dots in one of its lines: `tomllib` takes quadratic time for a key of many parts. Ours have one part."""

ACCOUNTS_FILE = "accounts.json"
STORE_FILE = "chat.db"
"""Files in the data folder."""

MAX_ROOMS = 64
"""Rooms that the operator names."""

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


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """All settings of a server. Defaults suit a first try on one machine."""

    host: Annotated[str, Meta(min_length=1, max_length=253)] = "127.0.0.1"
    """Address to listen at; `0.0.0.0` or `::` for all."""
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
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged; `debug` shows every request except messages, without their secrets."""

    # Rates, in the file and the environment as text: `attempts_per_address = "200 + 5/s"`. See `rates`.
    connections_per_address: Rate = Rate(10_000, 50)
    """All clients of the largest site come back at once; 50 handshakes a second take a twentieth of a processor."""
    attempts_per_address: Rate = Rate(200, 5)
    """Failed attempts: a class of students that mistypes fits in, a dictionary does not."""
    attempts_per_account: Rate = Rate(20, 0.2)
    """Failed attempts: more than a person makes, and at most 17,000 guesses a day."""
    registrations_per_address: Rate = Rate(500, 0.1)
    """A school's first day; using up all 10,000 accounts takes one address more than a day."""
    requests_per_account: Rate = Rate(4000, 200)
    """An honest client makes a few per conversation when it connects, and few an hour after that."""
    submissions_per_account: Rate = Rate(20_000, 500)
    """More than any person or bot has to say; in a room of 100, 500 messages a second take a quarter of a processor."""
    fetches_per_account: Rate = Rate(1000, 20)
    """Enough to invite everybody to the largest room at once."""
    fetches_of_account: Rate = Rate(1000, 5)
    """Each one takes away a key package, and the last-resort one that remains protects a first message less."""


_TYPES = get_type_hints(ServerConfig, include_extras=True)

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|"(?:\\.|[^\\])*?"'  # strings with escapes; two quotes may stand before the last three
    r"|'''.*?'{3,5}|'.*?'|#[^\n]*|[\[\]{}\n]",
    re.DOTALL,
)
"""What decides where a statement of TOML ends: strings, comments, brackets, line ends."""


def load_config(flags: Mapping[str, object], environment: Mapping[str, str], file: Path | None = None) -> ServerConfig:
    """Combine the settings; `flags` holds those that were given, by field name.

    Raises UsageError that says where the bad setting is (line of the file, variable, flag), or that the file cannot be
    read.
    """
    settings = _read_file(file) if file is not None else {}
    for name in _TYPES:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if variable in environment:
            # Not strict: everything in the environment is text.
            settings[name] = _convert(name, environment[variable], variable, strict=False)
        if name in flags:
            settings[name] = _convert(name, flags[name], "--" + name.replace("_", "-"), strict=True)
    return ServerConfig(**settings)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_CONFIG + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_CONFIG:
        raise UsageError(f"{path} is larger than {MAX_CONFIG:,} bytes")
    try:
        text = data.decode().replace("\r\n", "\n")
        _check_dots(path, text)
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or a number of thousands of digits
        raise UsageError(f"{path}: {error}") from error  # TOMLDecodeError names line and column
    settings = {}
    for name, value in table.items():
        if name not in _TYPES:
            where = f"{path}, line {_line_of(name, text)}"
            raise UsageError(f"{where}: there is no setting {name!a}; there are {', '.join(_TYPES)}")
        try:
            settings[name] = _convert(name, value, name, strict=True)
        except UsageError as error:
            raise UsageError(f"{path}, line {_line_of(name, text)}, {error}") from None
    return settings


def _check_dots(path: Path, text: str) -> None:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") > MAX_DOTS:
            raise UsageError(f"{path}, line {number}: more than {MAX_DOTS} dots in one line")


def _line_of(key: str, text: str) -> int:
    """The line of a valid file on which the statement that sets a top-level key begins: tomllib does not say."""
    line, in_table = 1, False
    for statement in _statements(text):
        header = statement.lstrip().startswith("[")
        in_table = in_table or header  # all keys below it belong to it
        if (header or not in_table) and key in tomllib.loads(statement):
            break
        line += statement.count("\n")
    return line


def _statements(text: str) -> Iterator[str]:
    """Cut a valid file where a line ends outside of all brackets and strings."""
    begin = depth = 0
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case "\n" if depth == 0:
                yield text[begin : token.end()]
                begin = token.end()
    yield text[begin:]


def _convert(name: str, value: object, where: str, *, strict: bool) -> object:
    try:
        for written in (Rate, RoomNames):
            if _TYPES[name] is written:
                return written.parse(str(value))
        if isinstance(value, str) and _TYPES[name] is not Path:  # a path may be any bytes
            value.encode()
        return msgspec.convert(value, _TYPES[name], strict=strict, dec_hook=_path)
    except UnicodeEncodeError:
        raise UsageError(f"{where}: this is not text in UTF-8") from None
    except ValueError as error:  # msgspec.ValidationError is one
        raise UsageError(f"{where}: {str(error)[:200]}") from None  # it may hold the value


def _path(_: type, value: object) -> Path:
    """`msgspec` asks this for the one type of setting that it does not know."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("Expected a path")
    return Path(value)
