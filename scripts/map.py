"""Write docs/map.md: every file of the program in a line, which is the first line of its docstring.

    python3 scripts/map.py
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAP = ROOT / "docs" / "map.md"

HEAD = """# The map

Every file of the program in a line. `scripts/map.py` makes this page from the first lines of the docstrings, and a test
checks that it is current. How the parts work together: [design.md](design.md).
"""

PLACES = {
    "a refused password": ("server/accounts/passwords", "server/admission/login"),
    "a slow reader": ("server/sequencer/reading", "server/carrying/connection"),
    "a commit that loses a race": ("server/sequencer/commits", "client/conversations/committing"),
    "a held message": ("client/conversations/outbox", "identity/pins"),
    "a full disk": ("server/store/sqlite/writer", "server/sequencer/sequencer"),
    "a hostile frame": ("wire/frames", "wire/protocol"),
    "a hostile line": ("clean",),
    "the safety number": ("identity/safety_number",),
}
"""What newcomers look for, and the modules that have it."""


def build() -> str:
    """The text of the map as it has to be now."""
    places = (f"| {what} | {', '.join(map(_link, modules))} |\n" for what, modules in PLACES.items())
    where = "\n## Where is ...?\n\n| what | where |\n|---|---|\n" + "".join(places)
    packages = [folder for top in ("securechat", "lab/securechat_lab") for folder in _folders(ROOT / top)]
    return HEAD + where + "".join(map(_folder, packages))


def _link(module: str) -> str:
    return f"[{module.rpartition('/')[2]}](../securechat/{module}.py)"


def _folders(top: Path) -> Iterator[Path]:
    """All packages, each before those in it."""
    if (top / "__init__.py").exists():
        yield top
        for each in sorted(top.iterdir()):
            if each.is_dir():
                yield from _folders(each)


def _folder(folder: Path) -> str:
    name = folder.relative_to(ROOT).as_posix()
    text = f"\n## {name}\n\n{_first_line(folder / '__init__.py')}\n"
    modules = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    if modules:
        rows = [f"| [{path.stem}](../{name}/{path.name}) | {_first_line(path)} |\n" for path in modules]
        text += "\n| module | |\n|---|---|\n" + "".join(rows)
    return text


def _first_line(path: Path) -> str:
    """How a module introduces itself, without its citation of the design."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise SystemExit(f"{path} has no docstring: its first line belongs into the map")
    line = docstring.partition("\n")[0]
    line = re.sub(r" \(docs/design\.md[^)]*\)|,? docs/design\.md, sections? [^.]*", "", line)
    return line.replace("|", "\\|").rstrip(":")


if __name__ == "__main__":
    MAP.write_text(build(), encoding="utf-8")
