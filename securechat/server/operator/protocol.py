"""The operator's requests and their answers, over a socket in the data folder (`admin.sock`, for its owner only).

One connection carries one request: a line of JSON there, a line of JSON back; a backup follows the line `Streaming`.
Anybody who can open the socket may do anything: the file system decides, as it does for the accounts file beside it.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal

import msgspec

from securechat.errors import RefusedError, StorageError, UnreachableError, UsageError
from securechat.server.status import Status

SOCKET: Final = "admin.sock"

ANSWER_SECONDS: Final = 60.0
"""Seconds: longer than the server itself waits for its disk."""

MAX_REQUEST: Final = 4096
"""Bytes of a request's line."""

MAX_TOP: Final = 1000
"""Accounts and rooms that are shown at once."""

MAX_SOCKET_PATH: Final = 100
"""Bytes of a socket's path: the systems allow 104 to 108."""


class _Message(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    pass


# --- requests -----------------------------------------------------------------------------------------------------


class ListUsers(_Message):
    """Reply: `Users`."""


class AddUser(_Message):
    """Make an invite for an account that does not exist yet. Reply: `Code`."""

    name: str
    days: int


class ResetPassword(_Message):
    """Make an invite for an account that exists, by which its owner sets a new password. Reply: `Code`."""

    name: str
    days: int


class SetEnabled(_Message):
    """Let an account log in, or shut it out at once. Reply: `Done`."""

    name: str
    enabled: bool


class DeleteUser(_Message):
    """Delete an account for good: its name stays, for nobody to take. Reply: `Done`."""

    name: str


class ListSessions(_Message):
    """Reply: `Sessions`."""


class EndSessions(_Message):
    """End the sessions of an account, which comes back with its password only. Reply: `Done`."""

    name: str


class Top(_Message):
    """Who uses most of the server: at most `count` accounts and rooms. Takes a second. Reply: `TopReport`."""

    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_TOP)]


class Announce(_Message):
    """Say something to everybody who is logged in. Reply: `Announced`."""

    text: str


class CreateInvite(_Message):
    """Make an invite for any new account. Reply: `Code`."""

    days: int


class ListInvites(_Message):
    """Reply: `Invites`."""


class RevokeInvite(_Message):
    """Reply: `Done`."""

    id: str


class ListRooms(_Message):
    """Reply: `Rooms`."""


class ListAllRooms(_Message):
    """Reply: `AllRooms`."""


class DeleteRoom(_Message):
    """Delete any room, by its name or its id, with all that is in it. Reply: `Done`."""

    room: str


class Speak(_Message):
    """Say who has to go from a room that belongs to nobody, or may come back. Reply: `Done`."""

    room: str
    action: Literal["bar", "unbar", "remove"]
    account: str


class UpgradeRoom(_Message):
    """Let the rules of a room that belongs to nobody rise to the newest version that is known. Reply: `Done`."""

    room: str


class ChangeSiteKey(_Message):
    """Make a new site key, and name it in the rooms that belong to nobody. Reply: `Done`."""


class AcceptClock(_Message):
    """The clock is right, although it has leapt. Reply: `Done`."""


class GetStatus(_Message):
    """Reply: `StatusReport`."""


class Backup(_Message):
    """Reply: `Streaming`, then the backup (`backup.write_backup`) to the end of the stream."""


Request = (
    ListUsers
    | AddUser
    | ResetPassword
    | SetEnabled
    | DeleteUser
    | ListSessions
    | EndSessions
    | Top
    | Announce
    | CreateInvite
    | ListInvites
    | RevokeInvite
    | ListRooms
    | ListAllRooms
    | DeleteRoom
    | Speak
    | UpgradeRoom
    | ChangeSiteKey
    | AcceptClock
    | GetStatus
    | Backup
)

# --- replies ------------------------------------------------------------------------------------------------------


class User(msgspec.Struct, frozen=True):
    """An account. `created` and `deleted` in seconds since 1970 (0: it is not); `devices`: how many may resume without
    the password."""

    name: str
    created: int
    enabled: bool
    devices: int
    deleted: int


class Users(_Message):
    """All accounts, by name."""

    users: list[User]


class Session(msgspec.Struct, frozen=True):
    """A session. `device` in hexadecimal; `seated`: it does not wait for a seat; `unread`: bytes that wait for it to
    read them; `handled`: messages of it that were handled since it came."""

    account: str
    device: str
    address: str
    seated: bool
    unread: int
    handled: int


class Sessions(_Message):
    """All sessions, by account."""

    sessions: list[Session]


class TopAccount(msgspec.Struct, frozen=True):
    """An account. `held_bytes`: what it has written and is kept; `file_bytes`: the files that it has sent;
    `per_second`: messages of it in the last second."""

    name: str
    held_bytes: int
    file_bytes: int
    sessions: int
    per_second: float


