"""The chain over a conversation's log: both sides compute it, so nobody can rewrite it (docs/design.md, section 4).

    chain_n = SHA-256(chain_{n-1} || TLS{ opaque conversation<V>; uint64 seq; uint64 time; opaque device<V>;
                                          uint64 number; uint8 kind; opaque payload<V>; opaque group_info<V> })

`<V>` is the variable-size vector of RFC 9420, section 2.1.2: a length of 1, 2 or 4 bytes, always the shortest.
"""

import struct
from hashlib import sha256

from securechat.tlscodec import Writer
from securechat.wire.limits import CONVERSATION_ID_LENGTH, DEVICE_ID_LENGTH

CHAIN_START = bytes(32)
"""chain_0: the chain of an empty log."""

MLS_MESSAGE = 1
"""An entry's `kind`: an MLS message, submitted by a device under a number. Statements and words of the operator have no
device and no number: both are zero."""

STATEMENT = 2
"""What an identity key has signed about its account and all members have to know (`identity.statements`)."""

HANDED_BACK = 4
"""A handshake that a restored server had lost, and got back from a member. Its device made and numbered it before that,
so it is no part of the counting: messages between are lost."""

OPERATORS_WORD = 3
NO_DEVICE = bytes(DEVICE_ID_LENGTH)

_FIELDS = f">32sB{CONVERSATION_ID_LENGTH}sQQB{DEVICE_ID_LENGTH}sQB"
_pack_8, _pack_16, _pack_32 = (struct.Struct(_FIELDS + length).pack for length in "BHI")  # all up to the payload


def next_chain(
    chain: bytes,
    conversation: bytes,
    seq: int,
    time: int,
    device: bytes,
    number: int,
    payload: bytes,
    group_info: bytes = b"",
    kind: int = MLS_MESSAGE,
) -> bytes:
    """Return chain_seq (32 bytes) from chain_{seq-1} and the entry at `seq`; `time` in ms.

    `conversation` has 32 bytes and `device` 16. `group_info` belongs to a commit, and is empty for all others.
    """
    length = len(payload)
    if length < 1 << 6:
        pack = _pack_8
    elif length < 1 << 14:
        pack, length = _pack_16, length | 0x4000
    else:
        pack, length = _pack_32, length | 0x8000_0000
    fields = pack(
        chain, CONVERSATION_ID_LENGTH, conversation, seq, time, DEVICE_ID_LENGTH, device, number, kind, length
    )
    end = bytes(Writer().vector(group_info)) if group_info else b"\0"  # most entries are messages
    return sha256(fields + payload + end).digest()
