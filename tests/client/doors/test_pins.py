"""The explorer's pins are the client's: after the same acts, keys stand alike."""

from hypothesis import given
from hypothesis import strategies as st

from securechat.client.doors.facts import Key
from securechat.errors import TrustError
from securechat.identity import pins
from tests.client.doors.person import Pins

KEYS = (b"A", b"A'", b"A0")
ACTS = ("accept", "trust", "compare", "refuse", "succeed", "contest", "go on")


@given(st.lists(st.tuples(st.sampled_from(ACTS), st.sampled_from(KEYS), st.sampled_from(KEYS)), max_size=8))
def test_keys_stand_alike(acts: list[tuple[str, bytes, bytes]]) -> None:
    model, real = Pins(), pins.Pins("alice")
    for act, key, other in acts:
        match act:
            case "compare":
                model, real = model.compare(Key("alice", key)), real.verify(key)
            case "refuse":
                model, real = model.refuse(Key("alice", key)), real.refuse(key)
            case "trust":
                model, real = model.trust(Key("alice", key)), real.trust(key)
            case "go on":
                model, real = model.go_on(Key("alice", key)), real.go_on(key)
            case "succeed" if key != other:
                model, real = model.succeed(Key("alice", key), Key("alice", other)), real.succeed(key, other)
            case "contest" if key != other:
                model, real = model.contest(Key("alice", key), Key("alice", other)), real.contest(key, other)
            case "accept":
                model = model.accept(Key("alice", key))
                try:
                    real = real.accept(key)
                except TrustError:  # another one is accepted, or this one refused: a yes to a request changes nothing
                    assert Key("alice", key) not in model.accepted | model.verified
    for key in KEYS:
        assert model.standing("alice", key) == real.standing(key)
    written_to = model.written_to("alice")
    assert (None if written_to is None else written_to.identity) == real.written_to
