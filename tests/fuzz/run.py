"""Fuzz one target with atheris: what `scripts/fuzz` starts, one process for each target.

    python -m tests.fuzz.run TARGET SECONDS FOLDER

Seeds are written to FOLDER, which the caller deletes: they may hold secrets. New inputs go to .fuzz/TARGET/, a failing
one to .fuzz/TARGET-crash-...; git ignores both. An input has at most `MAX_INPUT` bytes and `MAX_INPUT_SECONDS`, the
process `MAX_MEMORY` MiB.
"""

import sys
from pathlib import Path

import atheris

from tests.fuzz import registry

with atheris.instrument_imports(include=["securechat"]):
    import securechat.mls.group
    import securechat.tlscodec  # noqa: F401 - imported to be instrumented before the targets use it

MAX_INPUT = 4096
"""Bytes: several times a message of a small group, and small enough for thousands of runs a second."""

MAX_INPUT_SECONDS = 10
"""A hang, on a machine that has other work too."""

MAX_MEMORY = 1024
"""MiB: the interpreter, the coverage counters and the corpus take 200; the rest is room for a leak to show."""

WORK = Path(__file__).parents[2] / ".fuzz"


def main(name: str, seconds: int, folder: Path) -> None:
    """Run until the time is over or an input fails; ends the process with libFuzzer's status."""
    with atheris.instrument_imports(include=["securechat"]):
        target = registry.targets()[name]
        for number, seed in enumerate(registry.seeds()[name]):
            (folder / str(number)).write_bytes(seed)
    found, kept = WORK / name, registry.CORPUS / name
    found.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT}",
        f"-timeout={MAX_INPUT_SECONDS}",
        f"-rss_limit_mb={MAX_MEMORY}",
        f"-artifact_prefix={WORK}/{name}-",
        "-print_final_stats=1",
        "-verbosity=0",
        str(found),
        str(folder),
        *([str(kept)] if kept.is_dir() else []),
    ]
    atheris.Setup(arguments, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
