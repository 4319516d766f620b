"""The working group's vectors, through the same runner as `scripts/mls-vectors`."""

import json
from pathlib import Path

import pytest

from tests.mls import vectors
from tests.mls.vectors import FOLDER

FILES = sorted(FOLDER.glob("*.json"))

needs_vectors = pytest.mark.skipif(
    not FILES, reason=f"no MLS test vectors in {FOLDER}: set SECURECHAT_MLS_VECTORS to their folder"
)


@needs_vectors
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_case_of_a_supported_suite_passes(path: Path) -> None:
    passed, counted, wrong = vectors.run_file(path)
    assert not wrong
    assert passed == counted > 0


@needs_vectors
def test_every_check_has_a_file() -> None:
    names = {path.name for path in FILES}
    assert all(any(name.startswith(check) for name in names) for check in vectors.CHECKS)


@needs_vectors
def test_a_vector_with_one_wrong_value_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = json.loads((FOLDER / "psk_secret.json").read_text(encoding="utf-8"))[:2]
    cases[1]["psk_secret"] = "00" * 32
    (tmp_path / "psk_secret.json").write_text(json.dumps(cases), encoding="utf-8")
    assert vectors.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == "psk_secret.json: passed 1 of 2\n1 passed, 1 failed\n"
