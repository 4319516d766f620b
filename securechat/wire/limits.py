"""The limits of the protocol, each with its unit and its reason. Both sides enforce them; the smaller one wins."""

PROTOCOL_VERSION = 1
ALPN = "securechat/1"

MAX_COUNT = (1 << 53) - 1
"""The largest seq, number or epoch. Every language reads it exactly, SQLite holds it and what is added to it, and no
honest conversation comes near: a million entries a second for 285 years."""

COMMIT_DATA_LENGTH = 16
"""Bytes of a commit's authenticated data: its number, and when it was made by its maker's clock (ms); each `uint64`."""

MAX_TIME = 253_370_764_800_000
"""Milliseconds since 1970, the end of 9998: what is later cannot be shown in every zone."""

MAX_FRAME = 2 << 20
"""Bytes of one message. The largest honest one adds 999 devices at once: commit, Welcome and tree, about 1 MB."""

MAX_FRAME_BEFORE_LOGIN = 4096
"""Bytes. Nothing before login is larger than names, a 32-byte secret and a token, or a text of 1,000 characters."""

FRAME_OVERHEAD = 1024
"""Bytes of a frame that are not for what a message carries: its name, ids, counts and lengths."""

MAX_GROUP_INFO = 20 << 10
"""Bytes of a GroupInfo without its tree: the rules have at most 16 KiB, all else takes about 300 bytes."""

MAX_COMMIT = MAX_FRAME - MAX_GROUP_INFO - FRAME_OVERHEAD
"""Bytes of a commit: with its GroupInfo and the rest of its entry it has to fit into a frame."""

MAX_WELCOME = 256 << 10
"""Bytes of a Welcome: 999 new members take 152 KB, beside a GroupInfo."""

MAX_TREE = 1200 << 10
"""Bytes of a conversation's tree: 1,000 of the largest leaves and all that can be above them take 1.14 MB."""

MAX_CHECKPOINTS = 4
"""Checkpoints of one conversation, each the newest of its account: with 1,000 devices their trees fill a frame."""

MAX_HANDED_BACK = 64
"""Handshakes in one request that hands them back: they are checked in less than a second."""

MAX_PROPOSAL = 256
"""Bytes of a departure, which takes about 200: with 1,000 of them an offer has to fit into a frame."""

EPOCH_STATE_LENGTH = 64
"""Bytes of what a departure's proof says of its epoch: two hashes of 32."""

MAX_STATEMENT = 400
"""Bytes of a statement: the longest takes 389. With those of all leaves an offer has to fit into a frame."""

MAX_PAYLOAD = 128 << 10
"""Bytes of one application entry (an MLS PrivateMessage): a long text with room to spare."""

BLOB_ID_LENGTH = 16
"""Bytes. A blob's id is drawn at random by the client that uploads it, anew for each."""

MIN_BLOB = 4144
"""Bytes of a blob, at least: the smallest file, padded to a block of a disk (`blobs.blob_length`)."""

MAX_BLOB = 1 << 41
"""Bytes of a blob, whatever its server takes: a file of a tebibyte, padded and encrypted, has fewer."""

MAX_BLOB_PART = 32 + 4 * ((64 << 10) + 16)
"""Bytes of a blob in one message: its commitment, and four of its chunks (`blobs`). A small part costs both sides as
much work as a large one; how much somebody waits for on a slow connection is for the client, which may ask for less."""

BLOB_WINDOW = 8
"""Parts of blobs that one session may be sending, and as many that it may have asked for: two megabytes each."""

MAX_EPHEMERAL = 1024
"""Bytes of something that is forwarded once: the offer of a direct link, with its certificate, takes about 540."""

MAX_EPHEMERAL_MEMBERS = 30
"""Members of a conversation up to which such things are forwarded: each goes to all others."""

MAX_ACCOUNT = 32
"""Characters of a user name (RFC 8265 leaves the maximum to the application)."""

MAX_ROOM = 32
"""Characters of a room's name, `#` included."""

MAX_TOPIC = 200
"""Characters of a room's topic: a line or two, not a page."""

MAX_NOTICE = 1000
"""Characters of what the operator says to everybody: a paragraph."""

MAX_GREETING = 400
"""Characters of the server's name or greeting: a paragraph, not a page."""

SECRET_LENGTH = 32
"""Bytes of the login secret derived from the password."""

TOKEN_LENGTH = 32
"""Bytes of a resume token."""

NONCE_LENGTH = 32
"""Bytes of `Hello.nonce`: no two connections of all servers have the same."""

PROOF_LENGTH = 64
"""Bytes of a proof that a device holds its key: an Ed25519 signature."""

