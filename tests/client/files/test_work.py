"""The threads that do jobs with files: what their end leaves undone, and what it does not."""

from pathlib import Path
from queue import SimpleQueue
from typing import Any

from securechat.client.files.jobs import Clear, Outcome, Reached, Save, Seal, Sealed
from securechat.client.files.placing import new_temporary_name
from securechat.client.files.sealing import Digest, Progress
from securechat.client.files.work import Work
from securechat.value import value

DATA = b"said in confidence"
WAIT_SECONDS = 60


@value
class Endless(Seal):
    """As the sealing of a large file: it goes on until it is stopped."""

    def run(self, progress: Progress) -> Sealed:
        while True:
            progress(0)


def saving(transfer: int, folder: Path, name: str) -> Save:
    temporary = new_temporary_name()
    return Save(transfer, 0, folder=folder, temporary=temporary, name=name, data=DATA, digest=Digest.of(DATA))


def test_at_the_end_what_clears_up_is_done_and_the_rest_is_left(tmp_path: Path) -> None:
    """A file was saved, another one is being sent and a third waits when its user quits."""
    folder = tmp_path / "saved"
    folder.mkdir()
    done: SimpleQueue[Outcome] = SimpleQueue()
    work = Work(done.put)
    first = saving(1, folder, "first.txt")
    work.do(first)
    assert done.get(timeout=WAIT_SECONDS).result == folder / "first.txt"
    assert {each.name for each in folder.iterdir()} == {first.temporary, "first.txt"}
    fields: dict[str, Any] = {"key": bytes(32), "blob": bytes(16), "inline": 0, "most": 1, "disposition": "attachment"}
    work.do(Endless(2, 0, source=tmp_path / "large", copy=tmp_path / "2", **fields))
    assert isinstance(done.get(timeout=WAIT_SECONDS).result, Reached)
    work.do(saving(3, folder, "third.txt"))
    clear = Clear(1, 0, tmp_path / "1", folder, first.temporary)
    work.do(clear)
    work.close()
    assert [each.name for each in folder.iterdir()] == ["first.txt"]
    assert (folder / "first.txt").read_bytes() == DATA
    jobs = [done.get_nowait().job for _ in range(done.qsize())]
    assert jobs[-1] == clear
    assert 3 not in {each.transfer for each in jobs}
