"""`scripts/mutants` works: what it alters, that a mutant is noticed by tests that look, and that a run goes on."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

cosmic_ray = pytest.importorskip("cosmic_ray", reason="cosmic-ray is not installed: scripts/setup mutants")

from cosmic_ray.ast import ast_nodes, get_ast  # noqa: E402 - after the check that it is there
from cosmic_ray.mutating import mutate_code  # noqa: E402

from scripts.mutating.operators import OPERATORS  # noqa: E402

ROOT = Path(__file__).parents[1]


def altered(name: str, text: str) -> set[str]:
    """Everything that an operator makes of a text."""
    operator = OPERATORS[name]
    places = [place for node in ast_nodes(get_ast(text)) for place in operator.mutation_positions(node)]
    return {str(mutate_code(text, operator, occurrence)) for occurrence in range(len(places))}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("ConditionFixed", "if a:\n    b\nelif c:\n    d\n",
         {"if False:\n    b\nelif c:\n    d\n", "if True:\n    b\nelif c:\n    d\n",
          "if a:\n    b\nelif False:\n    d\n", "if a:\n    b\nelif True:\n    d\n"}),
        ("ConditionFixed", "a = b if c else d\n", {"a = b if False else d\n", "a = b if True else d\n"}),
        ("ConditionFixed", "[a for a in b if c]\n", {"[a for a in b if False]\n", "[a for a in b if True]\n"}),
        ("OperandDropped", "a = b and c\n", {"a = True and c\n", "a = b and True\n"}),
        ("OperandDropped", "a = b or c\n", {"a = False or c\n", "a = b or False\n"}),
        ("MembershipTurned", "a in b\n", {"a not in b\n"}),
        ("MembershipTurned", "a not in b\n", {"a in b\n"}),
        ("StatementDropped", "def a():\n    b.c()\n    return d()\n", {"def a():\n    pass\n    return d()\n"}),
        ("StatementDropped", "a.b = c\nd = e\n", {"pass\nd = e\n"}),
        ("StatementDropped", "a += 1\n", {"pass\n"}),
        ("StatementDropped", "del a[b]\n", {"pass\n"}),
        ("HandlerEmptied", "try:\n    a\nexcept b.C:\n    d\n", {"try:\n    a\nexcept SystemError:\n    d\n"}),
        ("HandlerEmptied", "try:\n    a\nexcept (b.C, D):\n    f\n",
         {"try:\n    a\nexcept (SystemError, D):\n    f\n", "try:\n    a\nexcept (b.C, SystemError):\n    f\n"}),
        ("TrueTurned", "@a(frozen=True, b=True)\nclass C:\n    d = True\n",
         {"@a(frozen=True, b=False)\nclass C:\n    d = True\n", "@a(frozen=True, b=True)\nclass C:\n    d = False\n"}),
        ("ReplaceComparisonOperator_Lt_LtE", "a < b\n", {"a <= b\n"}),
        ("NumberReplacer", "a = 4\n", {"a = 5\n", "a = 3\n"}),
    ],
)  # fmt: skip
def test_an_operator_alters_what_it_is_for_and_nothing_else(name: str, text: str, expected: set[str]) -> None:
    assert altered(name, text) == expected
    assert altered(name, '"""if a and b in c: d += 4 < 5"""\n') == set()


MODULE = """\
def is_allowed(number: int, most: int = 8) -> bool:
    if number < 1:
        return False
    return number <= most
"""
MUTANTS = 9
"""Two of the condition and of each number, one of each comparison and of the word."""
WEAK = """\
from securechat.one import is_allowed

def test_one() -> None:
    assert is_allowed(5)
"""
STRONG = f"""{WEAK}
def test_the_ends() -> None:
    assert [is_allowed(number) for number in (0, 1, 8, 9)] == [False, True, True, False]
"""
AREAS = 'Area = dict[str, tuple[str, ...]]\nAREAS = {"one": {"securechat/one.py": ("tests/test_one.py",)}}\n'
REASON = """\
[[unchanged]]
file = "securechat/one.py"
before = "return number <= most"
after = "return number < most"
why = "nobody asks"
"""
CONFTEST = 'from hypothesis import settings\nsettings.register_profile("few")\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one small module, which has our tool."""
    shutil.copytree(ROOT / "scripts" / "mutating", tmp_path / "scripts" / "mutating")
    (tmp_path / "scripts" / "mutating" / "areas.py").write_text(AREAS)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\ntimeout = 20\n")
    for name, text in {"__init__": "", "one": MODULE}.items():
        (tmp_path / "securechat" / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / "securechat" / f"{name}.py").write_text(text)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text(CONFTEST)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)  # noqa: S607 - git is where git is
    return tmp_path


def mutants(project: Path, tests: str, *options: str) -> tuple[int, str]:
    """Run the tool on the project with these tests. Returns its exit code and what it printed."""
    (project / "tests" / "test_one.py").write_text(tests)
    command = [sys.executable, "-m", "scripts.mutating", "one", *options]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=100, check=False)
    assert not done.stderr
    return done.returncode, done.stdout


def test_what_tests_do_not_notice_is_printed_until_they_do_or_somebody_says_why(project: Path) -> None:
    code, said = mutants(project, WEAK)
    assert code == 1
    assert "securechat/one.py:4\n@@ -4 +4 @@\n-    return number <= most\n+    return number < most\n" in said
    assert said.endswith(f"one: {MUTANTS} mutants; 1 killed, 8 survived, 0 change nothing, 0 not tried yet\n")
    assert (project / "securechat" / "one.py").read_text() == MODULE, "the work tree is never altered"

    (project / "scripts" / "mutating" / "unchanged.toml").write_text(REASON)
    code, said = mutants(project, WEAK, "--minutes", "0")  # what is known is known
    assert code == 1
    assert "return number <= most" not in said
    assert said.endswith("1 killed, 7 survived, 1 change nothing, 0 not tried yet\n")

    noticed = f"one: {MUTANTS} mutants; {MUTANTS} killed, 0 survived, 0 change nothing, 0 not tried yet\n"
    assert mutants(project, STRONG) == (0, noticed)
    (project / "securechat" / "one.py").write_text(f"{MODULE}\n")
    assert mutants(project, STRONG, "--minutes", "0")[1].endswith(f" {MUTANTS} not tried yet\n")


def test_each_reason_is_of_a_line_that_is_there() -> None:
    for row in tomllib.loads((ROOT / "scripts" / "mutating" / "unchanged.toml").read_text())["unchanged"]:
        text = " ".join(line.strip() for line in (ROOT / row["file"]).read_text().splitlines())
        assert row["before"] in text, row
        assert row["why"], row
