"""`securechat admin`: asks the server that runs on a data folder, and prints what it says."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from securechat.clean import clean_line
from securechat.server.operator import protocol
from securechat.server.operator.protocol import Request, ask
from securechat.ui.called import program


def answer(data: Path, request: Request, *, as_json: bool, line: Callable[[str], str] | None = None) -> str:
    """Ask, and return what is printed of the reply; empty: nothing. `line` puts a new code into an invite line.

    `as_json`: one JSON object, for programs (docs/operations.md), with the fields that `protocol` gives the reply.
    """
    reply = ask(data, request)
    if as_json:
        more = {"line": line(reply.code)} if line is not None and isinstance(reply, protocol.Code) else {}
        return to_json(reply, more)
    match reply:
        case protocol.Users(users):
            return _table(("user", "since", "enabled", "devices"), map(_user, users))
        case protocol.Sessions(sessions):
            rows = [
                (each.account, each.device[:8], each.address, "in" if each.seated else "waits", f"{each.unread:,}")
                for each in sessions
            ]
            return _table(("user", "device", "from", "seat", "unread bytes"), rows)
        case protocol.TopReport(accounts, rooms):
            heads = ("user", "held", "files", "sessions", "messages/s")
            return f"{_table(heads, map(_top, accounts))}\n\n{_all_rooms(rooms)}"
        case protocol.Invites(invites):
            found = [(each.id, each.account or "anybody new", _minute(each.expires / 1000)) for each in invites]
            return _table(("id", "for", "until"), found)
        case protocol.Rooms(named):
            seen = [(each.name, str(each.people), " ".join(each.barred) or "nobody", _rules(each)) for each in named]
            return _table(("room", "people", "barred", "rules"), seen)
        case protocol.AllRooms(rooms):
            return _all_rooms(rooms)
        case protocol.Announced(devices):
            return f"sent to {devices:,} devices"
        case protocol.Code():
            return _code(reply, reset=isinstance(request, protocol.ResetPassword), line=line)
        case protocol.StatusReport():
            return _status(reply)
        case _:
            return ""


def to_json(value: object, more: Mapping[str, object] | None = None) -> str:
    """Write what a command has found, and `more`, without the name of its type."""
    found = msgspec.to_builtins(value)
    found.pop("type", None)
    return json.dumps(found | dict(more or {}), ensure_ascii=True)


def _user(user: protocol.User) -> Sequence[str]:
    enabled = "deleted" if user.deleted else "yes" if user.enabled else "no"
    return user.name, _day(user.created), enabled, str(user.devices)


def _top(account: protocol.TopAccount) -> Sequence[str]:
    sizes = _size(account.held_bytes), _size(account.file_bytes)
    return account.name, *sizes, str(account.sessions), f"{account.per_second:,.1f}"


def _all_rooms(rooms: Iterable[protocol.TopRoom]) -> str:
    rows = [
        (each.name or ("a private chat" if each.kind == "direct" else "no name"), each.kind, each.founder or "-",
         _size(each.held_bytes), each.id)
        for each in rooms
    ]  # fmt: skip
    return _table(("room", "kind", "begun by", "held", "id"), rows)


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


def _rules(room: protocol.Room) -> str:
    """Say which version the rules of a room have, and what they wait for."""
    if not room.rising:
        return f"version {room.version}" if room.version else ""
    waits = f"once newer programs are with {' '.join(room.behind)}" if room.behind else "when somebody next speaks"
    return f"version {room.version}, {room.rising} {waits}"


def _code(reply: protocol.Code, *, reset: bool, line: Callable[[str], str] | None) -> str:
    """A new code, and what to do with it; `line` puts it into an invite line."""
    user = f" --user {clean_line(reply.account)}" if reply.account else ""
    until = f"until  {_minute(reply.expires / 1000)}"
    once = "is good once, and is not shown again. Give it to the user in a way that nobody else reads;"
    if line is not None:  # which holds the code
        return "\n".join([
            until, f"The line {once}", f"they run `{program()} join{user}`, and paste it:", line(reply.code)
        ])  # fmt: skip
    lines = [
        f"code   {reply.code}", until, f"It {once} they run:",
        f"    SECURECHAT_INVITE={reply.code} {program()} client{user} --register",
    ]  # fmt: skip
    if reset:
        lines += [
            "and choose the password there. The old one works until then; `users disable` stops it at once.",
            "Their history on that computer is encrypted under the password it was made with: if that is lost, so is",
            "the history. They then start with a new --vault, and --new-identity; their contacts will be warned.",
        ]
    return "\n".join(lines)


def _status(reply: protocol.StatusReport) -> str:
    """The server's state."""
    status = reply.status
    facts = [
        ("state", clean_line(reply.problem) or "ready"),
        ("version", reply.version),
        ("listening on", reply.address),
        ("since", _minute(status.started)),
        ("accounts", f"{status.accounts:,}"),
        ("connections", f"{status.connections:,}, {status.sessions:,} logged in, {status.waiting:,} accounts waiting"),
        ("queues", _queues(reply)),
        ("refused by a rate", _refused(status.refused_by_rate)),
        ("entries", f"{reply.entries:,} accepted since then, {status.log_entries:,} in the logs"),
        ("store", f"{status.store_bytes / 2**20:,.1f} MiB"),
        ("disk", _disk(reply)),
        ("held by accounts", _held(reply)),
        ("files", _files(reply)),
        ("certificate", f"until {_minute(status.certificate_expires)}"),
    ]
    if lost := status.commits_passed_over:
        facts.append(("lost at the start", f"{lost:,} commits of the store: its write-ahead log was damaged"))
    return "\n".join(f"{name:<20}{value}" for name, value in facts)


def _queues(reply: protocol.StatusReport) -> str:
    status = reply.status
    return (
        f"{status.password_queue:,} passwords, {status.validation_queue:,} commits, "
        f"{status.reading_queue:,} portions of history, {status.moving_queue:,} parts of files, "
        f"{status.turn_queue:,} requests"
    )


def _refused(by_rate: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} by {rate}" for rate, count in by_rate.items() if count) or "nobody"


def _disk(reply: protocol.StatusReport) -> str:
    status = reply.status
    free, spare, floor, reserve = (
        f"{size / 2**20:,.0f} MiB"
        for size in (
            status.disk_free_bytes, status.reusable_bytes, status.disk_floor_bytes, status.disk_reserve_bytes
        )
    )  # fmt: skip
    return f"{free} free, {spare} to spare in the store; the floor is {floor}, the reserve {reserve}"


def _held(reply: protocol.StatusReport) -> str:
    status = reply.status
    most = ", ".join(f"{size / 2**20:,.1f}" for size in status.held_most) or "none"
    return (
        f"{status.held_bytes / 2**20:,.1f} MiB; of those that hold most: {most}; each may hold "
        f"{status.quota_bytes / 2**20:,.0f} MiB"
    )


def _files(reply: protocol.StatusReport) -> str:
    status = reply.status
    return (
        f"{_size(status.blob_bytes)} of {status.blob_most_bytes / 2**20:,.0f} MiB, each account may have "
        f"{status.blob_account_bytes / 2**20:,.0f} MiB; {status.uploads:,} uploads are not finished"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, *([clean_line(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _minute(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
