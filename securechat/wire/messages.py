"""The messages of `securechat/1`: what they are called, what they hold, who sends them when.

docs/design.md, section 4. Each message is a MessagePack array whose first element is the message's name; the fields
follow in the order given here. Unknown fields are refused, so that no two readings of one message exist. Bodies of MLS
objects are opaque `bytes` in their RFC 9420 encoding (`MLSMessage` unless said otherwise).

A *request* carries `id`, chosen by the client, and gets exactly one *reply* with the same `id`: the one named in its
docstring, or `Refused`. Everything else is an *event* and is never answered. Times are milliseconds since 1970 (UTC).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from securechat.wire import limits

U32 = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
Count = Annotated[int, Meta(ge=0, le=limits.MAX_COUNT)]  # a seq or a number
Time = Annotated[int, Meta(ge=0, le=limits.MAX_TIME)]
Account = Annotated[str, Meta(min_length=1, max_length=limits.MAX_ACCOUNT)]
RoomName = Annotated[str, Meta(min_length=2, max_length=limits.MAX_ROOM, pattern="^#")]
Title = Annotated[str, Meta(max_length=limits.MAX_GREETING)]
Topic = Annotated[str, Meta(max_length=limits.MAX_TOPIC)]
Text = Annotated[str, Meta(max_length=1000)]
DeviceId = Annotated[bytes, Meta(min_length=limits.DEVICE_ID_LENGTH, max_length=limits.DEVICE_ID_LENGTH)]
LogId = Annotated[bytes, Meta(min_length=limits.DEVICE_ID_LENGTH, max_length=limits.CONVERSATION_ID_LENGTH)]
ConversationId = Annotated[
    bytes, Meta(min_length=limits.CONVERSATION_ID_LENGTH, max_length=limits.CONVERSATION_ID_LENGTH)
]
Chain = Annotated[bytes, Meta(min_length=limits.CHAIN_LENGTH, max_length=limits.CHAIN_LENGTH)]
Secret = Annotated[bytes, Meta(min_length=limits.SECRET_LENGTH, max_length=limits.SECRET_LENGTH)]
Token = Annotated[bytes, Meta(min_length=limits.TOKEN_LENGTH, max_length=limits.TOKEN_LENGTH)]
CertificateBytes = Annotated[bytes, Meta(max_length=limits.MAX_CERTIFICATE)]
KeyPackageBytes = Annotated[bytes, Meta(max_length=limits.MAX_KEY_PACKAGE)]
Body = Annotated[bytes, Meta(max_length=limits.MAX_FRAME)]
CommitBytes = Annotated[bytes, Meta(max_length=limits.MAX_COMMIT)]
GroupInfoBytes = Annotated[bytes, Meta(max_length=limits.MAX_GROUP_INFO)]
ProposalBytes = Annotated[bytes, Meta(max_length=limits.MAX_PROPOSAL)]
WordBytes = Annotated[bytes, Meta(max_length=limits.MAX_WORD)]
EntryKind = Annotated[int, Meta(ge=1, le=255)]
Payload = Annotated[bytes, Meta(max_length=limits.MAX_PAYLOAD)]

Code = Literal[
    "bad-request",  # understood, but makes no sense here; a bug of the client
    "unknown-message",  # a message type this server does not know
    "not-now",  # not in this state: before login, while waiting, without a device
    "login-refused",  # unknown account or wrong password: the server does not say which
    "token-refused",  # resume token unknown or expired: log in with the password
    "name-taken",  # the account exists and has another password
    "registration-closed",  # by the operator, or the invite code is wrong
    "busy",  # too much work queued: try again in a moment
    "slow-down",  # this address or account does too much: try again later
    "identity-differs",  # the account has another identity key; see `PublishDevice`
    "not-found",  # does not exist, or is not yours: one answer for both, on purpose
    "ownerless",  # the operator names this room: it is open, and whoever makes it does not own it
    "exists",  # the room or direct conversation is there already; `Refused.conversation` is the id of the latter
    "stale-epoch",  # another commit came first: process it, encrypt again
    "commit-first",  # a device has left: commit its removal, then speak
    "leased",  # somebody is just entering this room: try the commit again
    "wrong-number",  # not last + 1, or a used number with other bytes
    "invalid-commit",  # the commit breaks RFC 9420 or the rules of the conversation
    "not-allowed",  # the rules of the conversation forbid it
    "room-full",
    "reader-full",  # direct conversation: the peer has been away too long, and the log is full
    "too-large",
    "disk-full",
]

RETRYABLE: frozenset[Code] = frozenset(("busy", "slow-down", "leased", "disk-full", "reader-full", "not-now"))
"""The same request can be made again, at the earliest after `Refused.retry_after`."""

Reason = Literal["bye", "shutdown", "replaced", "timeout", "protocol-error", "too-slow", "revoked"]


class Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag=True, gc=False):
    """Base of all messages; the tag is the class's name. Printing one shows the sizes of its bytes, never the bytes."""

    def __repr__(self) -> str:
        """Show names and sizes only: secrets, tokens and invite codes travel in these fields."""
        shown = (f"{name}={_describe(name, getattr(self, name))}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(shown)})"


def _describe(name: str, value: object) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if name == "invite" or isinstance(value, list):
        return f"<{len(value)}>"  # type: ignore[arg-type]  # `invite` is a string
    return repr(value)


class Request(Message):
    """A message that gets exactly one reply."""

    id: U32


class Reply(Message):
    """The answer to the request with this `id`."""

    id: U32


# --- both ways ----------------------------------------------------------------------------------------------------


class Ping(Message):
    """Asks for `Pong`."""


class Pong(Message):
    """A sign of life."""


class Closing(Message):
    """The last message of a session: its end was meant. An end of stream without it is a lost connection."""

    reason: Reason
    text: Text = ""


# --- before login -------------------------------------------------------------------------------------------------


class ClientHello(Message):
    """First message of a client: the protocol versions it speaks."""

    versions: Annotated[list[U32], Meta(min_length=1, max_length=16)]
    agent: Annotated[str, Meta(max_length=64)]


class Hello(Message):
    """First message of the server, sent without waiting for the client's.

    `site_key`: goes into the rules of rooms that belong to nobody, for whoever founds one (`policy.rules`).
    """

    versions: Annotated[list[U32], Meta(min_length=1, max_length=16)]
    server_name: Title
    greeting: Title
    server_id: Annotated[bytes, Meta(min_length=limits.SERVER_ID_LENGTH, max_length=limits.SERVER_ID_LENGTH)]
    registration: Literal["open", "closed", "invite"]
    site_key: Annotated[bytes, Meta(min_length=limits.SITE_KEY_LENGTH, max_length=limits.SITE_KEY_LENGTH)]


class Register(Request):
    """Makes an account. Reply: `Registered`. Repeating it with the same secret succeeds."""

    account: Account
    secret: Secret
    invite: Annotated[str, Meta(max_length=64)] = ""


class Login(Request):
    """Logs one device in. Reply: `LoggedIn`. A second session of the device closes the first (`replaced`)."""

    account: Account
    secret: Secret
    device: DeviceId


class Resume(Request):
    """Logs in again with the token of an earlier `LoggedIn` of this device. Reply: `LoggedIn`."""

    token: Token
    device: DeviceId


class Registered(Reply):
    """The account is on disk."""

    account: Account


class LoggedIn(Reply):
    """`place` 0: seated. Otherwise the server is full and this is the place in the queue; `Seat` tells each change.

    `identity_key` is the account's identity key as the server has it (32 bytes, empty before the first
    `PublishDevice`); `published` says whether this device is in its directory; `key_packages` counts the unused ones.
    """

    account: Account
    token: Token
    token_expires: Time
    place: U32
    identity_key: Annotated[bytes, Meta(max_length=32)]
    published: bool
    key_packages: U32


class Seat(Message):
    """The place in the queue for a seat changed; 0: come in."""

    place: U32


# --- keys ---------------------------------------------------------------------------------------------------------


class PublishDevice(Request):
    """Puts the session's device into the directory. Reply: `Done`.

    `certificate` is a device certificate (`identity.certificate`) of this account and device. The first one fixes the
    account's identity key; another key is refused (`identity-differs`) unless `replace_identity`, which drops the
    account's other devices from the directory.
    """

    certificate: CertificateBytes
    replace_identity: bool


class PublishKeyPackages(Request):
    """Adds key packages of the session's device; `last_resort`, if not empty, replaces the old one. Reply: `Stock`."""

    key_packages: Annotated[list[KeyPackageBytes], Meta(max_length=limits.MAX_KEY_PACKAGES)]
    last_resort: KeyPackageBytes


class Stock(Reply):
    """How many unused key packages of the device the server now holds."""

    key_packages: U32


class FetchKeyPackages(Request):
    """Takes one key package of each device of an account. Reply: `KeyPackages`."""

    account: Account


class KeyPackages(Reply):
    """One key package per device; each is handed out once, except last-resort ones."""

    account: Account
    key_packages: Annotated[list[KeyPackageBytes], Meta(max_length=64)]


class Done(Reply):
    """It is done, and on disk where the request changed anything."""


# --- conversations ------------------------------------------------------------------------------------------------


class OpenDirect(Request):
    """Opens the direct conversation with `peer`. Reply: `Accepted` (seq 1), or `Refused` `exists` with its id.

    `founding` is the GroupInfo of epoch 0 with its tree: one leaf, the session's device. `commit` adds the peer's
    devices (number 1), `welcome` and `group_info` belong to it as in `Commit`.
    """

    conversation: ConversationId
    peer: Account
    founding: Body
    commit: CommitBytes
    welcome: Body
    group_info: GroupInfoBytes


class OpenRoom(Request):
    """Opens a room under the name in the group's rules. Reply: `Done`, or `Refused` `exists`.

    `founding` as in `OpenDirect`. The log is empty; the room can be entered with `group_info` (epoch 0).
    """

    conversation: ConversationId
    founding: Body
    group_info: GroupInfoBytes


class Join(Request):
    """Asks for what an external commit into an open room needs. Reply: `JoinOffer`, as soon as it is our turn."""

    room: RoomName


class Resync(Request):
    """The same for an external commit that replaces the leaf of one's own device. Reply: `JoinOffer`."""

    conversation: ConversationId


class Departure(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """Proof that a device has left: its own signed Remove proposal, and the GroupContext it was signed under."""

    proposal: ProposalBytes
    group_context: GroupInfoBytes


class JoinOffer(Reply):
    """The newest GroupInfo and tree, with a lease: for two seconds nobody else's commit is accepted here.

    `number` is the last one the device used in this conversation. `departures`: devices that have left but are
    still in the tree (docs/design.md, section 6, Leaving). `words`: what the operator has said and nobody has carried
    out, as in the log (`policy.Word`).
    """

    conversation: ConversationId
    number: Count
    group_info: GroupInfoBytes
    tree: Body
    departures: Annotated[list[Departure], Meta(max_length=limits.MAX_ROOM_DEVICES)]
    words: Annotated[list[WordBytes], Meta(max_length=limits.MAX_WORDS)] = []


class Submit(Request):
    """Appends an application message (PrivateMessage). Reply: `Accepted`."""

    conversation: ConversationId
    number: Count
    payload: Payload


class Commit(Request):
    """Appends a commit (PublicMessage), delivers `welcome` to each device it adds. Reply: `Accepted`.

    `welcome` is empty where nobody is added; `group_info` is of the new epoch, without the tree. An external commit
    makes the device a member; then `Accepted.chain` is set.
    """

    conversation: ConversationId
    number: Count
    commit: CommitBytes
    welcome: Body
    group_info: GroupInfoBytes


class Leave(Request):
    """Appends the device's Remove proposal of its own leaf (PublicMessage). Delivery to it ends with `Accepted`."""

    conversation: ConversationId
    number: Count
    proposal: ProposalBytes


class Handshake(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A commit with its GroupInfo, or a departure, as its entry had them."""

    payload: CommitBytes
    group_info: GroupInfoBytes


class HandBack(Request):
    """Gives a restored server commits and departures that it has lost. Reply: `Done`.

    They follow each other from the log's present epoch on; those that the log has again by now are passed over.
    """

    conversation: ConversationId
    handshakes: Annotated[list[Handshake], Meta(max_length=limits.MAX_HANDED_BACK)]


class FetchCheckpoints(Request):
    """Asks for states from which a device that was away too long may go on. Reply: `Checkpoints`.

    For members, and those who were one until an entry that they have not acknowledged. One at a time.
    """

    conversation: ConversationId


class Checkpoint(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """The state after the commit at `seq`, which an owner, or one of a direct conversation's two, has made.

    `group_info` is that of the commit's entry, `tree` and `departures` as in `JoinOffer`; `chain` is chain_seq.
    """

    seq: Count
    time: Time
    chain: Chain
    group_info: GroupInfoBytes
    tree: Body
    departures: Annotated[list[Departure], Meta(max_length=limits.MAX_ROOM_DEVICES)]


class Checkpoints(Reply):
    """The newest checkpoint of each of up to four accounts, the newest first; as many as fit into a frame."""

    conversation: ConversationId
    checkpoints: Annotated[list[Checkpoint], Meta(max_length=limits.MAX_CHECKPOINTS)]


class CommitFailed(Request):
    """Says that the device cannot process the commit at `seq`. Reply: `Done`."""

    conversation: ConversationId
    seq: Count


class Accepted(Reply):
    """The entry is on disk. In the sender's stream of live entries it takes the place of the entry itself.

    `chain` is chain_seq where this entry made the device a member (first commit or external join), else empty.
    """

    conversation: ConversationId
    number: Count
    seq: Count
    time: Time
    chain: Annotated[bytes, Meta(max_length=limits.CHAIN_LENGTH)]


class ListRooms(Request):
    """Reply: `Rooms`."""


class Room(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A room one could enter, or is in."""

    name: RoomName
    kind: Literal["open", "invite"]
    members: U32
    joined: bool
    topic: Topic


class Rooms(Reply):
    """Open rooms, and the invite rooms of the asking device."""

    rooms: Annotated[list[Room], Meta(max_length=10_000)]


class Members(Request):
    """Who is in a conversation. Reply: `MemberList`."""

    conversation: ConversationId


class Member(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """One account of a conversation, by its device there; `published`: the directory has that device."""

    account: Account
    online: bool
    published: bool


class MemberList(Reply):
    """The server's word; the tree says who can read."""

    conversation: ConversationId
    members: Annotated[list[Member], Meta(max_length=limits.MAX_ROOM_DEVICES)]


# --- reading ------------------------------------------------------------------------------------------------------


class Subscribe(Request):
    """Reads a log from `after_seq` on, gap-free into live delivery. Reply: `Subscribed`, then `Entry` events.

    Conversation logs have 32-byte ids. The device's own 16-byte id names its inbox, whose entries come as `Welcomed`.
    """

    conversation: LogId
    after_seq: Count


class Gone(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A member's device that is not in the directory any more: it will not get what is said.

    `certificate`: of the newest device that its account has there in its place; empty where there is none.
    """

    device: DeviceId
    certificate: CertificateBytes


GoneDevices = Annotated[list[Gone], Meta(max_length=limits.MAX_TOLD)]


class Subscribed(Reply):
    """`last` is the newest number of this device, `head` the newest seq: entries up to it are catch-up.

    `epoch`: the conversation's at `head`. Who is in a later one knows of commits that the server has lost. None: of an
    inbox, and for a device that has departed or was removed. `gone`: see `DirectoryNews`.
    """

    conversation: LogId
    last: Count
    head: Count
    epoch: Count | None
    gone: GoneDevices


class Entry(Message):
    """One entry of a conversation's log.

    `kind`: 1 for an MLS message (`chain.MLS_MESSAGE`); a client does not follow a log past a kind that it does not
    know. `group_info` is what came with a commit, and empty for everything else.
    """

    conversation: ConversationId
    seq: Count
    time: Time
    device: DeviceId
    kind: EntryKind
    payload: CommitBytes
    group_info: GroupInfoBytes


class Welcomed(Message):
    """An inbox entry: the commit at `join_seq` added the device to a conversation; `chain` is chain_join_seq.

    `welcome` is the MLSMessage, `tree` the `optional<Node> ratchet_tree<V>` of that epoch.
    """

    seq: Count
    time: Time
    conversation: ConversationId
    join_seq: Count
    chain: Chain
    welcome: Body
    tree: Body
    departures: Annotated[list[Departure], Meta(max_length=limits.MAX_ROOM_DEVICES)]


class Truncated(Message):
    """Messages before `first_seq` are gone: the reader was away too long. Its user must see the gap.

    As `Entry` events follow the handshakes before `first_seq` that are left, then everything from there on. `chain` is
    chain_{first_seq-1}, provisional until a member's message confirms it. Said once more, with an empty `chain`, where
    the handshakes that were left have come. Of an inbox it says that nothing is left in it, and `chain` is empty.
    """

    conversation: LogId
    first_seq: Count
    chain: Annotated[bytes, Meta(max_length=limits.CHAIN_LENGTH)]


class Acknowledge(Message):
    """The device has everything up to `seq` on its own disk. Cumulative; also for its inbox."""

    conversation: LogId
    seq: Count


class Presence(Message):
    """Someone who shares the conversation came online, went away, or lost the connection."""

    conversation: ConversationId
    account: Account
    state: Literal["online", "offline", "dropped"]


class DirectoryNews(Message):
    """A member's device has been dropped from the directory, or is back.

    `gone`: all of the conversation's devices that are not there now. Of one with more than `limits.MAX_TOLD` members
    nothing is said; clients ask (`Members`).
    """

    conversation: ConversationId
    gone: GoneDevices


class Refused(Reply):
    """The request was understood and not done.

    `retry_after`: ms that have to pass before the same request can succeed, where the server knows; else 0.
    """

    code: Code
    text: Text
    conversation: Annotated[bytes, Meta(max_length=limits.CONVERSATION_ID_LENGTH)] = b""
    retry_after: Annotated[int, Meta(ge=0, le=limits.MAX_RETRY_AFTER)] = 0


FromClient = (
    ClientHello | Register | Login | Resume | PublishDevice | PublishKeyPackages | FetchKeyPackages
    | OpenDirect | OpenRoom | Join | Resync | Submit | Commit | Leave | HandBack | FetchCheckpoints | CommitFailed
    | ListRooms | Members | Subscribe | Acknowledge | Ping | Pong | Closing
)  # fmt: skip

FromServer = (
    Hello | Registered | LoggedIn | Seat | Stock | KeyPackages | Done | JoinOffer | Accepted | Checkpoints | Rooms
    | MemberList | Subscribed | Entry | Welcomed | Truncated | Presence | DirectoryNews | Refused | Ping | Pong
    | Closing
)  # fmt: skip
