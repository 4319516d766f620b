"""What another process has in its memory: every page that it can read, as Linux shows it to whoever started it.

The searcher knows what it looks for, so the process that is searched does not have to hold it.
"""

import re
from pathlib import Path
from typing import Final

_MAPPING: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r")
_AT_ONCE: Final = 16 << 20
_CAP_SYS_PTRACE: Final = 19


def transparent() -> list[str]:
    """The command under which a program has to run so that we can look into it though it forbids that (`dumps`).

    That takes CAP_SYS_PTRACE. Who lacks it here has it in a user namespace of their own (user_namespaces(7)).
    """
    return [] if _has_capability(_CAP_SYS_PTRACE) else ["unshare", "--user", "--map-root-user"]


def blinkered() -> list[str]:
    """The command under which a process looks at others of its user as any user's does, root's included."""
    return ["setpriv", "--bounding-set=-sys_ptrace"] if _has_capability(_CAP_SYS_PTRACE) else []


def _has_capability(number: int) -> bool:
    (effective,) = re.findall(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return bool(int(effective, 16) >> number & 1)


def copies(pid: int, wanted: bytes) -> int:
    """Return how often `wanted` stands in the memory of a process."""
    found = 0
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            mapping = _MAPPING.match(line)
            if mapping is None or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            position, end = (int(each, 16) for each in mapping.groups())
            before = b""
            while position < end:
                memory.seek(position)
                try:
                    content = memory.read(min(_AT_ONCE, end - position))
                except OSError:  # it has let go of it meanwhile, or a device lies there
                    break
                if not content:
                    break
                found += (before + content).count(wanted)
                before = content[-len(wanted) + 1 :]
                position += len(content)
    return found
