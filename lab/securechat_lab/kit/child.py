"""Runs in a process of its own: loads one student's file, and answers calls with one line of JSON each.

Its source is handed to the interpreter as it is, so it imports nothing of the lab. Student code can do to this process
what it likes: nobody believes what it says of itself (`sandbox`).

    -> {"name": "defence.py", "source": "...", "guard": "..."}
                                                         <- {"ready": true} or {"error": "...", "line": 3}
    -> {"id": "...", "call": "trust", "args": [...]}     <- {"id": "...", "value": ...} or {"id": ..., "error": ...}

Bytes are {"bytes": "hex"}. The guard is the source of `loopback`: it keeps the file on this machine. Three calls
are ours: `connect` takes the context that the student's `trust` returns, `each` asks a function of each of many values,
and `serve` gives the student's server the socket that came with this process.
"""

import json
import os
import socket
import ssl
import sys
import types
from collections.abc import Callable
from typing import Any

LISTENER = 3
"""The descriptor of the socket for a server, where there is one."""
SWITCH = 1e-5
"""Seconds that a thread of a server has to itself: a five hundredth of what Python gives."""


class NoValueError(Exception):
    """What was returned cannot be handed over; says what it is."""


def encode(value: Any) -> Any:
    """JSON has no bytes. Raises `NoValueError` for what is no value."""
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, list | tuple):
        return [encode(each) for each in value]
    if isinstance(value, dict):
        return {str(key): encode(each) for key, each in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    name = type(value).__name__[:40]
    raise NoValueError(f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}")


def decode(value: Any) -> Any:
    """The way back."""
    if isinstance(value, list):
        return [decode(each) for each in value]
    if isinstance(value, dict):
        if value.keys() == {"bytes"}:
            return bytes.fromhex(value["bytes"])
        return {key: decode(each) for key, each in value.items()}
    return value


def connect(student: types.ModuleType, port: int, host: str, ca: str, secret: bytes) -> str:
    """Connect to `port` on this machine as `host`, by the student's context, and say the secret."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 3) as plain,
            student.trust(ca).wrap_socket(plain, server_hostname=host) as tls,
        ):
            tls.sendall(secret)
            tls.unwrap()
    except ssl.SSLError as error:
        return f"refused: {getattr(error, 'verify_message', '') or error.reason}"
    except OSError as error:
        return f"refused: {error}"
    return "sent"


def serve(student: types.ModuleType, *limits: Any) -> Any:
    """Let the student's server begin. Whoever started this process knows the port, and has no hand on it any more.

    Its threads take turns very often, so that what a lock is missing for is likely to happen.
    """
    sys.setswitchinterval(SWITCH)
    return student.serve(socket.socket(fileno=LISTENER), *limits)


def where(error: BaseException, name: str) -> int:
    """The line of the student's file in which it happened; 0: not there."""
    line, trace = getattr(error, "lineno", 0) or 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == name:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def fault(error: BaseException, name: str) -> dict[str, Any]:
    """What is said of an exception."""
    what = error.msg if isinstance(error, SyntaxError) else str(error)  # the line is told anyway
    return {"error": f"{type(error).__name__}: {what[:200]}", "line": where(error, name)}


def main() -> None:
    """Answer until the other side has gone."""
    reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)  # what the student prints is no answer
    given = json.loads(reader.readline())
    name, student, guard = given["name"], types.ModuleType("student"), types.ModuleType("guard")
    sys.modules["student"] = student
    exec(given["guard"], guard.__dict__)  # noqa: S102  # it is the lab's own
    confined = guard.loopback_only()
    confined.__enter__()  # for good
    try:
        exec(compile(given["source"], name, "exec"), student.__dict__)  # noqa: S102  # that is what this process is for
        said: dict[str, Any] = {"ready": True}
    except BaseException as error:  # noqa: BLE001  # also SystemExit
        said = fault(error, name)
    writer.write(json.dumps(said).encode() + b"\n")
    ours: dict[str, Callable[..., Any]] = {
        "connect": lambda *given: connect(student, *given),
        "serve": lambda *given: serve(student, *given),
        "each": lambda function, items: [getattr(student, function)(item) for item in items],
    }
    for line in reader:
        asked = json.loads(line)
        try:
            call = ours.get(asked["call"]) or getattr(student, asked["call"])
            value = call(*decode(asked["args"]))
            said = {"value": encode(value)}
            text = json.dumps(said | {"id": asked["id"]})
        except NoValueError as what:
            inside = isinstance(value, list | tuple | dict)
            whole = f"a {type(value).__name__} with {what} in it" if inside else str(what)
            text = json.dumps({"error": whole, "returned": True, "id": asked["id"]})
        except BaseException as error:  # noqa: BLE001  # as above
            text = json.dumps(fault(error, name) | {"id": asked["id"]})
        writer.write(text.encode() + b"\n")


if __name__ == "__main__":
    main()
