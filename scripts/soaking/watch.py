"""What a server process takes: memory, processor, disk. Linux."""

import os
from pathlib import Path


def memory(pid: int) -> float:
    """Resident memory, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def processor(pid: int) -> float:
    """Processor time used so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def size(path: Path) -> float:
    """A file's size in MiB; 0 if there is none."""
    return path.stat().st_size / (1 << 20) if path.exists() else 0.0
