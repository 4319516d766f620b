"""The second half of `scripts/setup`: make or refresh .venv. Standard library only; POSIX.

A stamp in .venv says what was installed from what: interpreter, path of the repository, pyproject.toml. As long as it
fits, there is nothing to do. Of several calls at once, one works and the others wait.

The variable VENV names another folder than .venv: `scripts/test --python` keeps one for each interpreter.

The lab (lab/, a distribution of its own) comes with any of them: the tests are built on its people. Two extras are
special. `interop` consists of foreign programs, which exist for some systems only, and npm packages.
`sslyze` is a dependency group with an environment of its own, .venv/sslyze, because it cannot be installed beside our
`cryptography`. Whatever of these cannot be had is named, and the set-up goes on without it; its tests skip.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / os.environ.get("VENV", ".venv")
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "securechat.json"
LAB = ROOT / "lab"

INTEROP = ROOT / "tests" / "interop"
PAGE = ROOT / "securechat" / "ui" / "web" / "page"
INTEROP_STAMP = VENV / "interop.json"
SSLYZE = VENV / "sslyze"
SSLYZE_STAMP = VENV / "sslyze.json"
TRY_AGAIN = 3600
"""Seconds until a failed installation is tried again: a try without a network takes a while."""


def main(wanted: set[str]) -> None:
    """Leave a .venv that has securechat and at least the wanted extras, or exit with a message."""
    interpreter = f"{sys.version} {os.path.realpath(sys.executable)} {ROOT}"
    projects = [(folder / "pyproject.toml").read_bytes() for folder in (ROOT, LAB)]
    project = hashlib.sha256(b"\0".join(projects)).hexdigest()
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process
        stamp = read_stamp(STAMP)
        same_interpreter = stamp.get("interpreter") == interpreter and PYTHON.exists()
        needed = wanted - {"interop", "sslyze"}
        extras = needed | set(stamp.get("extras", [])) if same_interpreter else needed
        if not (same_interpreter and stamp.get("project") == project and extras == set(stamp["extras"])):
            install(extras, {"interpreter": interpreter, "project": project}, fresh=not same_interpreter)
        if "interop" in wanted:
            install_interop()
        if "sslyze" in wanted:
            install_sslyze()


def install(extras: set[str], origin: dict[str, str], *, fresh: bool) -> None:
    """Install securechat with its extras, into a `fresh` .venv or the old one, and write the stamp."""
    print(f"setting up {VENV.name} (once; about a minute) ...", file=sys.stderr, flush=True)
    STAMP.unlink(missing_ok=True)  # until this is done, nothing can be relied on
    if fresh:
        run([sys.executable, "-m", "venv", "--clear", str(VENV)], f"cannot make {VENV.name}")
    ours = extras - {"lab"}
    packages = ["--editable", f"{ROOT}[{','.join(sorted(ours))}]" if ours else str(ROOT)]
    if extras:
        packages += ["--editable", str(LAB)]
    run(
        [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
        "pip cannot install what securechat needs; is there a network?",
    )
    STAMP.write_text(json.dumps({**origin, "extras": sorted(extras)}))


def install_interop() -> None:
    """Install as much of the extra `interop` as can be had, and name the rest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = project["optional-dependencies"]["interop"]
    packages = [(INTEROP / "package.json").read_text(), (PAGE / "package-lock.json").read_text()]
    origin = hashlib.sha256(json.dumps([requirements, *packages]).encode()).hexdigest()
    if is_settled(INTEROP_STAMP, origin, PAGE / "node_modules"):
        return
    print("fetching other implementations of MLS, and what builds the page ...", file=sys.stderr, flush=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    failed = {requirement: attempt([*pip, requirement]) for requirement in requirements}
    npm = shutil.which("npm", path=f"{PYTHON.parent}{os.pathsep}{os.environ.get('PATH', '')}")
    quietly = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
    for name, folder, how in (
        ("tests/interop/package.json", INTEROP, ["install", "--no-package-lock"]),
        ("securechat/ui/web/page/package.json", PAGE, ["ci"]),
    ):
        failed[name] = attempt([str(npm), *how, "--prefix", str(folder), *quietly]) if npm else "there is no npm"
    settle(INTEROP_STAMP, origin, failed)


def install_sslyze() -> None:
    """Install sslyze into an environment of its own, or say that it cannot be had."""
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["sslyze"]
    origin = hashlib.sha256(json.dumps(requirements).encode()).hexdigest()
    if is_settled(SSLYZE_STAMP, origin, SSLYZE):
        return
    print("fetching sslyze to scan our TLS with ...", file=sys.stderr, flush=True)
    pip = [str(PYTHON), "-m", "pip", "--python", str(SSLYZE / "bin" / "python"), "install"]
    # sslyze itself is pure Python and exists as source only; the rest must not need compiling.
    quietly = ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--no-binary", "sslyze"]
    said = attempt([sys.executable, "-m", "venv", "--clear", "--without-pip", str(SSLYZE)])
    settle(SSLYZE_STAMP, origin, {"sslyze": said or attempt([*pip, *quietly, *requirements])})


def settle(stamp: Path, origin: str, failed: dict[str, str | None]) -> None:
    """Note what was installed from `origin` and what failed, which is told: what to what was said, None for nothing."""
    missing = {what: said for what, said in failed.items() if said is not None}
    for what, said in missing.items():
        print(f"{said}\ncannot install {what}: going on without, and the tests that need it will skip", file=sys.stderr)
    stamp.write_text(json.dumps({"origin": origin, "missing": sorted(missing), "tried": time.time()}))


def is_settled(path: Path, origin: str, installed: Path) -> bool:
    """Whether all of it is installed, or could not be installed a short while ago."""
    stamp = read_stamp(path)
    if stamp.get("origin") != origin:
        return False
    if stamp["missing"]:
        return bool(time.time() < stamp["tried"] + TRY_AGAIN)
    return installed.is_dir()


def read_stamp(path: Path) -> dict[str, Any]:
    """What is installed; nothing if there is no readable stamp."""
    try:
        stamp = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def attempt(command: list[str]) -> str | None:
    """Run a step quietly; return its output if it failed."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout if done.returncode else None


def run(command: list[str], complaint: str) -> None:
    """Run a step quietly; if it fails, show its output and exit."""
    said = attempt(command)
    if said is not None:
        sys.exit(f"{said}\n{complaint}")


if __name__ == "__main__":
    main(set(sys.argv[1:]))
