"""`securechat admin`: asks the server that runs on a data folder, and prints what it says."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from securechat.server.operator import protocol
from securechat.server.operator.protocol import ask
from securechat.ui.text.clean import clean_line


def show_users(data: Path) -> str:
    """A table of all accounts."""
    reply = ask(data, protocol.ListUsers())
    assert isinstance(reply, protocol.Users)  # noqa: S101  # nosec B101  # what the protocol says
    rows = [
        (each.name, _day(each.created), "yes" if each.enabled else "no", str(each.devices)) for each in reply.users
    ]
    return _table(("user", "since", "enabled", "devices"), rows)


def show_invites(data: Path) -> str:
    """A table of all invites that are good."""
    reply = ask(data, protocol.ListInvites())
    assert isinstance(reply, protocol.Invites)  # noqa: S101  # nosec B101  # what the protocol says
    rows = [(each.id, each.account or "anybody new", _minute(each.expires / 1000)) for each in reply.invites]
    return _table(("id", "for", "until"), rows)


def show_rooms(data: Path) -> str:
    """A table of the rooms that belong to nobody."""
    reply = ask(data, protocol.ListRooms())
    assert isinstance(reply, protocol.Rooms)  # noqa: S101  # nosec B101  # what the protocol says
    rows = [(each.name, str(each.people), " ".join(each.barred) or "nobody") for each in reply.rooms]
    return _table(("room", "people", "barred"), rows)


def make_code(
    data: Path,
    request: protocol.AddUser | protocol.ResetPassword | protocol.CreateInvite,
    line: Callable[[str], str] | None = None,
) -> str:
    """A new code, and what to do with it; `line` puts it into an invite line."""
    reply = ask(data, request)
    assert isinstance(reply, protocol.Code)  # noqa: S101  # nosec B101  # what the protocol says
    user = clean_line(reply.account) or "NAME"
    lines = [
        f"code   {reply.code}",
        f"until  {_minute(reply.expires / 1000)}",
        "It is good once, and is not shown again. Give it to the user in a way that nobody else reads; they run:",
        f"    SECURECHAT_INVITE={reply.code} securechat client --user {user} --register",
    ]
    if line is not None:
        lines += [f"or `securechat join --user {user}`, and paste this line, which holds the code:", line(reply.code)]
    if isinstance(request, protocol.ResetPassword):
        lines += [
            "and choose the password there. The old one works until then; `users disable` stops it at once.",
            "Their history on that computer is encrypted under the password it was made with: if that is lost, so is",
            "the history. They then start with a new --vault, and --new-identity; their contacts will be warned.",
        ]
    return "\n".join(lines)


def show_status(data: Path) -> str:
    """The server's state."""
    reply = ask(data, protocol.GetStatus())
    assert isinstance(reply, protocol.StatusReport)  # noqa: S101  # nosec B101  # what the protocol says
    status = reply.status
    facts = (
        ("state", clean_line(reply.problem) or "ready"),
        ("version", reply.version),
        ("listening on", reply.address),
        ("since", _minute(status.started)),
        ("accounts", f"{status.accounts:,}"),
        ("connections", f"{status.connections:,}, {status.sessions:,} logged in, {status.waiting:,} accounts waiting"),
        ("passwords to check", f"{status.password_queue:,}"),
        ("entries", f"{reply.entries:,} accepted since then, {status.log_entries:,} in the logs"),
        ("store", f"{status.store_bytes / 2**20:,.1f} MiB"),
        ("certificate", f"until {_minute(status.certificate_expires)}"),
    )
    return "\n".join(f"{name:<20}{value}" for name, value in facts)


def do(
    data: Path,
    request: protocol.SetEnabled
    | protocol.RevokeInvite
    | protocol.Speak
    | protocol.ChangeSiteKey
    | protocol.AcceptClock,
) -> None:
    """Carry out a request that only succeeds or fails."""
    ask(data, request)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, *([clean_line(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _minute(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
