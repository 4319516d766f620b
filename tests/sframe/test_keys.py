import pytest

from securechat.errors import DecodeError, PeerError, UsageError
from securechat.sframe.header import MAX_HEADER_LENGTH, MAX_VALUE, Header
from securechat.sframe.keys import REPLAY_WINDOW, TAG_LENGTH, DecryptionKey, EncryptionKey, Suite

SUITE = Suite.AES_128_GCM_SHA256_128
BASE_KEY = bytes(range(16))


def frame(ctr: int) -> bytes:
    return EncryptionKey(SUITE, 9, BASE_KEY, next_ctr=ctr).encrypt(f"frame {ctr}".encode())


@pytest.fixture
def receiver() -> DecryptionKey:
    return DecryptionKey(SUITE, 9, BASE_KEY)


@pytest.mark.parametrize(
    "encoded", ["", "80", "8f", "08", "0f00", "8807", "0807", "890007", "09000f", "ff" + 16 * "00", "ff" + 15 * "ff"]
)
def test_a_header_that_is_cut_short_or_longer_than_it_must_be_is_refused(encoded: str) -> None:
    with pytest.raises(DecodeError):
        Header.decode(bytes.fromhex(encoded))


def test_the_longest_header() -> None:
    encoded = Header(MAX_VALUE, MAX_VALUE).encode()
    assert len(encoded) == MAX_HEADER_LENGTH
    assert Header.decode(encoded) == (Header(MAX_VALUE, MAX_VALUE), MAX_HEADER_LENGTH)


def test_each_frame_has_a_number_of_its_own_until_they_are_used_up() -> None:
    sender = EncryptionKey(SUITE, 9, BASE_KEY)
    frames = [sender.encrypt(b"the same") for _ in range(300)]
    assert [Header.decode(each)[0].ctr for each in frames] == list(range(300))
    assert len({each[-TAG_LENGTH:] for each in frames}) == 300
    last = EncryptionKey(SUITE, 9, BASE_KEY, next_ctr=MAX_VALUE)
    last.encrypt(b"the last one")
    with pytest.raises(UsageError, match="as many frames as it can"):
        last.encrypt(b"one more")


def test_each_frame_is_taken_once_in_whatever_order_they_come(receiver: DecryptionKey) -> None:
    for ctr in (2, 0, 1, 700, 699, 3, 700 + REPLAY_WINDOW, 701):
        assert receiver.decrypt(frame(ctr)) == f"frame {ctr}".encode()
    for ctr in (1, 699, 700, 701, 700 + REPLAY_WINDOW):
        with pytest.raises(PeerError, match="come before|too old"):
            receiver.decrypt(frame(ctr))


def test_the_edge_of_the_window(receiver: DecryptionKey) -> None:
    newest = 5_000
    receiver.decrypt(frame(newest))
    with pytest.raises(PeerError, match="too old"):
        receiver.decrypt(frame(newest - REPLAY_WINDOW))
    assert receiver.decrypt(frame(newest - REPLAY_WINDOW + 1))
    with pytest.raises(PeerError, match="come before"):
        receiver.decrypt(frame(newest - REPLAY_WINDOW + 1))
    assert receiver.decrypt(frame(newest + 1))
    with pytest.raises(PeerError, match="too old"):
        receiver.decrypt(frame(newest - REPLAY_WINDOW + 1))


def test_a_forged_number_moves_nothing(receiver: DecryptionKey) -> None:
    receiver.decrypt(frame(0))
    honest = frame(1)
    forged = Header(9, MAX_VALUE).encode() + honest[len(Header(9, 1).encode()) :]
    with pytest.raises(PeerError, match="does not decrypt"):
        receiver.decrypt(forged)
    assert receiver.decrypt(honest) == b"frame 1"


def test_another_key_number_base_key_or_suite_is_refused(receiver: DecryptionKey) -> None:
    long_key = bytes(32)
    for sender in (
        EncryptionKey(SUITE, 8, BASE_KEY),
        EncryptionKey(SUITE, 9, BASE_KEY[::-1]),
        EncryptionKey(Suite.AES_256_GCM_SHA512_128, 9, BASE_KEY),
        EncryptionKey(Suite.AES_256_GCM_SHA512_128, 9, long_key),
    ):
        with pytest.raises(PeerError, match="another key|does not decrypt"):
            receiver.decrypt(sender.encrypt(b"frame"))
    assert receiver.decrypt(EncryptionKey(SUITE, 9, BASE_KEY).encrypt(b"frame")) == b"frame"


def test_no_key_shows_itself() -> None:
    for each in (EncryptionKey(SUITE, 9, BASE_KEY), DecryptionKey(SUITE, 9, BASE_KEY)):
        assert "object at" in repr(each)  # Python's own, which says nothing of what is in it
