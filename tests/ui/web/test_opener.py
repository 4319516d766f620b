"""How the page's address gets to the person: by a file that nobody else can read, or on standard output."""

import sys
import webbrowser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from securechat.ui.web.app import _opener

ADDRESS = "http://127.0.0.1:4711/#a-key-that-is-good-once"

NOTES = """
import os, sys, urllib.request
path = urllib.request.url2pathname(sys.argv[1].partition("://")[2])
modes = [oct(os.stat(each).st_mode & 0o777) for each in (path, os.path.dirname(path))]
open(os.environ["NOTED"], "w").write("\\n".join([sys.argv[1], *modes, open(path).read()]))
"""


def test_a_browser_gets_the_path_of_a_file_that_leads_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted, program = tmp_path / "noted", tmp_path / "browser.py"
    program.write_text(NOTES)
    monkeypatch.setenv("NOTED", str(noted))
    monkeypatch.setattr(webbrowser, "_tryorder", ["ours"])
    monkeypatch.setattr(
        webbrowser, "_browsers", {"ours": [None, webbrowser.GenericBrowser([sys.executable, str(program), "%s"])]}
    )
    with _opener(browser=True) as show:
        show(ADDRESS)
        given, mode, folder, page = noted.read_text().split("\n", 3)
        assert "key" not in given  # every process can read arguments
        assert (mode, folder) == ("0o600", "0o700")
        assert f'content="0; url={ADDRESS}"' in page
        show(ADDRESS)  # again, for another tab
        file = Path(urlsplit(given).path)
        assert file.exists()
    assert not file.exists()


def test_without_a_browser_it_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with _opener(browser=False) as show:
        show(ADDRESS)
    out, errors = capfd.readouterr()
    assert out == f"{ADDRESS}\n"
    assert "good once" in errors
    assert "key" not in errors
