"""The chain over a conversation's log: both sides compute it, so nobody can rewrite it (docs/design.md, section 4).

    chain_n = SHA-256(chain_{n-1} || TLS{ opaque conversation<V>; uint64 seq; uint64 time;
                                          opaque device<V>; uint64 number; opaque payload<V> })

`<V>` is the variable-size vector of RFC 9420, section 2.1.2: a length of 1, 2 or 4 bytes, always the shortest.
"""

import struct
from hashlib import sha256

from securechat.wire.limits import CONVERSATION_ID_LENGTH, DEVICE_ID_LENGTH

CHAIN_START = bytes(32)
"""chain_0: the chain of an empty log."""

_FIELDS = f">32sB{CONVERSATION_ID_LENGTH}sQQB{DEVICE_ID_LENGTH}sQ"
_pack_8, _pack_16, _pack_32 = (struct.Struct(_FIELDS + length).pack for length in "BHI")  # all up to the payload


def next_chain(
    chain: bytes, conversation: bytes, seq: int, time: int, device: bytes, number: int, payload: bytes
) -> bytes:
    """Return chain_seq (32 bytes) from chain_{seq-1} and the entry at `seq`; `time` in ms.

    `conversation` has 32 bytes and `device` 16.
    """
    length = len(payload)
    if length < 1 << 6:
        pack = _pack_8
    elif length < 1 << 14:
        pack, length = _pack_16, length | 0x4000
    else:
        pack, length = _pack_32, length | 0x8000_0000
    fields = pack(chain, CONVERSATION_ID_LENGTH, conversation, seq, time, DEVICE_ID_LENGTH, device, number, length)
    return sha256(fields + payload).digest()