class TopRoom(msgspec.Struct, frozen=True):
    """A room, or a direct conversation, which has no name; the account that began it (empty: the operator's)."""

    id: str
    kind: str
    name: str
    founder: str
    held_bytes: int


class TopReport(_Message):
    """Who holds most of the disk, and who writes most; of each at most so many as were asked for."""

    accounts: list[TopAccount]
    rooms: list[TopRoom]


class AllRooms(_Message):
    """All rooms, the largest first."""

    rooms: list[TopRoom]


class Announced(_Message):
    """To so many devices it was sent."""

    devices: int


class Invite(msgspec.Struct, frozen=True):
    """An invite, without its code. `account`: whose it is; empty: anybody's. Times in ms since 1970."""

    id: str
    account: str
    created: int
    expires: int


class Invites(_Message):
    """All invites that are good, oldest first."""

    invites: list[Invite]


class Room(msgspec.Struct, frozen=True):
    """A room that belongs to nobody. `people`: in it now; `barred`: who cannot come in.

    `version`: of its rules, 0 while nobody is in it; `rising`: the one that it rises to once the programs of `behind`
    know that; 0: none.
    """

    name: str
    people: int
    barred: tuple[str, ...]
    version: int
    rising: int
    behind: tuple[str, ...]


class Rooms(_Message):
    """All rooms that belong to nobody, by name."""

    rooms: list[Room]


class Code(_Message):
    """A new invite. The code is shown here and never again. `expires` in ms since 1970."""

    code: str
    account: str
    expires: int

    def __repr__(self) -> str:
        """Show no code."""
        return f"Code({self.account!r})"


class StatusReport(_Message):
    """The server's state. `problem`: why it takes nobody; empty: it does. `entries`: accepted since the start."""

    version: str
    address: str
    problem: str
    entries: int
    status: Status


class Done(_Message):
    """It is done, and on disk."""


class Streaming(_Message):
    """The backup follows."""


class Failed(_Message):
    """It was not done. `code`: of a RefusedError, `usage` for what makes no sense, or empty."""

    code: str
    text: str


Reply = (
    Users
    | Sessions
    | TopReport
    | Invites
    | Rooms
    | AllRooms
    | Code
    | StatusReport
    | Announced
    | Done
    | Streaming
    | Failed
)


def encode(reply: Reply) -> bytes:
    """Return a reply's line."""
    return msgspec.json.encode(reply) + b"\n"


class NobodyListensError(UnreachableError):
    """No server runs on the data folder, or none that opened its socket."""


def socket_path(data: Path) -> str | None:
    """Return the path of a data folder's socket; None if the system cannot have one."""
    path = os.fsencode(data.absolute() / SOCKET)
    return os.fsdecode(path) if sys.platform != "win32" and len(path) <= MAX_SOCKET_PATH else None


def ask(data: Path, request: Request, seconds: float = ANSWER_SECONDS) -> Reply:
    """Ask the server that runs on a data folder. Raises its refusal, UnreachableError or StorageError.

    `seconds`: how long each step may take. Raises NobodyListensError if no server is there.
    """
    with connect(data, request, seconds) as (reply, _):
        return reply


@contextlib.contextmanager
def connect(data: Path, request: Request, seconds: float = ANSWER_SECONDS) -> Iterator[tuple[Reply, BinaryIO]]:
    """Ask; return the reply and the stream that follows it. Raises like `ask`."""
    path = socket_path(data)
    if path is None:
        raise StorageError(f"{data} cannot hold the server's socket: not on this system, or its path is too long")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        with connection.makefile("rb") as stream:
            try:
                connection.connect(path)
                connection.sendall(msgspec.json.encode(request) + b"\n")
                line = stream.readline()
            except PermissionError as error:
                raise StorageError(f"no permission for {path}: run this as the server's user, or as root") from error
            except (FileNotFoundError, ConnectionRefusedError) as error:
                raise NobodyListensError(
                    f"no server runs on {data}: start it there, or name its folder with --data or --config"
                ) from error
            except TimeoutError as error:
                raise UnreachableError(
                    f"the server on {data} does not answer in {seconds:g} s; see its log"
                ) from error
            except OSError as error:
                raise UnreachableError(f"the server broke off: {error.strerror or error}; see its log") from error
            yield _decode(line, data), stream


def _decode(line: bytes, data: Path) -> Reply:
    try:
        reply: Reply = msgspec.json.decode(line, type=Reply)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # the latter: text that is not UTF-8
        raise UnreachableError(f"the server on {data} broke off, or is of another version; see its log") from error
    if isinstance(reply, Failed):
        match reply.code:
            case "usage":
                raise UsageError(reply.text)
            case "":
                raise StorageError(reply.text)
            case code:
                raise RefusedError(code, reply.text)
    return reply
