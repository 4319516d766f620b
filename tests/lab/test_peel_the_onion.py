"""Exercise 1: what a capture with the secrets of TLS shows, and what of it can be given away."""

from pathlib import Path

import pytest

from securechat_lab.exercises import peel_the_onion as exercise
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.task import HandIn
from securechat_lab.watching.capture import DECRYPTION_SECRETS
from securechat_lab.watching.opened import blocks, inside, joined, on_the_wire
from securechat_lab.watching.recording import Reader
from tests.lab.proofs import missed, points, runs_alone, seeds
from tests.support import pcapng

ATTACK = exercise.TASK.attack.partition("def peel")[0] + """
def frames(data):
    while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "big"):
        end = 4 + int.from_bytes(data[:4], "big")
        yield unpack(data[4:end])[0]
        data = data[end:]

def peel(streams):
    said, readers = [], {}
    for up, down in streams:
        sent = {frame[1]: frame for frame in frames(up) if frame[0] == "Submit"}
        for name, *fields in frames(down):
            if name == "LoggedIn":
                me = fields[1]
            elif name == "Entry":
                readers.setdefault((fields[0], fields[1]), []).append(me)
            elif name == "Accepted" and fields[0] in sent:
                payload = sent[fields[0]][4]
                epoch = int.from_bytes(payload[5 + payload[4]:][:8], "big")
                said.append([me, (fields[1], fields[3]), fields[4], len(payload), epoch])
    return [[who, readers[whom], *rest] for who, whom, *rest in sorted(said, key=lambda row: row[2])]
"""

DEFENCE = """
def keep(block):
    return block[0] in (0x0A0D0D0A, 1, 6)
"""

CHECK = """
def sound(seen):
    return not any(b"_TRAFFIC_SECRET" in body for kind, body in seen["blocks"])
"""


def test_the_reference_gets_every_point() -> None:
    found = points(1, HandIn(ATTACK, DEFENCE, "text"))
    assert len(found) == 13
    assert not missed(found)


def test_a_capture_is_read_as_a_reader_of_its_own_does_and_without_secrets_shows_nothing(tmp_path: Path) -> None:
    capture = exercise._played(seeds(1, "ann")[0].text).capture
    file = tmp_path / "scene.pcapng"
    file.write_bytes(capture)
    captured = pcapng.read(file)
    assert inside(capture) == [pcapng.decrypted(captured, each) for each in captured.streams.values()]
    assert on_the_wire(capture) == [tuple(map(bytes, each.sent)) for each in captured.streams.values()]
    assert joined(list(blocks(capture))) == capture
    without = [each for each in blocks(capture) if each.kind != DECRYPTION_SECRETS]
    assert all(each == (b"", b"") for each in inside(joined(without)))


def test_a_student_gets_a_capture_a_recording_to_watch_and_what_is_inside(tmp_path: Path) -> None:
    exercise.prepare(seeds(1, "ann")[0], tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"scene.pcapng", "scene.jsonl", "inside.json"}
    reader = Reader(tmp_path / "scene.jsonl")
    reader.read_all()
    reader.close()
    assert reader.problems == []
    assert {line.layer for line in reader.lines} == {"scene", "network", "server", "person"}
    assert runs_alone(exercise.TASK.attack, tmp_path) == ""
    main = exercise.TASK.attack.partition("\nif __name__")
    assert len(runs_alone(ATTACK + "".join(main[1:]), tmp_path).splitlines()) == 12


MINE, EVERY = "attack: everything, in a capture like yours", (
    "attack: as many messages as there are, in a capture that you have not seen"
)
NOTHING = "attack: nothing, where the secrets are missing"
COLUMNS = {each: f"attack: {each}, in one that you have not seen" for each in exercise.COLUMNS}
ALL = {MINE, EVERY, NOTHING, *COLUMNS.values()}
ATTACKS = {
    "makes something up": ("def peel(streams): return [['ada', ['tim'], 1, 424, 1]] * 12", ALL),
    "makes as much up where there is nothing": (
        ATTACK + "\nreal = peel\ndef peel(streams): return real(streams) or [['ada', ['tim'], 1, 424, 1]]", ALL,
    ),
    "answers something else": ("def peel(streams): return [[1, 2]]", ALL),
    "does not come to the epoch": (ATTACK.replace("4]:][:8]", "4]:][:4]"), {MINE, COLUMNS["epoch"]}),
    "counts the frame": (ATTACK.replace("len(payload), epoch", "len(payload) + 9, epoch"), {MINE, COLUMNS["size"]}),
    "takes a member for a reader": (ATTACK.replace("readers[whom]", "['ada', 'tim']"), {MINE, COLUMNS["whom"]}),
}  # fmt: skip


@pytest.mark.parametrize(("attack", "misses"), ATTACKS.values(), ids=ATTACKS)
def test_an_attack_that(attack: str, misses: set[str]) -> None:
    assert set(missed(points(1, HandIn(attack, "def")), "attack")) == misses


PACKETS = "defence: every packet is still there"
SECRETS = {name: f"defence: no secret is left in a block of kind {name}" for name in exercise.WEAK}
CHEATS = {
    "takes everything out": ("def keep(block): return False", {PACKETS, *SECRETS.values()}),
    "takes one kind out": (
        "def keep(block): return block[0] != 10", {SECRETS["journal"], SECRETS["custom"]},
    ),
    "keeps packets alone": ("def keep(block): return block[0] == 6", {PACKETS, *SECRETS.values()}),
    "answers something else": ("def keep(block): return 1", {PACKETS, *SECRETS.values()}),
}  # fmt: skip


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_defence_that(defence: str, misses: set[str]) -> None:
    assert set(missed(points(1, HandIn("def", defence)), "defence")) == misses


def test_two_students_differ_and_the_answers_of_one_fail_with_the_other() -> None:
    bob = exercise._played(seeds(1, "bob")[0].text).truth
    assert bob != exercise._played(seeds(1, "ann")[0].text).truth
    fixed = f"def peel(streams): return {[list(row) for row in bob]!r} if streams[0][0][:1] == b'\\0' else []"
    found = missed(points(1, HandIn(fixed, "def")), "attack")
    assert {MINE, *COLUMNS.values()} - {COLUMNS["epoch"]} <= set(found)


def test_facts_of_the_handout_are_those_of_the_scene() -> None:
    seed: Seed = seeds(1, "ann")[0]
    told = exercise.facts(seed)
    assert {each for row in exercise._played(seed.text).truth for each in (row[0], *row[1])} == {
        told["first"], told["second"], told["third"],
    }  # fmt: skip
