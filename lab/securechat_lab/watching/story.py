"""The story that a recording tells: what network, server and people saw of the same thing, joined into moments.

Frames join by conversation and seq; a submission joins its place by connection, conversation and number, as `Accepted`
repeats them; records join by the bytes that they carried. What cannot be joined stands alone. The same lines tell the
same story, whatever they claim: nothing here trusts a line, and the work grows as n log n.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from securechat.clean import clean_line
from securechat_lab.watching.recording import Line

Kind = Literal["message", "commit", "departure", "statement", "word", "entry", "login", "alarm", "clear", "other"]

MAX_RECORDS: Final = 256
"""Records that one frame is joined with: the largest has 2 MiB, in records of 16 KiB."""

MAX_READERS: Final = 8
"""Readers of a conversation whose histories are compared: more columns fit on no screen."""

MAX_BRANCHES: Final = 4
"""Branches of a history that are told apart."""

MAX_PEOPLE: Final = 8
"""People whose screens are shown."""

_SUBMITTED: Final = frozenset(("Submit", "Commit", "OpenDirect", "Leave"))
_KINDS: Final[dict[str, Kind]] = {
    "message": "message", "commit": "commit", "departure": "departure", "statement": "statement", "word": "word",
}  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """Something that happened, as everybody saw it."""

    t: float
    kind: Kind
    what: str
    """The name of the frame or event that it began with."""
    conversation: str
    seq: int
    """0: it has no place in a log."""
    number: int
    epoch: int | None
    sender: str
    refused: str
    """Why the server did not take it; empty: nothing of the kind."""
    frames: tuple[Line, ...]
    records: tuple[Line, ...]
    screens: tuple[Line, ...]
    versions: tuple[tuple[str, ...], ...]
    """Who got the same bytes, a group for each version; the sender is in the first."""
    missing: tuple[str, ...]
    """Who reads the conversation and was not shown this."""
    branches: int
    """How many histories of the conversation there are, after this."""
    on: frozenset[int]
    """In which of them this is."""
    new: frozenset[int]
    """Which of them begin here."""

    @property
    def main(self) -> bool:
        """Whether it is shown without being asked for."""
        return self.kind != "other"

    @property
    def text(self) -> str:
        """What was said, as far as a screen has shown it."""
        said = [line for line in self.screens if line.what in ("said", "delivered", "received")]
        return said[0].text if said else ""

    @property
    def message(self) -> Line | None:
        """The frame with the MLS message, as its sender has sent it, or else as the first reader got it."""
        return _message(self.frames)


@dataclass(frozen=True)
class Story:
    """All of it."""

    title: str
    moments: tuple[Moment, ...]
    people: tuple[str, ...]
    """Whose screens are recorded."""
    records: tuple[Line, ...]
    """All that the network saw."""
    accounts: dict[int, str]
    """Whose a connection is: the server knows that, the network does not."""
    names: dict[str, str]
    """What people call the conversations."""
    problems: tuple[str, ...]
    end: float

    def name(self, conversation: str) -> str:
        """What a conversation is called."""
        return self.names.get(conversation) or conversation[:6]


@dataclass
class _Draft:
    """A moment that is still being put together."""

    index: int
    t: float
    kind: Kind
    frames: list[Line] = field(default_factory=list)
    screens: list[Line] = field(default_factory=list)
    records: list[Line] = field(default_factory=list)
    seq: int = 0
    refused: str = ""
    versions: dict[str, dict[str, None]] = field(default_factory=dict)  # by digest, who has it, in order
    missing: tuple[str, ...] = ()
    branches: int = 1
    on: frozenset[int] = frozenset((0,))
    new: frozenset[int] = frozenset()
    into: "_Draft | None" = None  # what has absorbed it

    @property
    def sender(self) -> str:
        named = [line.sender for line in (*self.frames, *self.screens) if line.sender not in ("", "server")]
        return named[0] if named else ""

    def absorb(self, other: "_Draft") -> None:
        """Take over what another one has; in order, all of it is put in the end."""
        self.t = min(self.t, other.t)
        self.frames.extend(other.frames)
        self.screens.extend(other.screens)
        other.into = self

    @property
    def final(self) -> "_Draft":
        """What has absorbed it, or itself."""
        if self.into is None:
            return self
        found = self.into
        while found.into is not None:
            found = found.into
        self.into = found  # the way is shorter the next time
        return found


Place = tuple[str, int]


class _Telling:
    """The join, line by line in the order of time."""

    def __init__(self) -> None:
        self.title = ""
        self.drafts: dict[int, _Draft] = {}
        self.places: dict[Place, _Draft] = {}
        self.records: list[Line] = []
        self.people: dict[str, None] = {}
        self.accounts: dict[int, str] = {}
        self.names: dict[str, set[str]] = defaultdict(set)
        self.truncated: dict[tuple[str, str], int] = {}  # by conversation and reader: what is before was given up
        self._submitted: dict[tuple[int, str, int], _Draft] = {}
        self._by_digest: dict[tuple[str, str], _Draft] = {}
        self._said: dict[tuple[str, int], _Draft] = {}
        self._told: dict[str, tuple[str, _Draft]] = {}  # to whom: about which conversation, and the newest change in it
        self._commits: dict[tuple[str, int], _Draft] = {}  # by conversation and epoch that one leads to

    def take(self, index: int, line: Line) -> None:
        """The next line."""
        if line.layer == "scene":
            self.title = line.text
        elif line.layer == "network":
            self.records.append(line)
            if line.what == "clear":
                self._draft(index, line, "clear").frames.append(line)
        elif line.layer == "server":
            self._server(index, line)
        else:
            self._person(index, line)

    def _draft(self, index: int, line: Line, kind: Kind) -> _Draft:
        draft = self.drafts[index] = _Draft(index, line.t, kind)
        return draft

    def _find(self, place: Place) -> _Draft | None:
        found = self.places.get(place)
        return None if found is None else found.final

    def _place(self, index: int, line: Line, kind: Kind) -> _Draft:
        place = (line.conversation, line.seq)
        found = self._find(place)
        if found is None:
            found = self.places[place] = self._draft(index, line, kind)
            found.seq = line.seq
        return found

    def _absorb(self, draft: _Draft, other: _Draft) -> None:
        if draft is not other:
            draft.absorb(other)
            del self.drafts[other.index]

    def _server(self, index: int, line: Line) -> None:
        found: _Draft | None
        if line.what in _SUBMITTED:
            draft = self._draft(index, line, _KINDS.get(line.text, "entry"))
            self._submitted[_key(line)] = draft
            self._by_digest[line.conversation, line.digest] = draft
        elif line.what == "Accepted":
            draft = self._accepted(index, line)
        elif line.what == "Entry":
            draft = self._entry(index, line)
        elif line.what == "Refused" and (found := self._submitted.pop(_key(line), None)):
            draft = found.final
            draft.refused = line.text or "refused"
        elif line.what in ("Acknowledge", "Welcomed") and (found := self._find((line.conversation, line.seq))):
            draft = found
        else:
            draft = self._draft(index, line, "login" if line.what == "LoggedIn" else "other")
        draft.frames.append(line)
        if line.what == "LoggedIn":
            self.accounts[line.conn] = line.to
        if line.what == "Truncated":
            key = (line.conversation, line.to)
            self.truncated[key] = max(line.seq, self.truncated.get(key, 0))
        if draft.kind == "commit" and line.epoch is not None:
            self._commits.setdefault((line.conversation, line.epoch + 1), draft)

    def _accepted(self, index: int, line: Line) -> _Draft:
        place = self._find((line.conversation, line.seq))
        draft = self._submitted.pop(_key(line), None)
        if draft is None:
            return place or self._place(index, line, "entry")
        draft = draft.final
        if place is not None:  # a reader had it before its sender had the answer
            self._absorb(place, draft)
            return place
        draft.seq = line.seq
        self.places[line.conversation, line.seq] = draft
        return draft

    def _entry(self, index: int, line: Line) -> _Draft:
        place = (line.conversation, line.seq)
        found = self._find(place)
        if found is None:
            submitted = self._by_digest.get((line.conversation, line.digest))
            if submitted is None or submitted.final.seq:
                return self._place(index, line, _KINDS.get(line.text, "entry"))
            found = self.places[place] = submitted.final
            found.seq = line.seq
        return found

    def _person(self, index: int, line: Line) -> None:
        self.people.setdefault(line.to)
        place = self._find((line.conversation, line.seq)) if line.seq else None
        about, change = self._told.get(line.to, ("", None))
        if line.what == "said":
            draft = self._said[line.to, line.local] = self._draft(index, line, "message")
        elif line.what in ("delivered", "received") and line.seq:
            draft = place or self._place(index, line, "message")
            said = self._said.pop((line.to, line.local), None) if line.what == "delivered" else None
            if said is not None:
                said.t = max(said.t, draft.t)  # it counts from when it left
                self._absorb(draft, said.final)
        elif line.what == "conversation":
            self.names[line.conversation] |= {line.text} if line.text.startswith("#") else {line.to, line.text}
            commit = self._commits.get((line.conversation, line.epoch or 0))
            draft = self._draft(index, line, "other") if commit is None else commit.final
            self._told[line.to] = (line.conversation, draft)
        elif place is not None:
            draft = place
        elif line.what in ("warning", "alarm"):
            draft = self._draft(index, line, "alarm")
        elif line.what != "presence" and change is not None and about == line.conversation != "":
            draft = change.final  # what is said of a change comes right after it
        else:
            draft = self._draft(index, line, "other")
        draft.screens.append(line)

    def compare(self) -> None:
        """Find out who was shown what, and where that differs."""
        logs: dict[str, list[_Draft]] = defaultdict(list)
        for (conversation, seq), draft in sorted(self.places.items(), key=lambda item: item[0]):
            if draft.into is None and draft.seq == seq:
                logs[conversation].append(draft)
        for conversation, log in logs.items():
            self._compare(conversation, log)

    def _compare(self, conversation: str, log: list[_Draft]) -> None:
        spans: dict[str, tuple[int, int]] = {}
        for draft in log:
            for reader in _versions(draft):
                first, _ = spans.get(reader, (draft.seq, 0))
                spans[reader] = (first, draft.seq)
        readers = list(spans)[:MAX_READERS]
        branch = dict.fromkeys(readers, 0)
        count = 1
        for draft in log:
            seen = {reader for group in draft.versions.values() for reader in group}
            draft.missing = tuple(
                reader
                for reader in readers
                if reader not in seen
                and spans[reader][0] < draft.seq < spans[reader][1]
                and draft.seq >= self.truncated.get((conversation, reader), 0)
            )
            groups: dict[tuple[int, str], list[str]] = {}
            for digest, got in draft.versions.items():
                for reader in got:
                    if reader in branch:
                        groups.setdefault((branch[reader], digest), []).append(reader)
            for reader in draft.missing:
                groups.setdefault((branch[reader], ""), []).append(reader)
            before, taken, new = count, set[int](), set[int]()
            for (old, _), group in groups.items():
                if old in taken and count < MAX_BRANCHES:
                    new.add(count)
                    branch.update(dict.fromkeys(group, count))
                    count += 1
                taken.add(old)
            draft.branches = count
            draft.new = frozenset(new)
            on = {branch[reader] for group in draft.versions.values() for reader in group if reader in branch}
            draft.on = frozenset(on) if before > 1 or new else frozenset((0,))


def _key(line: Line) -> tuple[int, str, int]:
    return line.conn, line.conversation, line.number


def _versions(draft: _Draft) -> Iterable[str]:
    """Fill in who got which bytes; return who they are."""
    for line in sorted(draft.frames, key=lambda line: line.what not in _SUBMITTED):  # the sender's version is the first
        reader = {"Entry": line.to}.get(line.what, line.sender if line.what in _SUBMITTED else "")
        if line.digest and reader:
            draft.versions.setdefault(line.digest, {}).setdefault(reader)
    return [reader for group in draft.versions.values() for reader in group]


def tell(lines: Sequence[Line], problems: Iterable[str] = ()) -> Story:
    """Return the story of the lines of a recording; `problems`: what is wrong with that."""
    telling = _Telling()
    for index, line in sorted(enumerate(lines), key=lambda pair: (pair[1].t, pair[0])):
        telling.take(index, line)
    telling.compare()
    _join_records(telling.drafts.values(), telling.records)
    names = {
        conversation: next((name for name in sorted(called) if name.startswith("#")), " & ".join(sorted(called)[:3]))
        for conversation, called in telling.names.items()
    }
    return Story(
        title=clean_line(telling.title),
        moments=tuple(
            _moment(draft) for draft in sorted(telling.drafts.values(), key=lambda draft: (draft.t, draft.index))
        ),
        people=tuple(telling.people)[:MAX_PEOPLE],
        records=tuple(telling.records),
        accounts=telling.accounts,
        names={conversation: clean_line(name) for conversation, name in names.items()},
        problems=tuple(problems),
        end=max((line.t for line in lines), default=0.0),
    )


def _join_records(drafts: Iterable[_Draft], records: list[Line]) -> None:
    """Give each moment the records that carried its frames."""
    streams: dict[tuple[int, str], list[Line]] = defaultdict(list)
    for record in records:
        if record.size:
            streams[record.conn, record.way].append(record)
    starts = {}
    for key, stream in streams.items():
        stream.sort(key=lambda record: record.at)
        starts[key] = [record.at for record in stream]
    for draft in drafts:
        joined: dict[int, Line] = {}
        for frame in draft.frames:
            if frame.layer == "network":  # in the clear: it is its own record
                joined[id(frame)] = frame
                continue
            stream = streams.get((frame.conn, frame.way), [])
            position = max(bisect_right(starts.get((frame.conn, frame.way), []), frame.at) - 1, 0)
            for record in stream[position : position + MAX_RECORDS]:
                if record.at >= frame.at + frame.size:
                    break
                if record.at + record.size > frame.at:
                    joined[id(record)] = record
        draft.records = sorted(joined.values(), key=lambda record: (record.t, record.conn, record.at))


def _when(line: Line) -> float:
    return line.t


def _message(frames: Iterable[Line]) -> Line | None:
    found = [line for line in frames if line.digest]
    return next((line for line in found if line.what in _SUBMITTED), found[0] if found else None)


def _moment(draft: _Draft) -> Moment:
    draft.frames.sort(key=_when)
    draft.screens.sort(key=_when)
    message = _message(draft.frames)
    first = (draft.frames or draft.screens)[0]
    shown = message or first
    sender = draft.sender or (first.to if draft.kind in ("login", "alarm", "other") else "")
    groups = [tuple(group) for group in draft.versions.values()]
    return Moment(
        t=draft.t, kind=draft.kind, what=first.what, conversation=shown.conversation, seq=draft.seq,
        number=shown.number, epoch=shown.epoch, sender=sender, refused=draft.refused, frames=tuple(draft.frames),
        records=tuple(draft.records), screens=tuple(draft.screens), versions=tuple(groups), missing=draft.missing,
        branches=draft.branches, on=draft.on, new=draft.new,
    )  # fmt: skip
