"""Hostile hand-ins: each gets a sentence, and none stops whoever asks."""

import fcntl
import os
import pwd
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.errors import UsageError
from securechat_lab.kit import sandbox
from securechat_lab.kit.sandbox import MAX_PRINTED, SPENT, Patience, Student, StudentError
from tests.support.waiting import wait_until

HONEST = "def double(x):\n    print('computing')\n    return x * 2\n"


def ask(source: str, *, seconds: float = 20.0, call: str = "f") -> str:
    """What its author is told."""
    with pytest.raises(StudentError) as raised, Student("defence.py", source) as student:
        student.call(call, 1, seconds=seconds)
    return str(raised.value)


def test_an_honest_file_is_asked_as_often_as_one_likes() -> None:
    with Student("defence.py", HONEST + "def echo(*x): return x") as student:
        assert [student.call("double", each) for each in (2, "ab", b"\x01")] == [4, "abab", b"\x01\x01"]
        values = [None, True, 1.5, "ü", [b"", {"a": b"\xff"}]]
        assert student.call("echo", *values) == values
        large = os.urandom(20_000)
        assert student.call("echo", large) == [large]  # more than a pipe holds at once, both ways
        student.call("double", 1)
    assert student.printed.startswith(b"computing\n")


AT_ONCE = {
    "is no Python": ("def f(x:\n", "cannot be loaded, line 1: SyntaxError"),
    "fails as it is loaded": ("x = 1\n1 / 0\n", "cannot be loaded, line 2: ZeroDivisionError"),
    "exits as it is loaded": ("import sys\nsys.exit(0)", "cannot be loaded, line 2: SystemExit: 0"),
    "ends its process as it is loaded": ("import os\nos._exit(3)", "ended by itself, with exit code 3"),
    "has no such function": ("def g(x): return x", "AttributeError: module 'student' has no attribute 'f'"),
    "takes other arguments": ("def f(): return 1", "TypeError: f() takes 0 positional arguments but 1 was given"),
    "raises": ("def f(x):\n    return x[0]", "f() failed in defence.py, line 2: TypeError"),
    "exits": ("def f(x): raise SystemExit(5)", "line 1: SystemExit: 5"),
    "ends its process": ("import os\ndef f(x): os._exit(7)", "ended by itself, with exit code 7"),
    "kills its process": ("import os\ndef f(x): os.kill(os.getpid(), 9)", "was ended by SIGKILL"),
    "crashes its interpreter": ("import ctypes\ndef f(x): ctypes.string_at(0)", "was ended by SIGSEGV"),
    "recurses": ("def f(x): return f(x)", "RecursionError"),
    "answers what is no value": ("def f(x): return object()", "f() of defence.py returned an object: lists, dicts,"),
    "answers a set": ("def f(x): return {1}", "f() of defence.py returned a set: "),
    "answers a set in a list": ("def f(x): return [[{1}]]", "f() of defence.py returned a list with a set in it: "),
    "answers itself": ("def f(x):\n    y = []\n    y.append(y)\n    return y", "RecursionError"),
    "answers 10 MB": ("def f(x): return 'x' * 10_000_000", "longer than 64 KiB"),
    "prints 20 MB": ("def f(x):\n    print('x' * 20_000_000)\n    return 1", "printed more than 16 MiB"),
    "wants 3 GiB": ("def f(x): return len(bytearray(3 << 30))", "line 1: MemoryError"),
    "wants 5,000 threads": (
        (
            "import threading, time\ndef f(x):\n    for _ in range(5000):\n"
            "        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
        ),
        "RuntimeError: can't start new thread",
    ),
    "writes to our pipe": (
        (
            "import os\ndef f(x):\n    for fd in range(3, 9):\n        try: os.write(fd, b'[1, 2]\\n')\n"
            "        except OSError: pass\n    return 1"
        ),
        "gave an answer that is none",
    ),
    "answers before it is asked": (
        (
            "import os\nfor fd in range(3, 9):\n"
            "    try: os.write(fd, b'{\"ready\": true}\\n{\"id\": \"1\", \"value\": 1}\\n')\n"
            "    except OSError: pass\ndef f(x): return 1"
        ),
        "an answer that nobody had asked for",
    ),
    "writes 10 MB to the disk": (
        "def f(x):\n    with open('big', 'wb') as file:\n        file.write(bytes(10 << 20))",
        "OSError: [Errno 27] File too large",
    ),
    "opens 1,000 files": ("def f(x): return [open('/dev/null') for _ in range(1000)] and 1", "Too many open files"),
}  # fmt: skip


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No two of these at once, in all processes of a run: the limit on processes and threads counts what a user has in
    all of them, and some take as many as they get while another one wants one thread."""
    folder = os.open(tmp_path_factory.getbasetemp().parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    yield
    os.close(folder)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("source", "told"), AT_ONCE.values(), ids=AT_ONCE)
def test_a_file_that(source: str, told: str) -> None:
    assert told in ask(source)


SLOW = {
    "loops": "def f(x):\n    while True: pass",
    "loops, and takes no exception": (
        "def f(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass"
    ),
    "reads its input": "import sys\ndef f(x):\n    while True: sys.stdin.read()",
    "stops itself": "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGSTOP)",
    "closes its pipes but one": "import os, time\ndef f(x):\n    os.close(0); os.close(2); time.sleep(60)",
}


@pytest.mark.parametrize("source", SLOW.values(), ids=SLOW)
def test_a_file_that_never_answers_since_it(source: str) -> None:
    assert ask(source, seconds=0.5) == "defence.py did not answer within 0.5 s: an endless loop?"


def test_after_its_end_each_call_says_why() -> None:
    with Student("attack.py", "def f(x):\n    while True: pass") as student:
        for _ in range(2):
            with pytest.raises(StudentError, match=r"attack.py did not answer within 0.2 s"):
                student.call("f", 1, seconds=0.2)


def test_files_that_are_slow_at_each_call_have_so_much_time_together_and_no_more() -> None:
    patience, source = Patience(), "import time\ndef f(x):\n    time.sleep(x)\n    return x"
    with Student("attack.py", source, patience=patience) as attack:
        assert attack.call("f", 0.1) == 0.1
        patience._seconds = 1.0  # now, however long it has taken to start
        with pytest.raises(StudentError) as raised:
            attack.call("each", "f", [0.5] * 5)
    assert str(raised.value) == SPENT
    with pytest.raises(StudentError) as raised:
        Student("defence.py", HONEST, patience=patience)
    assert str(raised.value) == SPENT
    with Student("defence.py", HONEST, patience=Patience()) as other:
        assert other.call("double", 4) == 8


def test_of_what_a_file_prints_the_beginning_is_kept_and_it_goes_on() -> None:
    with Student("defence.py", "def f(x):\n    print(x * 1_000_000)\n    return x") as student:
        for letter in "abcde":
            assert student.call("f", letter) == letter
        assert student.printed == b"a" * MAX_PRINTED


CONNECTS = """
import socket
def f(port, host):
    with socket.create_connection((host, port), 1) as link:
        link.sendall(b"it was I")
    return "sent"
