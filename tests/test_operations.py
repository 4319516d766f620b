"""docs/operations.md and the README's table of settings say what the program does."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from prometheus_client import CollectorRegistry

from securechat.server.config import Networks, ServerConfig, load_config
from securechat.server.operator.metrics import ServerCollector
from securechat.server.rate import Rate
from securechat.server.status import Counters, Status
from tests.test_deploy import parse

ROOT = Path(__file__).parents[1]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
NOTHING: dict[str, Any] = dict.fromkeys(Status.__annotations__, 0) | {"held_most": [], "refused_by_rate": {}}
LEVELS = {"info", "warning", "error", "critical"}


def commands(text: str) -> list[list[str]]:
    """All command lines in blocks and in backquotes that call securechat."""
    lines = re.findall(r"^    (.+)$", text, re.MULTILINE) + re.findall(r"`(securechat [^`]+)`", text)
    found = [re.search(r"(?:^|exec securechat )securechat (.*)", line) for line in lines]
    return [shlex.split(each[1], comments=True) for each in found if each is not None]


def test_every_command_that_is_shown_can_be_typed() -> None:
    shown = commands(OPERATIONS)
    assert len(shown) > 15
    assert ["doctor"] in shown
    for command in shown:
        if command not in (["COMMAND", "--help"], ["admin"], ["join"]):  # mentioned, not typed
            parse(command)
    read = parse(["admin", "--data", "x", "users", "add", "NAME", "--days", "3"])
    assert (read["name"], read["days"]) == ("NAME", 3)
    with pytest.raises(click.UsageError):
        parse(["admin", "users", "erase", "NAME"])


def test_every_file_that_is_shown_is_there_and_the_settings_name_the_same() -> None:
    for name in re.findall(r"scripts/deploy/[a-z.]+", OPERATIONS):
        assert (ROOT / name).exists() or name == "scripts/deploy/certs", name
    config = load_config({}, {}, ROOT / "scripts" / "deploy" / "server.toml")
    for path in (config.data, config.cert, config.key):
        assert re.search(rf"{path.parent}/( |\n)|{path}", OPERATIONS), path
    for target in re.findall(r"\]\(([^)#]+)", OPERATIONS):
        assert (ROOT / "docs" / target).exists(), target


def test_the_table_of_metrics_is_that_of_the_program() -> None:
    registry = CollectorRegistry()
    registry.register(ServerCollector(Counters(), lambda: Status(**NOTHING)))
    told = re.findall(r"^\| `(securechat_\w+)` \|", OPERATIONS, re.MULTILINE)
    assert told == sorted(told, key=[metric.name for metric in registry.collect()].index)
    assert set(told) == {metric.name for metric in registry.collect()}


def logged() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Event, level and fields of every line that the server's code can log, from `info` on, but internal errors."""
    for path in (ROOT / "securechat" / "server").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            method, arguments = node.func.attr, node.args
            if method == "log" and ast.unparse(node.func.value) == "log":
                method, arguments = "info", arguments[1:]
            if method not in LEVELS or not ast.unparse(node.func.value).startswith(("log", "get_logger")):
                continue
            for text in (str(each.value) for each in ast.walk(arguments[0]) if isinstance(each, ast.Constant)):
                if "internal error" not in text:
                    yield text, method, frozenset(str(keyword.arg) for keyword in node.keywords)


def test_the_table_of_events_is_that_of_the_program() -> None:
    rows = re.findall(r"^\| `+ ?(.+?)`+ \| (\w+) \| (.*)\|$", OPERATIONS, re.MULTILINE)
    told = {(event, level): frozenset(re.findall(r"`(\w+)`", fields)) for event, level, fields in rows}
    code: dict[tuple[str, str], frozenset[str]] = {}
    for event, level, fields in logged():
        code[event, level] = code.get((event, level), frozenset()) | fields
    assert told == code


def test_the_readme_tells_every_setting_with_its_default() -> None:
    table = (ROOT / "README.md").read_text().partition("## The server's settings")[2]
    told: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", table, re.MULTILINE):
        told |= dict(zip(names.split(", "), defaults.split(", "), strict=True))
    expected = {}
    for name, value in vars(ServerConfig()).items():
        if not isinstance(value, Rate):  # which are in the threat model, and in a test of their own
            shown = "none" if value in ("", None, Networks()) else str(value) if type(value) is int else f"`{value}`"
            expected[f"`{name}`"] = shown.replace("False", "false")
    assert told == expected
