"""What a file costs: a gibibyte from one person to another, through a real server, over TLS on loopback.

Both clients are in this process, one after the other: while one sends, the other does nothing, so the processor time of
each is that of this process meanwhile, with what its front end costs; the server has a process of its own.
"""

import hashlib
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.benchmarks.figure import Figure
from scripts.benchmarks.work.client import Person, served
from securechat.client import commands, events

SIZE: Final = 1 << 30
_AT_ONCE: Final = 1 << 20


def files() -> Iterator[Figure]:
    """Send a file and save it; the digests are compared. One goes before it: what is done once is not counted."""
    with tempfile.TemporaryDirectory() as temporary, served(Path(temporary)) as place:
        folder = place.folder / "saved"
        folder.mkdir()
        source = place.folder / "large"
        with source.open("wb") as file:
            for _ in range(SIZE // _AT_ONCE):
                file.write(os.urandom(_AT_ONCE))
        people = [Person(place, name) for name in ("alice", "bob")]
        for person in people:
            person.until(lambda event: isinstance(event, events.Ready))
            person.do(commands.JoinRoom("#files"))
        alice, bob = people
        room = alice.client.find("#files")
        assert room is not None
        small = place.folder / "small"
        small.write_bytes(os.urandom(_AT_ONCE))
        alice.do(commands.SendFile(room.id, str(small)))
        bob.do(commands.SaveFile(_line(bob), str(folder)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for who, person in (("sender", alice), ("receiver", bob)):
            own, server, begun = time.process_time(), place.cpu(), time.perf_counter()
            if person is alice:
                person.do(commands.SendFile(room.id, str(source)))
            else:
                person.do(commands.SaveFile(_line(person), str(folder)))
            case = f"a file of {SIZE >> 20:,} MiB, its {who}"
            yield Figure(case, "CPU", time.process_time() - own, "s")
            yield Figure(case, "the server's CPU meanwhile", place.cpu() - server, "s")
            yield Figure(case, "time", time.perf_counter() - begun, "s")
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        yield Figure(f"a file of {SIZE >> 20:,} MiB, both", "memory that was added", grown, "MiB")
        assert _digest(source) == _digest(folder / "large")
        for person in people:
            person.close()


def _line(person: Person) -> int:
    """Return the line of the file, once it has come."""
    found: list[int] = []

    def came(event: events.Event) -> bool:
        if isinstance(event, events.Received) and event.message.file is not None:
            found.append(event.message.local_id)
        return bool(found)

    person.until(came)
    return found[0]


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
