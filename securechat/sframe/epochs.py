"""The keys of a call from those of an MLS group (RFC 9605, section 5.2).

    base key    MLS-Exporter("SFrame 1.0 Base Key", context, Nk), in each epoch of the group
    KID         stream (64 - S - E bits) || the sender's leaf (S bits) || epoch mod 2^E (E bits)

E is 4. S is what the leaves of the group need in that epoch. The RFC's exporter context is empty. Here it is what both
sides of a call have made up for it, since a group lives longer than a call, and each call counts its frames from 0:
with an empty one the second call of an epoch would use nonces again. So it has to be new to whoever encrypts, whatever
the other side does.

With a commit the keys change. Frames of the epoch before, which are still under way, are taken for ten seconds more.
"""

from typing import Final

from securechat.errors import PeerError, UsageError
from securechat.sframe.header import Header
from securechat.sframe.keys import DecryptionKey, EncryptionKey, Suite

EXPORTER_LABEL: Final = "SFrame 1.0 Base Key"
"""Of the base key (RFC 9605, section 5.2)."""

EPOCH_BITS: Final = 4
"""E: 16 epochs can be told apart."""

MAX_STREAMS: Final = 4
"""Of one sender: sound, the camera, a screen, and one to spare. No frame makes more keys than this."""

KEPT_SECONDS: Final = 10.0
"""How long frames of the epoch before are taken once the next one has begun: what is under way, and who lags behind."""


class _Epoch:
    """What belongs to one epoch: one of the group's base keys, and keys of senders as they are needed."""

    def __init__(self, suite: Suite, epoch: int, base_key: bytes, own_leaf: int, leaves: int) -> None:
        self.number = epoch
        self.own_leaf = own_leaf
        self.low_bits = epoch % (1 << EPOCH_BITS)
        self.until: float | None = None  # monotonic seconds; None: it is the newest
        self._suite = suite
        self._base_key = base_key
        self._leaves = leaves
        self._leaf_bits = (leaves - 1).bit_length()
        self._own: dict[int, EncryptionKey] = {}  # by stream
        self._keys: dict[int, DecryptionKey] = {}  # by KID

    def kid(self, leaf: int, stream: int) -> int:
        """Return the number of a sender's key."""
        return (stream << self._leaf_bits | leaf) << EPOCH_BITS | self.low_bits

    def encryption_key(self, stream: int) -> EncryptionKey:
        """Return our own key for a stream. It is the same one each time: another would count from 0 again."""
        if stream not in self._own:
            self._own[stream] = EncryptionKey(self._suite, self.kid(self.own_leaf, stream), self._base_key)
        return self._own[stream]

    def decryption_key(self, kid: int) -> DecryptionKey:
        """Return the sender's key of this number; it is the same one each time."""
        if kid not in self._keys:
            self._keys[kid] = DecryptionKey(self._suite, kid, self._base_key)
        return self._keys[kid]

    def sender(self, kid: int) -> tuple[int, int]:
        """Return leaf and stream of a key's number. Raises `PeerError` if it is ours, or nobody's."""
        number = kid >> EPOCH_BITS
        leaf, stream = number & (1 << self._leaf_bits) - 1, number >> self._leaf_bits
        if leaf >= self._leaves or stream >= MAX_STREAMS:
            raise PeerError("a frame is encrypted with a key that nobody has")
        if leaf == self.own_leaf:
            raise PeerError("a frame of our own has come back")
        return leaf, stream


class CallKeys:
    """The keys of one call. One thread at a time; times are monotonic seconds."""

    def __init__(self, suite: Suite) -> None:
        """No epoch has begun."""
        self._suite = suite
        self._epochs: list[_Epoch] = []  # the newest one last

    def begin(self, epoch: int, base_key: bytes, *, leaf: int, leaves: int, now: float) -> None:
        """Go to an epoch of the group: what we say is encrypted with its keys from now on.

        `base_key`: what the group exports there, secret. `leaf`: ours. `leaves`: how many the tree has, blank ones
        included. The epoch before is kept for `KEPT_SECONDS`; one that cannot be told from the new one goes at once.
        Raises `UsageError` if it is not a later epoch: in one that comes again frames would be counted from 0 again.
        """
        if self._epochs and epoch <= self._epochs[-1].number:
            raise UsageError("a call goes to a later epoch only")
        begun = _Epoch(self._suite, epoch, base_key, leaf, leaves)
        for each in self._epochs:
            if each.until is None:
                each.until = now + KEPT_SECONDS
        self._epochs = [each for each in self._epochs if each.low_bits != begun.low_bits]
        self._epochs.append(begun)
        self._expire(now)

    def encrypt(self, stream: int, plaintext: bytes, metadata: bytes = b"") -> bytes:
        """Return a frame of one of our streams (0 to `MAX_STREAMS` - 1), encrypted. An epoch has begun."""
        return self._epochs[-1].encryption_key(stream).encrypt(plaintext, metadata)

    def decrypt(self, frame: bytes, metadata: bytes = b"", *, now: float) -> tuple[int, int, bytes]:
        """Return who has sent a frame (leaf and stream), and what is in it.

        Raises `PeerError` if its key is not known, or not any more, if it is one of ours, or as `DecryptionKey` does.
        """
        self._expire(now)
        header, _ = Header.decode(frame)
        for epoch in self._epochs:
            if epoch.low_bits == header.kid % (1 << EPOCH_BITS):
                leaf, stream = epoch.sender(header.kid)
                return leaf, stream, epoch.decryption_key(header.kid).decrypt(frame, metadata)
        raise PeerError("a frame is encrypted with a key of another epoch")

    def _expire(self, now: float) -> None:
        self._epochs = [each for each in self._epochs if each.until is None or now < each.until]
