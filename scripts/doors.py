"""Write docs/doors.md: the table of doors as `securechat.client.doors.table` has it.

    .venv/bin/python scripts/doors.py
"""

from pathlib import Path

from securechat.client.doors.table import NAMESAKE, TABLE, Row

PAGE = Path(__file__).resolve().parents[1] / "docs" / "doors.md"

HEAD = """# The table of doors

What a client does with every way into a conversation: `decide(known, offered, pins, now)` in
[table](../securechat/client/doors/table.py), a pure function that looks an offer up in this table. The first row that
takes it decides; one of its checks fails, or no row takes it: refused. `scripts/doors.py` makes this page from the
code, and a test checks that it is current. Why: [design.md](design.md), section 6, Doors.

T: the last state of the conversation that this vault trusted. W: handshakes from there, followed with the group's
secrets; w: without. Told: one line. ASK: one question, which cannot be skipped. Lines: what people wrote and has not
left yet.

| door | known state | offered | checks | user | what waits |
|---|---|---|---|---|---|
"""


def build() -> str:
    """The text of the page as it has to be now."""
    return HEAD + "".join(map(_line, TABLE)) + f"\nBeside all rows: {NAMESAKE}.\n"


def _line(row: Row) -> str:
    checks = "; ".join(check.words for check in row.checks) or "-"
    return f"| {row.name} | {row.known} | {row.offered} | {checks} | {row.user} | {row.lines} |\n"


if __name__ == "__main__":
    PAGE.write_text(build())
