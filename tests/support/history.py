"""The history checker: whatever was killed, cut off or overtaken, this must hold for what people see.

Nothing that was accepted is lost, doubled or changed; everybody sees it in one order, the log's; what one person says
stays in the order in which it was said; and nothing is unreadable. What was edited, deleted or put under a line is the
same for all once everything has arrived, and nobody sees an edit without its message: that would be a line that cannot
be read. No line is read by more people than have it, nor by more than it was for; what others have said has no marks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from securechat.client.message import Message


@dataclass(frozen=True)
class View:
    """What one person has of one conversation."""

    reader: str
    lines: Sequence[Message]  # the whole history, in any order
    joined: int = 0  # entries up to this seq are not theirs to read
    left: int | None = None  # nor are those after this one


DELETED = ""
"""What becomes of a text in the end, where it is deleted."""


def check_history(
    said: Mapping[str, Sequence[str]],
    views: Iterable[View],
    *,
    everything_arrived: bool,
    became: Mapping[str, Sequence[str]] = {},
) -> None:
    """Raise `AssertionError` if the views contradict each other or what was said.

    `said`: what each person asked their client to send, in that order, each text unique. `everything_arrived`: there
    was time enough, so each text has to be there. `became`: which texts one was asked to become, one after the other.
    """
    views = list(views)
    log: dict[int, tuple[str, str]] = {}
    became_of_it: dict[int, tuple[object, ...]] = {}
    for view in views:
        for line in view.lines:
            assert not line.problem, f"{view.reader} cannot read entry {line.seq}: {line.problem}"
            marks = (line.read, line.delivered, line.recipients if line.own else 0)
            assert list(marks) == sorted(marks), f"entry {line.seq} of {view.reader} is read by too many: {marks}"
            if line.seq == 0:
                assert not everything_arrived, f"{line.text!r} of {view.reader} still waits"
                continue
            now = (line.sender, line.text)
            known = log.setdefault(line.seq, now)
            if everything_arrived or not became:
                assert known == now, f"entry {line.seq}: {known} and {now}"
            if everything_arrived:
                shown = _what_became(line)
                first = became_of_it.setdefault(line.seq, shown)
                assert first == shown, f"entry {line.seq}: {first} and {shown}"
    for view in views:
        seen = sorted(line.seq for line in view.lines if line.seq)
        assert len(set(seen)) == len(seen), f"{view.reader} sees an entry twice"
        readable = {seq for seq in log if view.joined < seq and (view.left is None or seq <= view.left)}
        assert readable <= set(seen), f"{view.reader} misses {sorted(log[seq] for seq in readable - set(seen))}"
    in_order = [log[seq] for seq in sorted(log)]
    for sender, texts in said.items():
        accepted = [text for author, text in in_order if author == sender]
        chains = [[text, *became.get(text, ())] for text in texts]
        for place, (text, chain) in enumerate(zip(accepted, chains, strict=False)):
            if len(chain) > 1:
                right = text in (chain[-1:] if everything_arrived else chain)
                accepted[place] = chain[0] if right else f"{text!r} of {chain}"
        assert len(set(accepted)) == len(accepted), f"something {sender} said is there twice: {accepted}"
        expected = texts if everything_arrived else texts[: len(accepted)]
        assert accepted == list(expected), f"{sender} said {list(texts)}, and the log has {accepted}"
    strangers = {author for author, _ in in_order} - set(said)
    assert not strangers, f"messages of {strangers}, who said nothing"


def _what_became(line: Message) -> tuple[object, ...]:
    """What was done to a line after it was said, without what each vault has its own of."""
    quote = line.quote
    answers = None if quote is None else (quote.sender, quote.text, quote.edited, quote.state)
    return line.kind, line.edited, line.deleted_by, line.reactions, answers
