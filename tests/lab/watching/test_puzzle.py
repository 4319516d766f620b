"""A capture to be read: what is said to be true of it is what somebody finds who has nothing else."""

from pathlib import Path

import msgspec

from securechat.mls.framing import read_header
from securechat.wire import messages as m
from securechat_lab.kit.seeds import Seed
from securechat_lab.watching.puzzle import EARLY, LATE, PRIVATE, Fact, plan, play
from tests.support import pcapng

_up = msgspec.msgpack.Decoder(m.FromClient).decode
_down = msgspec.msgpack.Decoder(m.FromServer).decode


def frames(stream: bytes) -> list[bytes]:
    found = []
    while stream:
        length = int.from_bytes(stream[:4], "big")
        found.append(stream[4 : 4 + length])
        stream = stream[4 + length :]
    return found


def solve(capture: Path) -> list[Fact]:
    """What a student does, with their own few lines."""
    captured = pcapng.read(capture)
    submitted: list[tuple[str, bytes, m.Submit]] = []
    accepted: dict[tuple[str, bytes, int], m.Accepted] = {}
    readers: dict[tuple[bytes, int], list[str]] = {}
    for stream in captured.streams.values():
        up, down = pcapng.decrypted(captured, stream)
        sent, got = [_up(body) for body in frames(up)], [_down(body) for body in frames(down)]
        (me,) = {message.account for message in got if isinstance(message, m.LoggedIn)}
        submitted += [(me, each.conversation, each) for each in sent if isinstance(each, m.Submit)]
        for message in got:
            if isinstance(message, m.Accepted):
                accepted[me, message.conversation, message.number] = message
            elif isinstance(message, m.Entry):
                readers.setdefault((message.conversation, message.seq), []).append(me)
    found = []
    for me, conversation, each in submitted:
        entry = accepted[me, conversation, each.number]
        whom = tuple(sorted(readers[conversation, entry.seq]))
        found.append(Fact(me, whom, entry.time, len(each.payload), read_header(each.payload).epoch))
    return sorted(found, key=lambda fact: (fact.when, fact.who))


def test_what_is_true_of_a_capture_can_be_found_in_it_and_nowhere_else(tmp_path: Path) -> None:
    seed = Seed(b"a student's own seed")
    truth = play(seed, tmp_path)
    assert solve(tmp_path / "scene.pcapng") == list(truth)
    assert {path.name for path in tmp_path.iterdir()} == {"scene.pcapng", "scene.jsonl"}
    script = plan(seed)
    assert len(truth) >= PRIVATE + EARLY + LATE
    room = [fact for fact in truth if len(fact.whom) == 2]
    assert [fact.who for fact in room] == [script.names[who] for who, _ in script.late]
    assert len({fact.size for fact in truth}) > 2
    assert len({fact.epoch for fact in truth}) > 1


def test_each_seed_has_a_scene_of_its_own_which_is_the_same_again() -> None:
    seeds = [Seed(bytes([number]) * 16) for number in range(50)]
    assert len({plan(seed) for seed in seeds}) == 50
    assert [plan(seed) for seed in seeds] == [plan(seed) for seed in seeds]
    assert all(len(set(plan(seed).names)) == 3 for seed in seeds)