SERVER_ID_LENGTH = 16
SITE_KEY_LENGTH = 32
MAX_WORDS = 64
"""Words of the operator that wait in one room: the next member who speaks carries them all out."""
MAX_WORD = 512
"""Bytes of such a word; the longest takes about 350."""

DEVICE_ID_LENGTH = 16
CONVERSATION_ID_LENGTH = 32
"""Bytes. A conversation's id is its MLS group_id, chosen at random by the device that opens it."""

CHAIN_LENGTH = 32
"""Bytes of a chain value (SHA-256)."""

MAX_DEVICES = 16
"""Devices of one account: as many may be published, and as many may hold resume tokens."""

MAX_SESSIONS_LISTED = 64
"""Sessions and tokens of one account that it is shown: more than it has devices."""

MAX_ADDRESS = 64
"""Characters of an IP address and its network interface: IPv6 takes 45."""

MAX_KEY_PACKAGES = 100
"""Unused key packages the server keeps for one device; more would only be a way to fill its disk."""

MAX_KEY_PACKAGE = 4096
"""Bytes of one key package: one leaf with a device certificate takes under 1 KiB."""

REFERENCE_LENGTH = 32
"""Bytes of a key package's reference (SHA-256)."""

MAX_LEAF = 1024
"""Bytes of a leaf, which takes about 400, wherever one is: with 1,000 of them a tree goes with all that belongs to it
into one frame."""

MAX_FOUNDING = MAX_GROUP_INFO + MAX_LEAF + 256
"""Bytes of the GroupInfo that founds a conversation: its tree is one leaf."""

MAX_CERTIFICATE = 2048
"""Bytes of a device certificate: one takes about 270."""

IDENTITY_KEY_LENGTH = 32
"""Bytes of an account's identity key (Ed25519)."""

MAX_LINK = MAX_CERTIFICATE
"""Bytes of what an identity key has signed: a device certificate, or a statement, which takes up to 400."""

MAX_LINKS = 16
"""Links of a chain in one request: a new identity takes three, a restored server asks for those that it has lost."""

MAX_LINKS_FETCHED = 64
"""Links of a chain in one reply: five years of rotations."""

MAX_KEEPSAKE = 256 << 10
"""Bytes of a keepsake's ciphertext: 1,000 conversations and 1,000 people. So much the server keeps of each account."""

MAX_KEEPSAKE_ENCODED = MAX_KEEPSAKE + 512
"""Bytes of a keepsake, with all that is around the ciphertext."""

MAX_TOLD = 100
"""Members of a conversation up to which each is told who comes and goes, and whose device is gone; in larger ones
clients ask (`Members`)."""

MAX_ROOM_DEVICES = 1000
"""Leaves of a conversation (docs/design.md, section 6)."""

MAX_IDENTITIES = 64
"""Owners, and inviters, of one room."""

MAX_REVOCATIONS = MAX_ROOM_DEVICES + 2 * MAX_IDENTITIES
"""Statements that wait in one conversation: each for a leaf, or for an identity that the rules name."""

MAX_NAMED_REVOCATIONS = 2 * MAX_IDENTITIES
"""Those that wait where a Welcome leads: the commit has removed the leaves that others were about."""

MAX_LISTED_ROOMS = 1000
"""Rooms in one list: with the longest names and topics they take half a frame."""

MAX_SUBSCRIPTIONS = 1024
"""Logs that one session may read at once."""

NUMBERS_KEPT = 256
"""Newest submissions per device and conversation whose answers the server can repeat (docs/design.md, section 4)."""

MAX_IN_FLIGHT = 64
"""Requests of one session that may be waiting for their reply; a client that sends more is not reading."""

ACKNOWLEDGE_ENTRIES = 32
ACKNOWLEDGE_SECONDS = 0.2
"""A reader acknowledges after this many entries or this long, whichever comes first."""

MAX_RETRY_AFTER = 600_000
"""Milliseconds. The longest wait that a server can ask for: every rate allows at least one try in that time."""

LEAP_ENTRIES = 1 << 20
"""How far the log of a restored server leaps at least: more than was added between two seconds of any clock, and than
anybody has missed by being away."""

LEASE_SECONDS = 2.0
"""How long a joiner of an open room holds the right to commit."""

HANDSHAKE_SECONDS = 5.0
"""TLS handshake and Hello together: generous for a slow link, short for a silent attacker."""

LOGIN_SECONDS = 120.0
"""From Hello to login: time for a person to type a password."""

PING_SECONDS = 30.0
"""A silent side is asked for a sign of life after this long, and given up after twice as long."""
