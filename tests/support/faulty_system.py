"""A process over a faulty system: its clock, its fsync, its disk (the C side is faults.c, compiled when needed)."""

import mmap
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("faults.c")
_SWITCHES = struct.Struct("qqq")


class FaultySystem:
    """Switches for the processes that run with `environment`; all off at first."""

    def __init__(self, folder: Path) -> None:
        """Compile into `folder`; needs a C compiler called cc."""
        library, switches = folder / "faults.so", folder / "faults"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)  # noqa: S607 - whichever is installed
        switches.write_bytes(bytes(_SWITCHES.size))
        with switches.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SWITCHES.size)
        self.environment = {"LD_PRELOAD": str(library), "FAULT_SWITCHES": str(switches)}

    def set(self, *, clock_offset: int = 0, fsync_fails: bool = False, disk_full: bool = False) -> None:
        """Throw the switches, for running processes too. `clock_offset`: seconds that the clock is ahead."""
        _SWITCHES.pack_into(self._memory, 0, clock_offset, fsync_fails, disk_full)
