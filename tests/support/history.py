"""The history checker: whatever was killed, cut off or overtaken, this must hold for what people see.

Nothing that was accepted is lost, doubled or changed; everybody sees it in one order, the log's; what one person says
stays in the order in which it was said; and nothing is unreadable.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from securechat.client.events import Message


@dataclass(frozen=True)
class View:
    """What one person has of one conversation."""

    reader: str
    lines: Sequence[Message]  # the whole history, in any order
    joined: int = 0  # entries up to this seq are not theirs to read
    left: int | None = None  # nor are those after this one


def check_history(said: Mapping[str, Sequence[str]], views: Iterable[View], *, everything_arrived: bool) -> None:
    """Raise `AssertionError` if the views contradict each other or what was said.

    `said`: what each person asked their client to send, in that order, each text unique. `everything_arrived`: there
    was time enough, so each text has to be there.
    """
    views = list(views)
    log: dict[int, tuple[str, str]] = {}
    for view in views:
        for line in view.lines:
            assert not line.problem, f"{view.reader} cannot read entry {line.seq}: {line.problem}"
            if line.seq == 0:
                assert not everything_arrived, f"{line.text!r} of {view.reader} still waits"
                continue
            known = log.setdefault(line.seq, (line.sender, line.text))
            assert known == (line.sender, line.text), f"entry {line.seq}: {known} and {(line.sender, line.text)}"
    for view in views:
        seen = sorted(line.seq for line in view.lines if line.seq)
        assert len(set(seen)) == len(seen), f"{view.reader} sees an entry twice"
        readable = {seq for seq in log if view.joined < seq and (view.left is None or seq <= view.left)}
        assert readable <= set(seen), f"{view.reader} misses {sorted(log[seq] for seq in readable - set(seen))}"
    in_order = [log[seq] for seq in sorted(log)]
    for sender, texts in said.items():
        accepted = [text for author, text in in_order if author == sender]
        assert len(set(accepted)) == len(accepted), f"something {sender} said is there twice: {accepted}"
        expected = texts if everything_arrived else texts[: len(accepted)]
        assert accepted == list(expected), f"{sender} said {list(texts)}, and the log has {accepted}"
    strangers = {author for author, _ in in_order} - set(said)
    assert not strangers, f"messages of {strangers}, who said nothing"
