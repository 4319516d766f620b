"""A process over a faulty system: clock, fsync, disk, threads, end (the C side, faults.c, is compiled when needed)."""

import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("faults.c")
_SWITCHES = struct.Struct("qqqqqq")


def throw_switches(
    path: Path, *, clock_offset: int = 0, fsync_fails: bool = False, disk_full: bool = False, most_threads: int = 0,
    dies_after: int = 0, slept: int = 0,
) -> None:  # fmt: skip
    """Set the switches in a file that processes have mapped. `clock_offset`: seconds that the clock is ahead;
    `most_threads`: how many each process may start, 0 for any number; `dies_after`: changes of files that it makes
    before it is killed, counted from now on, 0 for any number; `slept`: seconds that the steady
    clock is ahead.
    """
    with path.open("r+b") as file:
        file.write(_SWITCHES.pack(clock_offset, fsync_fails, disk_full, most_threads, dies_after, slept))


class FaultySystem:
    """A faulty system for the processes that run with `environment`; all is well at first."""

    def __init__(self, folder: Path) -> None:
        """Compile into `folder`; needs a C compiler called cc."""
        library, self.switches = folder / "faults.so", folder / "faults"
        compile_it: list[str | Path] = ["cc", "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"]
        subprocess.run(compile_it, check=True)
        self.switches.write_bytes(bytes(_SWITCHES.size))
        self.environment = {"LD_PRELOAD": str(library), "FAULT_SWITCHES": str(self.switches)}

    def set(self, **switches: int) -> None:
        """Set all switches, for running processes too; see `throw_switches`."""
        throw_switches(self.switches, **switches)  # type: ignore[arg-type]  # a bool is an int
