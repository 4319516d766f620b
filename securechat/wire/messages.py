"""The messages of `securechat/1`: what they are called, what they hold, who sends them when.

docs/design.md, section 4. Each message is a MessagePack array whose first element is the message's name; the fields
follow in the order given here. Unknown fields are refused, so that no two readings of one message exist. Bodies of MLS
objects are opaque `bytes` in their RFC 9420 encoding (`MLSMessage` unless said otherwise).

What one client sends and another receives has one type in both messages, and the largest message that the server can
make of such parts fits into a frame: what is accepted, every receiver can take (`tests/wire/test_bounds.py`).

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
FormerSecret = Annotated[bytes, Meta(max_length=limits.SECRET_LENGTH)]  # may be empty
KeyBytes = Annotated[bytes, Meta(max_length=limits.IDENTITY_KEY_LENGTH)]  # of an account; may be empty
Token = Annotated[bytes, Meta(min_length=limits.TOKEN_LENGTH, max_length=limits.TOKEN_LENGTH)]
Nonce = Annotated[bytes, Meta(min_length=limits.NONCE_LENGTH, max_length=limits.NONCE_LENGTH)]
Proof = Annotated[bytes, Meta(min_length=limits.PROOF_LENGTH, max_length=limits.PROOF_LENGTH)]
CertificateBytes = Annotated[bytes, Meta(max_length=limits.MAX_CERTIFICATE)]
Reference = Annotated[bytes, Meta(min_length=limits.REFERENCE_LENGTH, max_length=limits.REFERENCE_LENGTH)]
LinkBytes = Annotated[bytes, Meta(max_length=limits.MAX_LINK)]
KeepsakeBytes = Annotated[bytes, Meta(max_length=limits.MAX_KEEPSAKE_ENCODED)]
KeyPackageBytes = Annotated[bytes, Meta(max_length=limits.MAX_KEY_PACKAGE)]
FoundingBytes = Annotated[bytes, Meta(max_length=limits.MAX_FOUNDING)]
WelcomeBytes = Annotated[bytes, Meta(max_length=limits.MAX_WELCOME)]
TreeBytes = Annotated[bytes, Meta(max_length=limits.MAX_TREE)]
CommitBytes = Annotated[bytes, Meta(max_length=limits.MAX_COMMIT)]
GroupInfoBytes = Annotated[bytes, Meta(max_length=limits.MAX_GROUP_INFO)]
ProposalBytes = Annotated[bytes, Meta(max_length=limits.MAX_PROPOSAL)]
StatementBytes = Annotated[bytes, Meta(max_length=limits.MAX_STATEMENT)]
WordBytes = Annotated[bytes, Meta(max_length=limits.MAX_WORD)]
EntryKind = Annotated[int, Meta(ge=1, le=255)]
EphemeralBytes = Annotated[bytes, Meta(max_length=limits.MAX_EPHEMERAL)]
BlobId = Annotated[bytes, Meta(min_length=limits.BLOB_ID_LENGTH, max_length=limits.BLOB_ID_LENGTH)]
BlobSize = Annotated[int, Meta(ge=limits.MIN_BLOB, le=limits.MAX_BLOB)]
BlobOffset = Annotated[int, Meta(ge=0, le=limits.MAX_BLOB)]
BlobPart = Annotated[bytes, Meta(min_length=1, max_length=limits.MAX_BLOB_PART)]
Payload = Annotated[bytes, Meta(max_length=limits.MAX_PAYLOAD)]

Code = Literal[
    "bad-request",  # understood, but makes no sense here; a bug of the client
    "unknown-message",  # a message type this server does not know
    "not-now",  # not in this state: before login, while waiting, without a device
    "login-refused",  # unknown account or wrong password: the server does not say which
    "token-refused",  # resume token unknown, expired, or not this device's by its proof: log in with the password
    "name-taken",  # the account exists and has another password
    "registration-closed",  # by the operator, or the invite code is wrong
    "busy",  # too much work queued: try again in a moment
    "slow-down",  # this address or account does too much: try again later
    "identity-differs",  # the account has another identity key; see `Publish`
    "old-certificate",  # a certificate is not the one that its device has published: fetch or make it again
    "chain-moved",  # this is not the next that the identity key signs; see `Publish`
    "not-found",  # does not exist, or is not yours: one answer for both, on purpose
    "gone",  # of a blob: it has expired, was dropped, or never was whole, or is from after the device's time here
    "away",  # of whoever is to be added: their key packages have expired; ask again when they may be back
    "inbox-full",  # of whoever is to be added: too much waits there unread, of you or of all; ask again later
    "ownerless",  # the operator names this room: it is open, and whoever makes it does not own it
    "exists",  # the room or direct conversation is there already; `Refused.conversation` is the id of the latter
    "stale-epoch",  # another commit came first: process it, encrypt again
    "commit-first",  # a device has left: commit its removal, then speak
    "leased",  # somebody is just entering this room: try the commit again
    "wrong-number",  # not last + 1, or a used number with other bytes; a keepsake's is not higher; a part's is not next
    "invalid-commit",  # the commit breaks RFC 9420 or the rules of the conversation
    "not-allowed",  # the rules of the conversation forbid it
    "room-full",
    "reader-full",  # direct conversation: the peer has been away too long, and the log is full
    "too-large",
    "quota",  # the account has as much on the server's disk as it may: some of it has to be read first
    "disk-full",  # of the server: its operator has to make room
]

RETRYABLE: frozenset[Code] = frozenset(("busy", "slow-down", "leased", "disk-full", "quota", "reader-full", "not-now"))
"""The same request can be made again, at the earliest after `Refused.retry_after`."""

Reason = Literal["bye", "shutdown", "replaced", "timeout", "protocol-error", "too-slow", "revoked", "logged-out"]


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

    `site_key`: goes into the rules of rooms that belong to nobody, for whoever founds one (`policy.rules`). `nonce`:
    drawn for this connection; a device that resumes signs it. `time`: the server's clock, in ms since 1970. Nobody goes
    by it, but who signs by a clock that differs much would sign what no server takes.
    """

    versions: Annotated[list[U32], Meta(min_length=1, max_length=16)]
    server_name: Title
    greeting: Title
    server_id: Annotated[bytes, Meta(min_length=limits.SERVER_ID_LENGTH, max_length=limits.SERVER_ID_LENGTH)]
    registration: Literal["open", "closed", "invite"]
    site_key: Annotated[bytes, Meta(min_length=limits.SITE_KEY_LENGTH, max_length=limits.SITE_KEY_LENGTH)]
    nonce: Nonce
    time: Time