"""


def test_a_file_connects_to_this_machine_and_to_no_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Student("attack.py", CONNECTS) as student:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            assert student.call("f", port, host) == "sent"
            link, _ = server.accept()
            with link:
                assert link.recv(8) == b"it was I"
        for host in ("192.0.2.1", "uni.example", "0.0.0.0"):  # noqa: S104  # nobody listens there
            with pytest.raises(StudentError, match=f"The lab stays on this machine, and something .*'{host}'"):
                student.call("f", port, host)


ELSEWHERE = {
    "sends a datagram": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))",
    "asks for a name": "socket.gethostbyname('uni.example')",
    "listens to everybody": "socket.create_server(('', 0))",
    "does it in another thread": "futures.ThreadPoolExecutor().submit(socket.getaddrinfo, 'uni.example', 9).result()",
}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("way", ELSEWHERE.values(), ids=ELSEWHERE)
def test_nothing_leaves_this_machine_of_a_file_that(way: str) -> None:
    told = ask(f"from concurrent import futures\nimport socket\ndef f(x): return {way} and 1")
    assert "The lab stays on this machine, and something wanted to use" in told


ESCAPES = {
    "forks": "os.fork()",
    "takes a session of its own": "os.fork() or os.setsid()",
    "forks twice": "os.fork() or (os.setsid(), os.fork(), os.fork())",
    "is a fork bomb": "\n    while True:\n        try: os.fork()\n        except OSError: pass",
}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("way", ESCAPES.values(), ids=ESCAPES)
def test_nothing_is_left_of_a_file_that(way: str) -> None:
    marker = f"left-{secrets.token_hex(4)}"  # a process's name has 15 letters at most
    source = (
        f"import os, time\ndef f(x):\n    os.environ['M'] = '{marker}'\n    {way}\n    time.sleep(600)\n"
        f"import ctypes\nctypes.CDLL(None).prctl(15, b'{marker}', 0, 0, 0)\n"
    )
    with Student("defence.py", source) as student:
        assert named(marker)
        with pytest.raises(StudentError):
            student.call("f", 1, seconds=0.5)
    wait_until(lambda: not named(marker))


def named(name: str) -> list[str]:
    """The processes of this name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            found += [str(path)] if path.read_text().strip() == name else []
        except OSError:
            continue
    return found


