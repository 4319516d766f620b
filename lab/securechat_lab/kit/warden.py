"""Runs between the lab and a student's process: starts it with its limits, and ends all that has come of it.

Its source is handed to the interpreter as it is, so it imports nothing of the lab. On Linux it is a subreaper: whatever
a student's program leaves behind, by double fork or a session of its own, becomes its child, and is found. It lives
until its standard input ends, ends everything then, and says how the student's process has ended.

    warden.py TALK_IN TALK_OUT LOG LISTENER FOLDER UID CPU_SECONDS MEMORY PROCESSES PYTHON CHILD_SOURCE

LISTENER is a socket that listens, for a student's server, or -1.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36
FILE_SIZE = 1 << 20
"""Bytes of a file that a student's program writes."""
OPEN_FILES = 64
ROUNDS = 1000
"""Rounds of looking for processes that are left: each ends all that are there."""


def tasks_of(uid: int) -> int:
    """Threads that a user has now: the limit on processes counts them, too."""
    count = 0
    for name in os.listdir("/proc") if os.path.isdir("/proc/self/task") else ():
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == uid:
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            pass
    return count


def children(of: int) -> list[int]:
    """The processes whose parent this one is."""
    found = []
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent == of:
                found.append(int(name))
    return found


def begin(folder: str, uid: int, cpu: int, memory: int, processes: int) -> None:
    """Become a student's process."""
    os.setsid()
    os.chdir(folder)
    user = uid if uid >= 0 else os.getuid()
    limits = [
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NPROC, processes + tasks_of(user)),
    ]
    for what, most in limits:
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):  # macOS has no limit of memory, and refuses it
            pass
    if uid >= 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)


def end_all(student: int) -> int:
    """End whatever is left, and return how the student's process has ended."""
    status = 0
    for each in (student, -student):
        try:
            os.kill(each, signal.SIGKILL)
        except OSError:
            pass
    for _ in range(ROUNDS):
        for left in children(os.getpid()):
            try:
                os.kill(left, signal.SIGKILL)
            except OSError:
                pass
        try:
            pid, how = os.wait()
        except ChildProcessError:
            break
        if pid == student:
            status = how
    return status


def main() -> None:
    """See the module."""
    given = [fd for fd in map(int, sys.argv[1:5]) if fd >= 0]
    folder, python, source = sys.argv[5], sys.argv[10], sys.argv[11]
    uid, cpu, memory, processes = map(int, sys.argv[6:10])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    student = os.fork()
    if not student:
        try:
            begin(folder, uid, cpu, memory, processes)
            for number, fd in enumerate(given):  # each is above the number that it gets, or has it
                os.dup2(fd, number)
            os.closerange(len(given), 256)
            environment = {"HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
            os.execve(python, [python, "-I", "-B", "-u", "-c", source], environment)
        finally:
            os._exit(127)
    for fd in given:
        os.close(fd)
    while os.read(0, 1):
        pass
    print(end_all(student))


if __name__ == "__main__":
    main()