class Register(Request):
    """Makes an account. Reply: `Registered`. Repeating it with the same secret succeeds."""

    account: Account
    secret: Secret
    invite: Annotated[str, Meta(max_length=64)] = ""


class Login(Request):
    """Logs one device in. Reply: `LoggedIn`. A second session of the device closes the first (`replaced`).

    `former`: the secret of a CA that signed for the server before; `secret` takes its place if that is the account's.
    """

    account: Account
    secret: Secret
    device: DeviceId
    former: FormerSecret = b""


class Resume(Request):
    """Logs in again with the token of an earlier `LoggedIn` of this device. Reply: `LoggedIn`.

    `proof`: made with the key that the directory has of the device (`wire.possession`).
    """

    token: Token
    device: DeviceId
    proof: Proof


class ExtendToken(Request):
    """Has the token of the session's device last as long again as a new one. Reply: `TokenExtended`.

    Refused (`token-refused`) once it has expired, and while the device's certificate has: then it takes the password.
    """


class TokenExtended(Reply):
    """When the token ends now, in ms since 1970."""

    expires: Time


class ChangePassword(Request):
    """Puts another secret in the place of the account's. Reply: `PasswordChanged`. The same again succeeds.

    `secret`: the one that it has, also where the session began with the password. Other sessions end (`logged-out`).
    """

    secret: Secret
    new: Secret


class PasswordChanged(Reply):
    """It is on disk, and no token of before is good any more: this is the device's new one, which ends at `expires`.

    `secret_set` as in `LoggedIn`.
    """

    token: Token
    expires: Time
    secret_set: Time


class DeleteAccount(Request):
    """Deletes the account; its name stays taken. Reply: `Done`, and then its sessions end (`logged-out`).

    `secret`: the account's, also where the session began with the password.
    """

    secret: Secret


class FetchSessions(Request):
    """Asks from where the account is logged in, and which devices can come back without the password: `SessionList`."""


