"""What the sequencer handles besides the clients' own messages, and what it needs of other threads."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from securechat.errors import RefusedError, SecurechatError
from securechat.mls.framing import Header
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.policy.words import Action
from securechat.server.sequencer.validation import Checked, Founded
from securechat.server.store.records import Departed
from securechat.wire.messages import (
    Checkpoints,
    Commit,
    HandBack,
    Handshake,
    Leave,
    OpenDirect,
    OpenRoom,
    PublishDevice,
    PublishKeyPackages,
    Request,
)


class Workers(Protocol):
    """Threads for work that must not hold up the turn; in a test, the calling thread."""

    def submit(self, job: Callable[[], None]) -> None:
        """Have a job done; it hands in its result as one of the operations below."""


class Tokens(Protocol):
    """The accounts, as far as the sequencer needs them: their resume tokens."""

    def redeem(self, token: bytes, device: bytes) -> object:
        """Raise RefusedError `token-refused` unless the token is good for the device."""

    def revoke_tokens(self, name: str, *, keep: bytes) -> Future[Any]:
        """Make the tokens of an account worthless, except that of the device `keep`. Raises StorageError."""


@dataclass(frozen=True)
class Attach:
    """The login of a session's device succeeded. `created` (of the account) in seconds, `expires` in ms."""

    id: int
    account: str
    created: int
    device: bytes
    token: bytes
    expires: int

    def __repr__(self) -> str:
        """Show no token."""
        return f"Attach({self.account!r})"


@dataclass(frozen=True)
class Expel:
    """End the sessions of an account; `text` says why."""

    account: str
    text: str


@dataclass(frozen=True)
class Resize:
    """Have this many seats from now on."""

    seats: int


@dataclass(frozen=True)
class Detach:
    """The session's connection has ended."""

    said_goodbye: bool


@dataclass(frozen=True)
class Drained:
    """The session's connection can take more history."""


@dataclass(frozen=True)
class Portion:
    """A reader has read `frames` of a log, up to `position`; `gap` as in `Subscription`."""

    log: bytes
    start: int
    position: int
    gap: int
    frames: bytes


@dataclass(frozen=True)
class CheckpointsRead:
    """A reader has fetched checkpoints."""

    reply: Checkpoints


@dataclass(frozen=True)
class GroupRead:
    """A validation worker has rebuilt a conversation's group; `tree` is encoded."""

    conversation: bytes
    group: PublicGroup
    tree: bytes


@dataclass(frozen=True)
class RoomChecked:
    """A validation worker has checked the founding of a room."""

    request: OpenRoom
    founded: Founded


@dataclass(frozen=True)
class DirectChecked:
    """A validation worker has checked the opening of a direct conversation."""

    request: OpenDirect
    founded: Founded
    checked: Checked


@dataclass(frozen=True)
class CommitChecked:
    """A validation worker has checked a commit."""

    request: Commit
    header: Header
    checked: Checked


@dataclass(frozen=True)
class DepartureChecked:
    """A validation worker has checked that a device may leave, against `group`."""

    request: Leave
    header: Header
    leaf: LeafIndex
    group: PublicGroup


Answer = Callable[[SecurechatError | None], None]
"""Gets why something was not done, or None once it is on disk."""


@dataclass(frozen=True)
class ChangeSiteKey:
    """Make a new site key. Rooms hear of it by `Speak`."""

    answer: Answer


@dataclass(frozen=True)
class Speak:
    """Have the operator say something in a room. `account`: whom it is about; empty: the new site key."""

    room: str
    action: Action
    account: str
    answer: Answer


@dataclass(frozen=True)
class SpeakReady:
    """A worker has rebuilt the group of the room where the operator wants to say something."""

    operation: Speak
    group: PublicGroup


@dataclass(frozen=True)
class Survey:
    """Look at the rooms that belong to nobody. `answer` gets what was found."""

    answer: "Callable[[list[OwnerlessRoom]], None]"


@dataclass(frozen=True)
class OwnerlessRoom:
    """A room that belongs to nobody: how many people are in it, and who is barred once all has been carried out."""

    name: str
    people: int
    barred: tuple[str, ...]


@dataclass(frozen=True)
class Surveyed:
    """A worker has looked."""

    operation: Survey
    rooms: list[OwnerlessRoom]


@dataclass(frozen=True)
class Returned:
    """A handshake that was handed back and follows from those before it: a commit, or else a departure."""

    handshake: Handshake
    account: str  # of its maker
    device: bytes
    number: int
    commit: Checked | None
    departed: Departed | None


@dataclass(frozen=True)
class HandBackChecked:
    """A validation worker has checked handshakes that are handed back to a conversation in the state (epoch, departed).

    `problem`: why it goes no further than `returned`; None: all is well.
    """

    request: HandBack
    state: tuple[int, frozenset[LeafIndex]]
    returned: tuple[Returned, ...]
    problem: RefusedError | None


@dataclass(frozen=True)
class KeyPackagesChecked:
    """A validation worker has checked key packages."""

    request: PublishKeyPackages


@dataclass(frozen=True)
class TokensRevoked:
    """The resume tokens of the account's other devices are worthless: its identity key may be replaced."""

    request: PublishDevice


@dataclass(frozen=True)
class Rejected:
    """A worker has found fault with a request."""

    request: Request
    text: str
