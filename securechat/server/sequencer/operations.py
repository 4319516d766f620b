"""What the sequencer handles besides the clients' own messages, and what it needs of other threads."""

from collections.abc import Callable
from typing import Protocol

from securechat.errors import RefusedError, SecurechatError
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.keepsake import Keepsake
from securechat.identity.statements import Link, Statement
from securechat.mls.framing import Header
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.policy.words import Action
from securechat.server.accounts.records import Account
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.validation import Checked, Founded
from securechat.server.store.records import BranchPoint, Departed
from securechat.value import value
from securechat.wire.messages import (
    ChangePassword,
    Checkpoints,
    Commit,
    HandBack,
    Handshake,
    Leave,
    Login,
    MemberList,
    OpenDirect,
    OpenRoom,
    Publish,
    PublishKeyPackages,
    PutBlob,
    PutKeepsake,
    Request,
    Resume,
    Rooms,
    StartBlob,
)
from securechat.wire.possession import Channel


class Workers(Protocol):
    """Threads for work that must not hold up the turn; in a test, the calling thread."""

    def submit(self, job: Callable[[], None], account: str = "", owner: object = None) -> None:
        """Have a job done; it hands in its result as one of the operations below.

        `account`: pays for it; empty: none. `owner`: the session that waits for it.
        """

    def drop(self, account: str, owner: object) -> None:
        """Forget the jobs of an owner that have not begun."""


FindAccount = Callable[[str], Account | None]
"""The account of a name, as it is at this moment."""


@value
class PasswordChecked:
    """A password worker has found the secret of a login right, for the account as it was then."""

    request: Login
    account: Account


@value
class PasswordReplaced:
    """A password worker has put another secret in the place of an account's; `account`: as it is since then."""

    request: ChangePassword
    account: Account


@value
class Resuming:
    """Somebody wants in with a resume token.

    `channel`: of the connection. `address`: what attempts are counted by. `refused` tells why not.
    """

    request: Resume
    channel: Channel
    address: str
    refused: Callable[[RefusedError], None]


@value
class Expel:
    """End the sessions of an account, but for `spared`; `text` says why."""

    account: str
    text: str
    spared: Session | None = None


@value
class Resize:
    """Have this many seats from now on, and for those who come from one address this share of them."""

    seats: int
    share: int


@value
class Detach:
    """The session's connection has ended."""

    said_goodbye: bool


@value
class Drained:
    """The session's connection can take more history, and more answers."""


@value
class Portion:
    """A reader has read `frames` of a log, up to `position`; `gap` as in `Subscription`."""

    log: bytes
    start: int
    position: int
    gap: int
    frames: bytes


@value
class CheckpointsRead:
    """A reader has fetched checkpoints."""

    reply: Checkpoints


@value
class Listed:
    """A reader has made a list, of `size` bytes, for requests that get it each under its own id."""

    requests: list[Request]
    reply: Rooms | MemberList
    size: int


@value
class Failed:
    """A worker has not done what nobody's session waits for: `then` is to be done instead."""

    then: Callable[[], None]


@value
class GroupRead:
    """A validation worker has rebuilt a conversation's group; `tree` is encoded, `opening` as in `CommitChecked`.

    `account`: whose time it took; empty: the operator's.
    """

    conversation: bytes
    group: PublicGroup
    tree: bytes
    opening: bytes
    account: str = ""


@value
class RoomChecked:
    """A validation worker has checked the founding of a room."""

    request: OpenRoom
    founded: Founded


@value
class DirectChecked:
    """A validation worker has checked the opening of a direct conversation."""

    request: OpenDirect
    founded: Founded
    checked: Checked


@value
class KeepsakeChecked:
    """A validation worker has checked a keepsake's signature."""

    request: PutKeepsake
    keepsake: Keepsake


@value
class CommitChecked:
    """A validation worker has checked a commit, in the epoch that `opening` has opened (`Head.group_info`)."""

    request: Commit
    header: Header
    checked: Checked
    opening: bytes


@value
class DepartureChecked:
    """A validation worker has checked that a device may leave, against `group`; `opening` as in `CommitChecked`."""

    request: Leave
    header: Header
    leaf: LeafIndex
    group: PublicGroup
    opening: bytes


