"""Exercise B: whatever works on the strong build, as a report that a person reads. It gets no points from a machine."""

import ast
from collections.abc import Iterator
from typing import Final

from securechat_lab.kit.outcomes import VERSIONS, Outcome
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.task import HandIn, Task

ATTACK = '''"""Exercise B: show it. Read README.md first, and run this by yourself: python attack.py

The people here are the real program, on this machine's loopback. `stage.liar` is a server that lies, in front of the
honest one; `stage.mole(name)` is a client that does what no client should.
"""

from securechat_lab.cast.scenes import direct, say
from securechat_lab.kit.stage import Stage, confined


def reproduce(stage):
    """Return True if securechat does not keep what it claims."""
    alice, bob = stage.person("alice"), stage.person("bob")
    direct(alice, bob)
    say(alice, "bob", "how are you?", bob)
    print("bob has:", bob.texts("alice"))
    return False


if __name__ == "__main__":
    with confined(), Stage() as stage:
        print("shown" if reproduce(stage) else "not shown")
'''

PARTS: Final = {
    "Claim": "Which sentence of docs/threat-model.md is not kept? Quote it.",
    "Attacker": "Who does it, by the first table of docs/threat-model.md, and what do they need for it?",
    "Expected": "What should have happened?",
    "Seen": "What has happened instead?",
    "Transcript": "What `python attack.py` printed, all of it, in the newest version of securechat.",
    "Cause": "Where in the program it comes from, as far as you know, and what would mend it.",
}
"""The headings of a report, and what stands under each in the form."""

REPORT: Final = f"# Report: (what it is, in one line)\n\nSeen with {VERSIONS}.\n" + "".join(
    f"\n## {heading}\n\n({question})\n" for heading, question in PARTS.items()
)

WEAKENED: Final = frozenset({"Parts", "ServerParts", "Timing", "setattr", "monkeypatch", "patch"})
"""What a script names that takes another build than the strong one."""


def sections(report: str) -> dict[str, str]:
    """Return what stands under each heading."""
    found: dict[str, str] = {}
    heading, fenced = "", False
    for line in report.splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            heading = line[3:].strip()
        found[heading] = f"{found.get(heading, '')}{line}\n" if line[:3] != "## " or fenced else ""
    return {name: text.strip() for name, text in found.items()}


def filled(report: str, heading: str) -> str:
    """Whether somebody has written something there."""
    text = sections(report).get(heading)
    if text is None:
        return "no such heading"
    return "written" if text.replace(f"({PARTS[heading]})", "").strip() else "nothing was written"


def script(source: str) -> str:
    """What can be seen of a script without running it."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"no Python: {error}"
    if ast.dump(tree) == ast.dump(ast.parse(ATTACK)):
        return "as it was given"
    if not any(isinstance(each, ast.FunctionDef) and each.name == "reproduce" for each in tree.body):
        return "no function reproduce(stage)"
    named = {each.id for each in ast.walk(tree) if isinstance(each, ast.Name)}
    named |= {each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute)}
    if weakened := sorted(named & WEAKENED):
        return f"it names {', '.join(weakened)}: is that still the strong build?"
    return "a script"


def check(hand_in: HandIn, _seed: Seed, _unseen: Seed) -> Iterator[Outcome]:
    """See `Task`. Nothing here is worth a point, and nothing is run: whether it is so, a person finds out."""
    for heading in PARTS:
        yield Outcome(f"report: {heading}", "written", filled(hand_in.report, heading), "report.md", worth=0)
    yield Outcome("reproduction: the script", "a script", script(hand_in.attack), "attack.py", worth=0)


TASK: Final = Task(ATTACK, "", "B", check, report=REPORT)
