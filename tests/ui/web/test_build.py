"""The page that is shipped is what its sources give, byte for byte, and brings the licences of what is in it."""

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from securechat.ui.web.border import SITE

PAGE = SITE.parent / "page"
NODE = shutil.which("node", path=f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")

built = pytest.mark.skipif(
    NODE is None or not (PAGE / "node_modules" / "esbuild").is_dir(),
    reason="scripts/setup interop brings what builds the page",
)


@built
def test_the_page_is_what_its_sources_give(tmp_path: Path) -> None:
    subprocess.run([str(NODE), PAGE / "build.mjs", tmp_path], check=True)
    names = sorted(each.name for each in SITE.iterdir())
    assert names == sorted(each.name for each in tmp_path.iterdir())
    assert filecmp.cmpfiles(SITE, tmp_path, names, shallow=False) == (names, [], [])


@built
def test_its_types_fit() -> None:
    tsc = PAGE / "node_modules" / "typescript" / "bin" / "tsc"
    ordered = [str(NODE), str(tsc), "--noEmit", "--project", str(PAGE)]
    checked = subprocess.run(ordered, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_what_is_in_it_comes_with_its_licence_and_from_nowhere_else() -> None:
    assert "Preact" in (SITE / "LICENSES.txt").read_text()
    assert "MIT" in (SITE / "LICENSES.txt").read_text()
    script = (SITE / "page.js").read_text() + (SITE / "index.html").read_text() + (SITE / "page.css").read_text()
    assert "innerHTML" not in "".join(each.read_text() for each in (PAGE / "src").iterdir())
    for elsewhere in ('src="http', 'href="http', "url(", "@import", "import(", "eval(", "new Function"):
        assert elsewhere not in script, elsewhere


def test_no_other_command_loads_what_carries_the_page() -> None:
    others = "securechat.cli, securechat.ui.scripts, securechat.ui.start, securechat.ui.plain.app"
    loaded = "print(sorted(each for each in sys.modules if each.startswith(('websockets', 'securechat.ui.web'))))"
    for program, wanted in ((others, "[]\n"), ("securechat.ui.web.border", "['securechat.ui.web', ")):
        ran = subprocess.run([sys.executable, "-c", f"import sys, {program}\n{loaded}"],
                             capture_output=True, text=True, check=True)  # fmt: skip
        assert ran.stdout.startswith(wanted)


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((PAGE / "package-lock.json").read_text())
    assert all("resolved" not in each for each in lock["packages"].values())
    assert all("integrity" in each for name, each in lock["packages"].items() if name)
