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
def test_every_case_passes(path: Path) -> None:
    passed, counted, wrong = vectors.run_file(path)
    assert not wrong
    assert passed == counted > 0


@needs_vectors
def test_every_format_and_every_cipher_suite_has_cases() -> None:
    cases = [case for path in FILES for case in json.loads(path.read_text(encoding="utf-8"))]
    assert {vectors.check_for(case) for case in cases} == set(vectors.FORMATS.values())
    assert {case.get("cipher_suite", 1) for case in cases} == set(range(1, 8))


def run_folder(folder: Path, name: str, content: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """What the tool says about a folder with one file: exit code, output, errors."""
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")
    code = vectors.main([str(folder)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@needs_vectors
def test_a_vector_with_one_wrong_value_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = json.loads((FOLDER / "psk_secret.json").read_text(encoding="utf-8"))[:2]
    good = run_folder(tmp_path, "psk_secret.json", cases, capsys)
    assert good == (0, "psk_secret.json: passed 2 of 2\n2 passed, 0 failed\n", "")
    cases[1]["psk_secret"] = "00" * 32
    code, out, _ = run_folder(tmp_path, "psk_secret.json", cases, capsys)
    assert (code, out) == (1, "psk_secret.json: passed 1 of 2\n1 passed, 1 failed\n")


@needs_vectors
def test_a_case_is_recognized_whatever_its_file_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [json.loads(path.read_text(encoding="utf-8"))[0] for path in FILES]
    code, out, errors = run_folder(tmp_path, "anything.json", cases, capsys)
    assert (code, errors) == (0, "")
    assert out == f"anything.json: passed {len(FILES)} of {len(FILES)}\n{len(FILES)} passed, 0 failed\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("{}", "not a list"),
        ("[]", "not a list"),
        ('[{"new": 1}]', "not known"),
        ("[7]", "not known"),
        ('[{"n_leaves": 1, "tree_before": ""}]', "not known"),
        ('[{"n_leaves": "many"}]', "case 0"),
        ('[{"vlbytes_header": "zz", "length": 1}]', "case 0"),
        ('[{"psks": [], "psk_secret": "", "cipher_suite": 8}]', "not supported"),
    ],
)
def test_what_is_no_vector_is_reported_as_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, reason: str
) -> None:
    code, out, errors = run_folder(tmp_path, "treekem.json", content, capsys)
    assert (code, out) == (1, "treekem.json: passed 0 of 1\n0 passed, 1 failed\n")
    assert reason in errors
