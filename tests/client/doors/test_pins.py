"""The explorer's pins are the client's: after the same acts, keys stand alike."""

from hypothesis import given
from hypothesis import strategies as st

from securechat.client.doors.facts import Key
from securechat.errors import TrustError
from securechat.identity import pins
from tests.client.doors.person import Pins

KEYS = (b"A", b"A'", b"A0")


@given(st.lists(st.tuples(st.sampled_from(("accept", "compare")), st.sampled_from(KEYS)), max_size=6))
def test_keys_stand_alike(acts: list[tuple[str, bytes]]) -> None:
    model, real = Pins(), pins.Pins("alice")
    for act, key in acts:
        if act == "compare":
            model, real = model.compare(Key("alice", key)), real.verify(key)
            continue
        model = model.accept(Key("alice", key))
        try:
            real = real.accept(key)
        except TrustError:  # another one is accepted: yes to a request does not change that
            assert not {Key("alice", key)} & (model.accepted | model.verified)
    for key in KEYS:
        assert model.standing("alice", key) == real.standing(key)
