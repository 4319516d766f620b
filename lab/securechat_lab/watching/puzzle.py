"""A capture to be read, and what is true of it: who said something to whom, when, how much, in which epoch.

A seed decides who takes part, who speaks where, and how long their texts are. What is true is taken from the recording
of the same scene, and has no text: nobody can read those out of a capture, with all the secrets of TLS.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from securechat.client import commands, events
from securechat.errors import InternalError
from securechat_lab.cast.scenes import direct, members, say
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.stage import Actor, Stage
from securechat_lab.watching.recording import Reader
from securechat_lab.watching.story import Story, tell
from securechat_lab.watching.watched import Watched

NAMES: Final = (
    "ada", "alan", "barbara", "donald", "dorothy", "edsger", "frances", "grace", "hedy", "john", "katherine", "leslie",
    "margaret", "niklaus", "radia", "shafi", "tim", "whitfield",
)  # fmt: skip
ROOMS: Final = ("#library", "#kitchen", "#garden", "#workshop", "#attic", "#harbour")

PRIVATE, EARLY, LATE = 3, 2, 4
"""Texts in private, in the room of two, and in the room of three: enough that guessing finds nothing."""

LONGEST: Final = 1200
"""Characters of a text: some are padded to the least that there is, and others are not."""


@dataclass(frozen=True)
class Plan:
    """What a seed decides."""

    names: tuple[str, str, str]
    """The first two talk in private; all of them meet in the room, in this order."""
    room: str
    private: tuple[tuple[int, int], ...]
    """Who speaks, by their index, and how long the text is."""
    early: tuple[tuple[int, int], ...]
    late: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Fact:
    """What is true of one message."""

    who: str
    whom: tuple[str, ...]
    """Sorted."""
    when: int
    """By the server's clock, in milliseconds since 1970."""
    size: int
    """Bytes of the MLS message."""
    epoch: int


def plan(seed: Seed) -> Plan:
    """Return the plan of a scene."""
    names = list(NAMES)
    chosen = [names.pop(seed.part("name", str(index)).below(len(names))) for index in range(3)]

    def texts(where: str, people: int, count: int) -> tuple[tuple[int, int], ...]:
        parts = [seed.part(where, str(index)) for index in range(count)]
        return tuple((part.part("who").below(people), 1 + part.part("length").below(LONGEST)) for part in parts)

    return Plan(
        (chosen[0], chosen[1], chosen[2]), seed.part("room").pick(ROOMS),
        texts("private", 2, PRIVATE), texts("early", 2, EARLY), texts("late", 3, LATE),
    )  # fmt: skip


def play(seed: Seed, folder: Path) -> tuple[Fact, ...]:
    """Play the scene of a seed. Leaves capture and recording in `folder`, and returns what is true, message by message.

    Raises StorageError.
    """
    script = plan(seed)
    with Stage() as stage, Watched(stage, folder, "a capture to be read") as watched:
        people = [watched.person(name) for name in script.names]
        direct(people[0], people[1])
        for who, length in script.private:
            say(people[who], people[1 - who].name, "x" * length, people[1 - who])
        _meet(script.room, people[:2])
        _talk(script.room, people[:2], script.early)
        _meet(script.room, people)
        _talk(script.room, people, script.late)
    reader = Reader(watched.recording)
    reader.read_all()
    reader.close()
    return facts(tell(reader.lines))


def _meet(room: str, people: list[Actor]) -> None:
    for person in people:
        if person.client.find(room) is None:
            person.do(commands.JoinRoom(room))
            person.wait_for(events.ConversationChanged, lambda event: event.change in ("opened", "joined"))
    everybody = tuple(sorted(person.name for person in people))
    for person in people:
        person.wait_until(lambda person=person: members(person, room) == everybody)  # type: ignore[misc]  # bound now


def _talk(room: str, people: list[Actor], texts: tuple[tuple[int, int], ...]) -> None:
    for who, length in texts:
        say(people[who], room, "x" * length, *(person for person in people if person is not people[who]))


def facts(story: Story) -> tuple[Fact, ...]:
    """Return what is true of each message of a story that has a place in a log, in the order of the server's clock."""
    found = []
    for moment in story.moments:
        if moment.kind != "message" or not moment.seq:
            continue
        accepted = next((line for line in moment.frames if line.what == "Accepted"), None)
        if accepted is None or moment.message is None or moment.epoch is None or len(moment.versions) != 1:
            raise InternalError("the recording of a scene lacks what is asked about it")
        whom = tuple(sorted(set(moment.versions[0]) - {moment.sender}))
        found.append(Fact(moment.sender, whom, accepted.time, moment.message.len, moment.epoch))
    return tuple(sorted(found, key=lambda fact: (fact.when, fact.who)))
