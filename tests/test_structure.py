"""What imports what: no module of the program imports itself, however indirectly, annotations included."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def module_of(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def named(tree: ast.Module) -> Iterator[str]:
    """Every name that is imported anywhere: at the top, in a function, or for type checkers alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.level == 0, "relative imports are not followed here"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """From each module to those that it imports. A name that is no module is part of the one that it is taken from."""
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        graph[module] = imported = set()
        for name in named(ast.parse(source)):
            target = name if name in sources else name.rpartition(".")[0]
            if target in sources:
                imported.add(target)
    return graph


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """A circle of imports, with its first module again at the end; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found[::-1]
    return []


def test_there_is_no_circle_of_imports() -> None:
    paths = (path.relative_to(ROOT) for path in (ROOT / "securechat").rglob("*.py"))
    sources = {module_of(path): (ROOT / path).read_text() for path in paths}
    assert len(sources) > 100
    assert not circle(import_graph(sources))


@pytest.mark.parametrize(
    "back",
    ["from a import one", "import a", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import one",
     "def late():\n    from a import one"],
)  # fmt: skip
def test_a_circle_is_found(back: str) -> None:
    found = circle(import_graph({"a": "from b import c", "b": "", "b.c": back}))
    assert found in (["a", "b.c", "a"], ["b.c", "a", "b.c"])
    assert not circle(import_graph({"a": "from b import c", "b": "", "b.c": "from b import one"}))


def test_the_view_model_runs_without_the_core() -> None:
    program = (
        "import pkgutil, importlib, sys, securechat.ui.text as text, securechat.ui.view as view\n"
        "for package in (text, view):\n"
        "    for each in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(each.name)\n"
        "print(*(name for name in sys.modules if name.startswith('securechat')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = done.stdout.split()
    assert "securechat.ui.view.timeline" in loaded
    others = {name for name in loaded if name.count(".") and not name.startswith("securechat.ui")}
    core = {"securechat.clean", "securechat.client", "securechat.errors"}
    core |= {f"securechat.client.{each}" for each in ("events", "message", "preferences", "query", "snapshot")}
    core |= {"securechat.names", "securechat.wire", "securechat.wire.limits"}  # how long a name may be
    keys = {"securechat.identity", "securechat.identity.pins"}  # how a key may stand: names, no more
    assert others == core | keys | {"securechat.value"}  # what events are made with


PARTS = {"Parts", "ServerParts", "Timing"}
"""What a weakened build is made with: `client.parts`, `server.parts`."""


def weakened(tree: ast.Module) -> list[str]:
    """Where a program is built from other parts than the product's."""
    found = []
    for each in ast.walk(tree):
        if isinstance(each, ast.Call):
            name, given = ast.unparse(each.func).rpartition(".")[2], each.args + [word.value for word in each.keywords]
            of_parts = name == "replace" and any(ast.unparse(one).endswith("parts") for one in given)
            handed = [ast.unparse(word.value) for word in each.keywords if word.arg == "parts"]
            if (name in PARTS and given) or of_parts or set(handed) - {"parts"}:
                found.append(ast.unparse(each))
    return found


def test_only_the_lab_and_tests_build_from_other_parts() -> None:
    paths = [path for folder in ("securechat", "scripts") for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 300
    assert [(path.name, each) for path in paths for each in weakened(ast.parse(path.read_text()))] == []


@pytest.mark.parametrize(
    "way", ["Parts(record=lax)", "parts.Parts(clock)", "ServerParts(*given)", "Timing(5)", "replace(parts, trust=all)",
            "Parts(**read(file))", "ChatClient(settings, vault, parts=load())"],
)  # fmt: skip
def test_other_parts_are_found(way: str) -> None:
    assert weakened(ast.parse(f"client = {way}"))
    assert not weakened(ast.parse("Parts(); Engine(settings, vault, parts=parts); replace(row, cursor=1)"))


def test_what_a_user_sets_never_meets_the_parts() -> None:
    modules = [ROOT / "securechat/server/process.py", ROOT / "securechat/server/config.py"]
    modules += [ROOT / "securechat/client/settings.py"]
    modules += [*(ROOT / "securechat/cli").rglob("*.py"), *(ROOT / "securechat/ui").rglob("*.py")]
    for path in modules:
        assert not [name for name in named(ast.parse(path.read_text())) if ".parts" in name], path
    users = {path.stem for path in (ROOT / "securechat/client").rglob("*.py") if "client.parts" in path.read_text()}
    assert users == {"core", "engine", "context", "outbox"}  # who takes them, who keeps them, and a constant
