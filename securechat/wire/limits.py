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
"""Bytes. Nothing before login is larger than names, a 32-byte secret and a token."""

MAX_GROUP_INFO = 20 << 10
"""Bytes of a GroupInfo without its tree: the rules have at most 16 KiB, all else takes about 300 bytes."""

MAX_COMMIT = MAX_FRAME - MAX_GROUP_INFO - 1024
"""Bytes of a commit: with its GroupInfo and the rest of its entry it has to fit into a frame."""

MAX_CHECKPOINTS = 4
"""Checkpoints of one conversation, each the newest of its account: with 1,000 devices their trees fill a frame."""

MAX_HANDED_BACK = 64
"""Handshakes in one request that hands them back: they are checked in less than a second."""

MAX_PROPOSAL = 8192
"""Bytes of a departure: it stands in offers and Welcomes until the tree has dropped its device."""

MAX_PAYLOAD = 128 << 10
"""Bytes of one application entry (an MLS PrivateMessage): a long text with room to spare."""

MAX_ACCOUNT = 32
"""Characters of a user name (RFC 8265 leaves the maximum to the application)."""

MAX_ROOM = 32
"""Characters of a room's name, `#` included."""

MAX_TOPIC = 200
"""Characters of a room's topic: a line or two, not a page."""

MAX_GREETING = 400
"""Characters of the server's name or greeting: a paragraph, not a page."""

SECRET_LENGTH = 32
"""Bytes of the login secret derived from the password."""

TOKEN_LENGTH = 32
"""Bytes of a resume token."""

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

MAX_KEY_PACKAGES = 100
"""Unused key packages the server keeps for one device; more would only be a way to fill its disk."""

MAX_KEY_PACKAGE = 4096
"""Bytes of one key package: one leaf with a device certificate takes under 1 KiB."""

MAX_CERTIFICATE = 2048
"""Bytes of a device certificate: one takes about 270."""

MAX_TOLD = 100
"""Members of a conversation up to which each is told who comes and goes, and whose device is gone; in larger ones
clients ask (`Members`)."""

MAX_ROOM_DEVICES = 1000
"""Leaves of an open room (docs/design.md, section 6)."""

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

LEASE_SECONDS = 2.0
"""How long a joiner of an open room holds the right to commit."""

HANDSHAKE_SECONDS = 5.0
"""TLS handshake and Hello together: generous for a slow link, short for a silent attacker."""

LOGIN_SECONDS = 120.0
"""From Hello to login: time for a person to type a password."""

PING_SECONDS = 30.0
"""A silent side is asked for a sign of life after this long, and given up after twice as long."""