def test_student_code_is_another_user_than_root_and_sees_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_KEY", "secret")
    source = (
        "import os, resource, sys\n"
        "def f(x): return [os.getuid(), sorted(os.environ), os.listdir('.'), sys.argv, sys.flags.isolated]\n"
        "def g(x): return [os.getsid(0) == os.getpid(), sys.flags.dont_write_bytecode,"
        " resource.getrlimit(resource.RLIMIT_CPU)]"
    )
    with Student("defence.py", source) as student:
        uid, environment, here, arguments, isolated = student.call("f", 1)
        assert student.call("g", 1) == [True, 1, [sandbox.CPU_SECONDS] * 2]
    assert uid != 0 or os.geteuid() != 0
    assert (here, arguments, isolated) == ([], ["-c"], 1)
    assert "COURSE_KEY" not in environment


@pytest.mark.parametrize(("home", "uid"), [("none", 1001), ("", 1002)], ids=["an autograder's", "somebody's"])
def test_where_we_are_root_it_is_the_user_student_if_that_is_nobodys_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, uid: int
) -> None:
    known = [("root", 0, "/root"), ("nobody", 1002, "/nonexistent"), ("student", 1001, str(tmp_path / home))]
    users = [pwd.struct_passwd((name, "x", number, number, "", where, "")) for name, number, where in known]
    starts: Callable[[str, int], bool] = lambda _python, _uid: True  # noqa: E731  # one line says it
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    monkeypatch.setattr(sandbox, "_starts_as", starts)
    assert sandbox._other_user() == (sys.executable, uid)


def test_who_is_not_root_runs_it_as_themselves_within_the_same_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # the sandbox asks nothing else of the system
    with Student("defence.py", HONEST + "import os\ndef who(x): return os.getuid()") as student:
        assert student.call("double", 4) == 8
        assert student.call("who", 1) == os.getuid()
    assert "MemoryError" in ask("def f(x): return len(bytearray(3 << 30))")


def test_as_root_without_another_user_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    no_python: Callable[[str, int], bool] = lambda _python, _uid: False  # noqa: E731  # one line says it
    monkeypatch.setattr(sandbox, "_starts_as", no_python)
    with pytest.raises(UsageError, match="does not run as root"):
        Student("defence.py", HONEST)


SERVER = """
def serve(listener, greeting):
    print("serving")
    while True:
        link, _ = listener.accept()
        link.sendall(greeting)
        link.close()
"""


def test_a_server_gets_a_socket_that_listens_and_nothing_listens_once_it_is_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        student = Student("defence.py", SERVER, listener=listener)
    with student:
        student.start("serve", b"hello")
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port)) as link:
                assert link.makefile("rb").read() == b"hello"
        student.look()
    assert student.printed == b"serving\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize(("source", "told"), [
    ("def serve(*_): return 1", "serve() of defence.py returned: a server goes on."),
    ("def serve(*_): 1 / 0", "serve() of defence.py failed, line 1: ZeroDivisionError"),
    ("def serve(*_): raise SystemExit(3)", "serve() of defence.py failed, line 1: SystemExit: 3"),
    ("import os\ndef serve(*_): os._exit(3)", "ended by itself, with exit code 3"),
    ("def serve(*_):\n    while True: print('x' * 1000)", "printed more than 16 MiB"),
], ids=["returns", "fails", "exits", "ends its process", "prints without end"])  # fmt: skip
def test_what_becomes_of_a_server_is_told_when_one_looks(source: str, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        student = Student("defence.py", source, listener=listener)
    with student:
        student.start("serve")
        said = []

        def ended() -> bool:
            try:
                student.look()
            except StudentError as error:
                said.append(str(error))
            return bool(said)

        wait_until(ended)
    assert told in said[0]


def test_the_sandbox_leaves_no_process_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tmp_path.chmod(0o711)
    before = children()
    with Student("defence.py", HONEST) as student:
        assert student.call("double", 4) == 8
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
    assert children() <= before


def children() -> set[str]:
    """The processes that this one has started, and that are there: those of earlier tests may go meanwhile."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