Answer = Callable[[SecurechatError | None], None]
"""Gets why something was not done, or None once it is on disk."""


@value
class ChangeSiteKey:
    """Make a new site key. Rooms hear of it by `Speak`."""

    answer: Answer


@value
class Speak:
    """Have the operator say something in a room. `account`: whom it is about; empty: a new site key, or an upgrade to
    the newest rules that this server knows."""

    room: str
    action: Action
    account: str
    answer: Answer


@value
class SpeakReady:
    """A worker has rebuilt the group of the room where the operator wants to say something."""

    operation: Speak
    read: GroupRead


@value
class Survey:
    """Look at the rooms that belong to nobody. `answer` gets what was found."""

    answer: "Callable[[list[OwnerlessRoom]], None]"


@value
class OwnerlessRoom:
    """A room that belongs to nobody: how many people are in it, and who is barred once all has been carried out.

    `version`: of its rules, and `rising`: the one that the operator has let it rise to, 0 if it waits for none;
    `behind`: accounts whose programs do not know that one yet.
    """

    name: str
    people: int
    barred: tuple[str, ...]
    version: int = 0
    rising: int = 0
    behind: tuple[str, ...] = ()


@value
class Surveyed:
    """A worker has looked."""

    operation: Survey
    rooms: list[OwnerlessRoom]


@value
class ListSessions:
    """Look at the sessions that are there."""

    answer: "Callable[[list[SessionSeen]], None]"


@value
class SessionSeen:
    """A session: whose, from where, with a seat or waiting. `unread`: bytes that wait for its reader; `handled`:
    messages of it that were handled since it came."""

    account: str
    device: bytes
    address: str
    seated: bool
    unread: int
    handled: int


@value
class EndSessions:
    """End the sessions of an account, and make its tokens worthless: it comes back with the password alone."""

    account: str
    answer: Answer


@value
class ForgetAccount:
    """Drop what is kept of an account that was deleted, and let nothing wait for it."""

    account: str
    answer: Answer


@value
class DeleteRoom:
    """Delete a room, by its name or the hexadecimal digits of its id, with all that is in it."""

    room: str
    answer: Answer


@value
class Announce:
    """Say something to everybody who is logged in. `answer` gets to how many devices."""

    text: str
    answer: Callable[[int], None]


@value
class Returned:
    """A handshake that was handed back and follows from those before it: a commit, a departure or a statement."""

    handshake: Handshake
    account: str  # of its maker
    device: bytes
    number: int
    commit: Checked | None
    departed: Departed | None
    statement: Statement | None = None


HandBackState = tuple[bytes, frozenset[LeafIndex], tuple[Statement, ...]]
"""What handshakes that are handed back lead on from: the GroupInfo of the epoch, departed leaves, what was revoked."""


@value
class Branch:
    """Another branch of a restored conversation, which goes on in place of the one that the log has (`branches`).

    `group` and `tree`: as they were in the backup. `returned`: all that has led on from there.
    """

    point: BranchPoint
    group: PublicGroup
    tree: bytes
    returned: tuple[Returned, ...]


@value
class HandBackChecked:
    """A validation worker has checked handshakes that are handed back to a conversation in a state.

    `problem`: why it goes no further than `returned`; None: all is well.
    """

    request: HandBack
    state: HandBackState
    returned: tuple[Returned, ...]
    problem: RefusedError | None
    branch: Branch | None = None


@value
class KeyPackagesChecked:
    """A validation worker has checked key packages: they are under the certificate `owner`."""

    request: PublishKeyPackages
    owner: DeviceCertificate


@value
class PublishChecked:
    """A validation worker has checked what an account publishes."""

    request: Publish
    links: tuple[Link, ...]


@value
class BlobArrived:
    """A worker has the last bytes of a blob on disk: they came with this request, or had come before it."""

    request: PutBlob | StartBlob
    file: bytes


@value
class BlobsLost:
    """Bytes are missing of blobs that were whole, or of which they were told to be there."""

    files: tuple[bytes, ...]


@value
class FilesDeleted:
    """A worker has deleted files that nobody needed any more."""

    files: tuple[bytes, ...]


@value
class Rejected:
    """A worker has found fault with a request; `code`: that of the refusal, where it is no fault of the request's."""

    request: Request
    text: str
    code: str = ""