class SessionInfo(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """One device. `online`: it has a session, from `address` (empty: the server does not say), else that is empty.

    `used`: when it last came in, and `expires`: when its token ends; ms since 1970, 0: not known, there is none.
    """

    device: DeviceId
    online: bool
    address: Annotated[str, Meta(max_length=limits.MAX_ADDRESS)]
    used: Time
    expires: Time


class SessionList(Reply):
    """Those that are online first, and of each kind the one that came in last."""

    sessions: Annotated[list[SessionInfo], Meta(max_length=limits.MAX_SESSIONS_LISTED)]


class EndSession(Request):
    """Drops the token of a device of the account, and ends its session if it is another one's than this. Reply: `Done`.

    Whoever wants in with that device needs the password.
    """

    device: DeviceId


class Registered(Reply):
    """The account is on disk."""

    account: Account


class LoggedIn(Reply):
    """`place` 0: seated. Otherwise the server is full and this is the place in the queue; `Seat` tells each change.

    `identity_key` is the account's identity key as the server has it (32 bytes, empty before the first `Publish`), and
    `chain_seq` and `chain_digest` are the head of its chain (`identity.statements.Head`). `certificate` is the one by
    which this device is in the directory, empty: it is not. `secret_set`: when the account's secret took the place of
    another one; 0: never, as far as the server knows.
    """

    account: Account
    token: Token
    token_expires: Time
    place: U32
    identity_key: KeyBytes
    chain_seq: Count
    chain_digest: Chain
    certificate: CertificateBytes
    secret_set: Time


class SecretReplaced(Message):
    """Another login of this account has put another secret in place of the one before, at this `time`."""

    time: Time


class Seat(Message):
    """The place in the queue for a seat changed; 0: come in."""

    place: U32


# --- keys ---------------------------------------------------------------------------------------------------------


class Publish(Request):
    """Extends the chain of what an identity key has signed about the account. Reply: `Published`.

    `links`: device certificates and statements (`identity.statements`) that follow each other from the chain's head on;
    else they are refused (`chain-moved`). The same ones again are answered as they were. The account's first one fixes
    its identity key. Another key is refused (`identity-differs`), unless the old one's chain names it in a `succeed`,
    or its own one the old key in a `restart`, for which the session must have begun with the password. With a
    certificate of the session's device come its new key packages, in the place of those of the one before.
    """

    links: Annotated[list[LinkBytes], Meta(max_length=limits.MAX_LINKS)]
    key_packages: Annotated[list[KeyPackageBytes], Meta(max_length=limits.MAX_KEY_PACKAGES)]
    last_resort: KeyPackageBytes


class Published(Reply):
    """It is on disk. `enrolled`: the session's device is in the directory."""

    enrolled: bool


class FetchStatements(Request):
    """Asks for what an identity key has signed about its account, after a `seq`. Reply: `Statements`.

    `identity_key`: empty for the one that the account has now.
    """

    account: Account
    identity_key: KeyBytes
    after_seq: Count


class Statements(Reply):
    """Links of one chain that follow each other; `more`: there are more than fitted. None: there is no such chain."""

    account: Account
    identity_key: KeyBytes
    links: Annotated[list[LinkBytes], Meta(max_length=limits.MAX_LINKS_FETCHED)]
    more: bool


class PutKeepsake(Request):
    """Leaves what the account wants to find again when its devices are gone (`identity.keepsake`). Reply: `Done`.

    It takes the place of the one before, which has a lower number (else `wrong-number`), or is the same. It is signed
    by the account's present identity key (else `identity-differs`).
    """

    keepsake: KeepsakeBytes


class FetchKeepsake(Request):
    """Asks for the account's own keepsake. Reply: `StoredKeepsake`."""


class StoredKeepsake(Reply):
    """The newest keepsake that was left; empty: there is none."""

    keepsake: KeepsakeBytes


class PublishKeyPackages(Request):
    """Adds key packages of the session's device, or asks which are left, where there are none. Reply: `Stock`.

    `last_resort`: if not empty, the whole stock takes the place of the one before.
    """

    key_packages: Annotated[list[KeyPackageBytes], Meta(max_length=limits.MAX_KEY_PACKAGES)]
    last_resort: KeyPackageBytes


class Stock(Reply):
    """The device's key packages that the server holds, by their references (RFC 9420, section 5.2).

    The last-resort one is the last. None is there once they have expired.
    """

    references: Annotated[list[Reference], Meta(max_length=limits.MAX_KEY_PACKAGES + 1)]


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
    devices (number 1), `welcome` and `group_info` belong to it as in `Commit`. `instead_of`: empty, or the direct
    conversation that the two have, if the session's device is in it and cannot follow the branch that the log has: it
    ends there for that device (docs/design.md, section 6, Following).
    """

    conversation: ConversationId
    peer: Account
    founding: FoundingBytes
    commit: CommitBytes
    welcome: WelcomeBytes
    group_info: GroupInfoBytes
    instead_of: Annotated[bytes, Meta(max_length=limits.CONVERSATION_ID_LENGTH)] = b""


class OpenRoom(Request):
    """Opens a room under the name in the group's rules. Reply: `Done`, or `Refused` `exists`.

    `founding` as in `OpenDirect`. The log is empty; the room can be entered with `group_info` (epoch 0).
    """

    conversation: ConversationId
    founding: FoundingBytes
    group_info: GroupInfoBytes


class Join(Request):
    """Asks for what an external commit into an open room needs. Reply: `JoinOffer`, as soon as it is our turn."""

    room: RoomName


class Resync(Request):
    """The same for an external commit that replaces the leaf of one's own device. Reply: `JoinOffer`."""

    conversation: ConversationId


class Departure(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """Proof that a device has left: its own signed Remove proposal, and the state of the epoch that it was signed in.

    `state`: tree hash and confirmed transcript hash; the rest is as in the GroupContext of now.
    """

    proposal: ProposalBytes
    state: Annotated[bytes, Meta(min_length=limits.EPOCH_STATE_LENGTH, max_length=limits.EPOCH_STATE_LENGTH)]


class JoinOffer(Reply):
    """The newest GroupInfo and tree, with a lease: for two seconds nobody else's commit is accepted here.

    `number` is the last one the device used in this conversation. `departures`: devices that have left but are
    still in the tree (docs/design.md, section 6, Leaving). `words`: what the operator has said and nobody has carried
    out, as in the log (`policy.Word`). `revocations`: statements by which a leaf of the tree is revoked.
    """

    conversation: ConversationId
    number: Count
    group_info: GroupInfoBytes
    tree: TreeBytes
    departures: Annotated[list[Departure], Meta(max_length=limits.MAX_ROOM_DEVICES)]
    words: Annotated[list[WordBytes], Meta(max_length=limits.MAX_WORDS)] = []
    revocations: Annotated[list[StatementBytes], Meta(max_length=limits.MAX_REVOCATIONS)] = []


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
    welcome: WelcomeBytes
    group_info: GroupInfoBytes


class Leave(Request):
    """Appends the device's Remove proposal of its own leaf (PublicMessage). Delivery to it ends with `Accepted`."""

    conversation: ConversationId
    number: Count
    proposal: ProposalBytes


class Handshake(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A commit with its GroupInfo, a departure or a statement, as its entry had them."""

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

    `group_info` is that of the commit's entry, `tree`, `departures` and `revocations` as in `JoinOffer`; `chain` is
    chain_seq.
    """

    seq: Count
    time: Time
    chain: Chain
    group_info: GroupInfoBytes
    tree: TreeBytes
    departures: Annotated[list[Departure], Meta(max_length=limits.MAX_ROOM_DEVICES)]
    revocations: Annotated[list[StatementBytes], Meta(max_length=limits.MAX_REVOCATIONS)]


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


# --- blobs ----------------------------------------------------------------------------------------------------------


class StartBlob(Request):
    """Begins to upload a blob for a conversation's members, or goes on with it. Reply: `BlobState`.

    `blob`: drawn by the client. `size`: bytes in all (`wire.blobs.blob_length`), the same each time. It is said again
    on each connection, and after a part was refused.
    """

    conversation: ConversationId
    blob: BlobId
    size: BlobSize


class PutBlob(Request):
    """The next bytes of a blob that this session has started. Reply: `BlobState`, once they are on disk.

    `offset`: where those before it end; otherwise they are refused (`wrong-number`), but that the same again succeeds.
    """

    conversation: ConversationId
    blob: BlobId
    offset: BlobOffset
    data: BlobPart


class BlobState(Reply):
    """`offset` bytes of the blob are on disk, from its beginning; all of them: it is whole, and can be fetched.

    `expires`: when the server deletes it, in ms since 1970; of one that is not whole: unless it goes on before.
    """

    offset: BlobOffset
    expires: Time


class FetchBlob(Request):
    """Asks for a part of a blob that is whole. Reply: `BlobBytes`.

    For those who may read what came into the conversation's log once the blob was whole: members, and who was one then.
    """

    conversation: ConversationId
    blob: BlobId
    offset: BlobOffset
    length: Annotated[int, Meta(ge=1, le=limits.MAX_BLOB_PART)]


class BlobBytes(Reply):
    """As many bytes as were asked for, fewer at the blob's end. `size`: bytes of the blob in all."""

    size: BlobSize
    data: BlobPart


class DropBlob(Request):
    """Deletes a blob that the account has uploaded. Reply: `Done`, also where it is gone already."""

    conversation: ConversationId
    blob: BlobId


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

    rooms: Annotated[list[Room], Meta(max_length=limits.MAX_LISTED_ROOMS)]


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
    inbox, and for a device that has departed or was removed. `gone`: see `DirectoryNews`. `restored`: the epoch in
    which the conversation was when the server was restored from a backup: what was handed back, or went on, has led on
    from there. 0: it was not, or that is long ago.
    """

    conversation: LogId
    last: Count
    head: Count
    epoch: Count | None
    gone: GoneDevices
    restored: Count = 0


class Entry(Message):
    """One entry of a conversation's log.

    `kind`: 1 for an MLS message; `wire.chain` has the others. A client does not follow a log past a kind that it does
    not know. `group_info` is what came with a commit, and empty for everything else.
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

    `welcome` is the MLSMessage, `tree` the `optional<Node> ratchet_tree<V>` of that epoch; `departures` as in
    `JoinOffer`, `revocations` those that wait because the rules name a key that is over.
    """

    seq: Count
    time: Time
    conversation: ConversationId
    join_seq: Count
    chain: Chain
    welcome: WelcomeBytes
    tree: TreeBytes
    departures: Annotated[list[Departure], Meta(max_length=limits.MAX_ROOM_DEVICES)]
    revocations: Annotated[list[StatementBytes], Meta(max_length=limits.MAX_NAMED_REVOCATIONS)] = []


class Truncated(Message):
    """Messages before `first_seq` are gone: the reader was away too long. Its user must see the gap.

    As `Entry` events follow the handshakes before `first_seq` that are left, then everything from there on. `chain` is
    chain_{first_seq-1}, provisional until a member's message confirms it. Said once more, with an empty `chain`, where
    the handshakes that were left have come. Of an inbox it says what is not in it any more, and `chain` is empty.
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


class Ephemeral(Message):
    """Something encrypted for those who are in a conversation and there now, such as that somebody types.

    The server forwards it once to the other members who are online, and keeps nothing. It may drop it: where there are
    many members, where a sender sends too much, and where a reader is slow. Nobody is told.
    """

    conversation: ConversationId
    payload: EphemeralBytes


class DirectoryNews(Message):
    """A member's device has been dropped from the directory, or is back.

    `gone`: all of the conversation's devices that are not there now. Of one with more than `limits.MAX_TOLD` members
    nothing is said; clients ask (`Members`).
    """

    conversation: ConversationId
    gone: GoneDevices


class Notice(Message):
    """The server's operator says something to everybody who is logged in, or to the members of a room.

    It is the server's word and nobody else's. Clients show it as that, and do nothing about it.
    """

    text: Annotated[str, Meta(max_length=limits.MAX_NOTICE)]


class Refused(Reply):
    """The request was understood and not done.

    `retry_after`: ms that have to pass before the same request can succeed, where the server knows; else 0.
    """

    code: Code
    text: Text
    conversation: Annotated[bytes, Meta(max_length=limits.CONVERSATION_ID_LENGTH)] = b""
    retry_after: Annotated[int, Meta(ge=0, le=limits.MAX_RETRY_AFTER)] = 0


FromClient = (
    ClientHello | Register | Login | Resume | ExtendToken | ChangePassword | DeleteAccount | FetchSessions | EndSession
    | Publish
    | PublishKeyPackages | FetchStatements | FetchKeyPackages | PutKeepsake | FetchKeepsake | OpenDirect | OpenRoom
    | Join | Resync | Submit | Commit | Leave | HandBack | FetchCheckpoints | CommitFailed | ListRooms | Members
    | StartBlob | PutBlob | FetchBlob | DropBlob | Subscribe | Acknowledge | Ephemeral | Ping | Pong | Closing
)  # fmt: skip

FromServer = (
    Hello | Registered | LoggedIn | TokenExtended | PasswordChanged | SessionList | Seat | SecretReplaced | Published
    | Stock | Statements | StoredKeepsake | KeyPackages | Done | JoinOffer | Accepted | Checkpoints | Rooms | MemberList
    | BlobState | BlobBytes | Subscribed | Entry | Welcomed | Truncated | Presence | Ephemeral | DirectoryNews | Notice
    | Refused | Ping | Pong | Closing
)  # fmt: skip
