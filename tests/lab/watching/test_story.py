"""The join: what network, server and people saw of the same thing becomes one moment, and its onion."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from securechat_lab.watching import words
from securechat_lab.watching.demo import DROPPED
from securechat_lab.watching.demo import PRIVATE as LINES
from securechat_lab.watching.onion import Layer, onion
from securechat_lab.watching.recording import Line, Reader
from securechat_lab.watching.story import MAX_BRANCHES, Moment, Story, tell
from tests.lab.watching.conftest import Scene


def said(story: Story, text: str) -> Moment:
    (moment,) = (each for each in story.moments if each.text == text)
    return moment


def named(story: Story, name: str) -> str:
    (conversation,) = (each for each, called in story.names.items() if called == name)
    return conversation


def sizes(layers: Sequence[Layer]) -> dict[str, int]:
    return {layer.name: layer.size for layer in layers}


# ---- a real scene


def test_a_message_is_one_moment_with_what_everybody_saw_of_it(story: Story) -> None:
    moment = said(story, LINES[0])
    assert (moment.kind, moment.conversation, moment.epoch) == ("message", named(story, "alice & bob"), 1)
    assert moment.sender == "alice"
    assert {frame.what for frame in moment.frames} >= {"Submit", "Entry", "Accepted"}
    assert [words.person_sees(moment, person) for person in ("alice", "bob", "carol")] == [
        ("»", LINES[0]), ("‹", LINES[0]), ("", ""),
    ]  # fmt: skip
    alone = sum(frame.what == "Acknowledge" for frame in moment.frames)  # on a slow machine; else with later ones
    assert len(moment.records) == 3 + alone  # up, down to bob, and the answer
    assert moment.versions == (("alice", "bob"),)


def test_a_message_between_the_programs_has_no_words(story: Story) -> None:
    accept = next(each for each in story.moments if each.kind == "message" and not each.text)
    assert [words.person_sees(accept, person) for person in ("alice", "bob", "carol")] == [
        ("·", "(no words)"), ("·", "(no words)"), ("", ""),
    ]  # fmt: skip
    assert words.heading(accept, story) == "A message of bob that no screen shows"


def test_the_server_column_has_no_text(story: Story) -> None:
    for moment in story.moments:
        assert not [line for line in (*LINES, DROPPED) if line in words.server_sees(moment, story)]
    assert words.server_sees(said(story, LINES[0]), story) == "#5 e1 alice→bob 424 B"


def test_the_onion_of_a_text_has_the_sizes_that_were_on_the_wire(story: Story) -> None:
    moment = said(story, LINES[0])
    layers = onion(moment)
    assert sizes(layers) == {
        "text": 35, "content": 90, "padded and signed": 322, "MLS message": 424, "frame": 475, "TLS record": 497,
    }  # fmt: skip
    assert [layer.seen for layer in layers] == ["people"] * 3 + ["server"] * 2 + ["network"]
    assert layers[0].who == "alice and bob"
    everybody = onion(said(story, "hello, lobby"))[0].who
    assert everybody in ("bob, alice and carol", "bob, carol and alice")  # who read it first
    assert [sum(part.size for part in layer.parts) for layer in layers[1:]] == [90, 322, 424, 475, 497]
    assert [(part.name, part.size) for part in layers[2].parts] == [
        ("content, with its length", 92), ("signature", 66), ("zero bytes", 164),
    ]  # fmt: skip
    mls = layers[3].parts
    assert sum(part.size for part in mls) == 424
    assert {part.name: part.hex for part in mls}["group"] == "20" + moment.conversation


def test_commits_join_the_change_that_people_saw(story: Story) -> None:
    commits = [each for each in story.moments if each.kind == "commit" and each.conversation == named(story, "#lobby")]
    assert [(each.seq, each.epoch) for each in commits] == [(1, 0), (2, 1)]
    assert [words.lanes(each) for each in commits] == ["◆", "◆"]
    assert any("has entered #lobby" in sentence for sentence in words.everything_told(commits[1]))
    assert "text" not in sizes(onion(commits[1]))


def test_where_the_server_drops_a_message_the_history_forks(story: Story) -> None:
    moment = said(story, DROPPED)
    assert (moment.branches, moment.versions) == (2, (("alice", "bob"), ("carol",)))
    assert words.lanes(moment) == "●─●"
    assert words.person_sees(moment, "carol") == ("≠", "yes")
    assert words.everything_told(moment)[0] == "≠ FORK at #4: alice, bob had one message, carol another."
    later = said(story, "yes") if [each for each in story.moments if each.text == "yes"] else None
    assert later is not None
    assert (words.lanes(later), later.missing) == ("● │", ())  # carol has not read as far
    assert "! carol: the server, or bob: another history" in words.everything_told(moment)
    before = said(story, "hello, lobby")
    assert (words.lanes(before), before.branches) == ("●", 1)
    assert next(each for each in story.moments if each.kind == "alarm").sender == "carol"


def test_the_same_lines_tell_the_same_story_in_whatever_order_they_came(scene: Scene, story: Story) -> None:
    reader = Reader(scene.recording)
    reader.read_all()
    reader.close()
    by_time: dict[float, list[Line]] = {}
    for line in reader.lines:
        by_time.setdefault(line.t, []).append(line)
    groups = list(by_time.values())
    random.Random(7).shuffle(groups)
    assert tell([line for group in groups for line in group]) == story


def test_each_frame_is_in_one_moment(scene: Scene, story: Story) -> None:
    reader = Reader(scene.recording)
    reader.read_all()
    reader.close()
    frames = [line for line in reader.lines if line.layer == "server"]
    told = [frame for moment in story.moments for frame in moment.frames if frame.layer == "server"]
    assert sorted(map(id, told)) != []
    assert sorted(map(repr, told)) == sorted(map(repr, frames))


# ---- made-up ones


def line(layer: str, what: str, t: float = 0.0, **fields: Any) -> Line:
    return Line(v=1, t=t, layer=layer, what=what, **fields)  # type: ignore[arg-type]  # test data


def submit(number: int, t: float, digest: str = "d", conn: int = 1, sender: str = "alice") -> Line:
    return line(
        "server", "Submit", t, conn=conn, way="up", sender=sender, to="server", conversation="c", number=number, len=9,
        digest=digest, text="message", size=20,
    )  # fmt: skip


def accepted(number: int, seq: int, t: float, conn: int = 1, to: str = "alice") -> Line:
    return line("server", "Accepted", t, conn=conn, way="down", to=to, conversation="c", number=number, seq=seq)


def entry(seq: int, to: str, t: float, digest: str = "d") -> Line:
    return line(
        "server", "Entry", t, conn=2, way="down", sender="server", to=to, conversation="c", seq=seq, digest=digest,
        text="message", len=9,
    )  # fmt: skip


def test_a_reader_may_have_it_before_its_sender_has_the_answer() -> None:
    for lines in (
        [submit(1, 0), entry(5, "bob", 1), accepted(1, 5, 2)],
        [submit(1, 0), entry(5, "bob", 1, "other"), accepted(1, 5, 2)],  # and even with other bytes
        [submit(1, 0), accepted(1, 5, 1), entry(5, "bob", 2)],
    ):
        (moment,) = tell(lines).moments
        assert (moment.t, moment.seq, len(moment.frames)) == (0, 5, 3)


def test_a_place_that_is_claimed_again_and_again_is_one_moment() -> None:
    lines = [each for turn in range(1, 100) for each in (submit(turn, turn, f"{turn}"), accepted(turn, 1, 200))]
    (moment,) = tell(lines).moments
    assert len(moment.frames) == len(lines)
    assert len(words.everything_told(moment)) < 20


def test_a_frame_joins_the_records_that_carried_it_and_no_others() -> None:
    records = [line("network", "data", at=at, size=10, len=32, conn=1, way="up") for at in (0, 10, 20, 40)]
    frames = [line("server", "Ping", at=at, size=size, conn=1, way="up") for at, size in ((0, 10), (5, 20), (32, 4))]
    joined = [[record.at for record in moment.records] for moment in tell([*records, *frames]).moments]
    assert joined == [[0], [0, 10, 20], []]


def test_a_refused_submission_is_told_and_can_come_again() -> None:
    refused = line("server", "Refused", 1, conn=1, way="down", conversation="c", number=1, text="stale-epoch")
    first, second = tell([submit(1, 0), refused, submit(1, 2), accepted(1, 1, 3)]).moments
    assert (first.refused, first.seq, words.lanes(first)) == ("stale-epoch", 0, "✗")
    assert (second.refused, second.seq, words.lanes(second)) == ("", 1, "●")


def test_a_line_that_never_left_stands_alone_and_one_that_did_is_one_moment() -> None:
    held = line("person", "said", 0, sender="alice", to="alice", conversation="c", local=1, text="held", len=4)
    (moment,) = tell([held]).moments
    assert (words.lanes(moment), words.person_sees(moment, "alice")) == ("○", ("»", "held"))
    delivered = line(
        "person", "delivered", 3, sender="alice", to="alice", conversation="c", local=1, seq=1, text="held", len=4
    )
    (moment,) = tell([held, submit(1, 1), accepted(1, 1, 2), delivered]).moments
    assert (len(moment.screens), moment.t) == (2, 1)  # it counts from when it left


def test_who_was_away_by_the_servers_word_misses_nothing_by_its_lie() -> None:
    log = [each for seq in (1, 2, 3) for each in (submit(seq, seq, str(seq)), accepted(seq, seq, seq + 0.1))]
    read = [entry(1, "bob", 1.5, "1"), entry(3, "bob", 3.5, "3")]
    lied = tell([*log, *read]).moments
    assert [each.missing for each in lied] == [(), ("bob",), ()]
    assert [words.lanes(each) for each in lied] == ["●", "●─╮", "● ●"]
    truncated = line("server", "Truncated", 3.4, way="down", to="bob", conversation="c", seq=3)
    honest = [each for each in tell([*log, *read, truncated]).moments if each.seq]
    assert [each.missing for each in honest] == [(), (), ()]


def test_histories_that_part_again_and_again_are_told_apart_up_to_a_bound() -> None:
    lines = [entry(seq, f"p{who}", seq, f"{who if seq >= who else 0}") for seq in range(9) for who in range(9)]
    assert max(each.branches for each in tell(lines).moments) == MAX_BRANCHES
    assert all(len(words.lanes(each)) < 2 * MAX_BRANCHES for each in tell(lines).moments)


def test_a_padding_that_was_replaced_is_seen_as_it_is() -> None:
    """Without padding the onion is smaller; and where text and ciphertext contradict, nothing is made up."""
    for ciphertext, layers in (
        (90 + 2 + 66 + 16, {"text": 35, "content": 90, "padded and signed": 158}),
        (20, {"signed content": 4}),
        (150, {"text": 35, "content, padded and signed": 134}),
    ):
        head = bytes.fromhex(f"00010002 20{'aa' * 32} 0000000000000001 01 08{'00' * 8} 1c{'bb' * 28}")
        length = bytes([ciphertext]) if ciphertext < 64 else (0x4000 | ciphertext).to_bytes(2, "big")
        payload = head + length + bytes(ciphertext)
        sent = line(
            "server", "Submit", conn=1, way="up", sender="alice", conversation="c", number=1, len=len(payload),
            digest="d", text="message", size=len(payload) + 51, hex=payload.hex(),
        )  # fmt: skip
        delivered = line("person", "delivered", 1, sender="alice", to="alice", conversation="c", seq=1, len=35)
        (moment,) = tell([sent, accepted(1, 1, 0.5), delivered]).moments
        inside = {layer.name: layer.size for layer in onion(moment) if layer.seen == "people"}
        assert inside == layers


# ---- lies

NASTY = "\x1b[2J\x1b]0;x\x07‮</script><img src=x onerror=alert(1)>\r\n\0"


@pytest.mark.parametrize("seed", range(5))
def test_lines_that_lie_make_a_story_all_the_same(seed: int) -> None:
    dice = random.Random(seed)
    whats = (
        "Submit", "Accepted", "Entry", "Refused", "Acknowledge", "Welcomed", "LoggedIn", "Truncated", "Commit", "said",
        "delivered", "received", "conversation", "notice", "alarm", "clear", "data",
    )  # fmt: skip
    numbers = (0, 1, 2, 3, (1 << 53) - 1)
    people = ("", "server", "alice", "bob", NASTY)
    lines = [
        line(
            dice.choice(("scene", "network", "server", "person")), dice.choice(whats), dice.choice((0.0, 1.0, 1e9)),
            conn=dice.choice((0, 1, 2)), way=dice.choice(("", "up", "down")), sender=dice.choice(people),
            to=dice.choice(people), at=dice.choice(numbers), size=dice.choice(numbers),
            len=dice.choice(numbers), conversation=dice.choice(("", "c")), seq=dice.choice(numbers),
            number=dice.choice(numbers), epoch=dice.choice((None, *numbers)), local=dice.choice((0, 1)),
            digest=dice.choice(("", "d", "e")), hex=dice.choice(("", "00010002", "0001000220" + "00" * 60)),
            text=dice.choice(("", "message", "commit", NASTY)),
        )
        for _ in range(3000)
    ]  # fmt: skip
    story = tell(lines, ["a problem"])
    told = [each for moment in story.moments for each in (*moment.frames, *moment.screens)]
    assert len(told) == len({id(each) for each in told})  # each is in one moment, and none is lost
    assert {id(each) for each in lines if each.layer in ("server", "person")} <= {id(each) for each in told}
    for moment in story.moments:
        shown = [
            words.lanes(moment), words.server_sees(moment, story), words.heading(moment, story), story.title,
            words.network_sees(moment, numbered=True), *words.everything_told(moment),
            *(text for name in story.people for text in words.person_sees(moment, name)),
            *(layer.adds + layer.name for layer in onion(moment)),
        ]  # fmt: skip
        assert all(text.isprintable() for text in shown)
