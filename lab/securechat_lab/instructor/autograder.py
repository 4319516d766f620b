"""Makes the archive with which Gradescope, or a container, grades: this program, and everybody's seeds.

    setup.sh, run_autograder    what Gradescope runs, once and for each hand-in
    seeds.json                  by address, a student's own seed and the graded one; not the key of the course
    Containerfile               the second way: the same in a container
    source/                     securechat and its lab
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Final

import securechat
import securechat_lab
from securechat.errors import UsageError
from securechat.files import write_atomically
from securechat_lab.instructor.course import Course

SETUP: Final = """#!/bin/sh
# Runs once, as root, where hand-ins are going to be graded: Ubuntu 22.04 or newer, Debian 12 or newer.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
export DEBIAN_FRONTEND=noninteractive

fitting() {
    for each in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$each" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$each"
            return
        fi
    done
}

python=$(fitting)
if [ -z "$python" ]; then
    apt-get update -qq
    apt-get install -y -qq python3 python3-venv
    [ -n "$(fitting)" ] || apt-get install -y -qq python3.11 python3.11-venv # Ubuntu 22.04 has it beside its 3.10
    python=$(fitting)
fi
"$python" -m venv /opt/securechat-lab
/opt/securechat-lab/bin/python -m pip install --quiet --disable-pip-version-check "$here/source" "$here/source/lab"
id student >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin student
chmod 0700 "$here"
"""

RUN: Final = """#!/bin/sh
# Runs as root for each hand-in; what students have written runs as somebody else, see the lab's sandbox.
set -eu
root=${1:-/autograder}
mkdir -p "$root/results"
chmod 0700 "$root/source" "$root/results"
exec /opt/securechat-lab/bin/python -m securechat_lab.instructor.gradescope "$root" >/dev/null 2>&1
"""

CONTAINER: Final = """# The second way to grade: in a container without a network.
#   docker build --file Containerfile --tag lab-grader .
#   docker run --rm --network none --volume HAND-IN:/autograder/submission:ro --volume RESULTS:/autograder/results \\
#       --volume METADATA.json:/autograder/submission_metadata.json:ro lab-grader
# METADATA.json: {"users": [{"email": "..."}]}. The image holds everybody's seeds: give it to nobody.
FROM docker.io/library/python:3.12-slim
COPY . /autograder/source
RUN sh /autograder/source/setup.sh && cp /autograder/source/run_autograder /autograder/run_autograder
ENTRYPOINT ["sh", "/autograder/run_autograder"]
"""

SEEDS: Final = "seeds.json"

_PROGRAM: Final = 0o755


def make(course: Course, out: Path) -> None:
    """Write the archive, which only its owner can read. Raises `UsageError`, `StorageError`."""
    roots = [Path(module.__file__ or "").resolve().parents[1] for module in (securechat, securechat_lab)]
    if not all((root / "pyproject.toml").is_file() for root in roots):
        raise UsageError("An autograder is made from a clone of the repository: scripts/lab instructor autograder")
    root, lab = roots
    seeds = {each.email: [course.token(each.id), course.graded(each.id)] for each in course.roster()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (("setup.sh", SETUP), ("run_autograder", RUN)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = _PROGRAM << 16
            archive.writestr(entry, text)
        archive.writestr("Containerfile", CONTAINER)
        archive.writestr(SEEDS, json.dumps(seeds))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            archive.write(root / name, f"source/{name}")
        for name in ("pyproject.toml", "README.md"):
            archive.write(lab / name, f"source/lab/{name}")
        trees = {root / "securechat": "source/securechat", lab / "securechat_lab": "source/lab/securechat_lab"}
        for folder, into in trees.items():
            for file in sorted(folder.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    archive.write(file, f"{into}/{file.relative_to(folder)}")
    write_atomically(out, packed.getvalue())
