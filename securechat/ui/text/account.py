"""What is said of the user's own account: its key, password, devices and sessions, and what became of lost ones."""

from collections.abc import Iterator
from typing import Final

from securechat.clean import clean_line
from securechat.client.events import (
    AccountDeleted,
    CaChanged,
    DeviceRevoked,
    Devices,
    DeviceShown,
    Event,
    IdentitySucceeded,
    KeyRenewed,
    LostRevoked,
    OwnKeyUsed,
    OwnSessions,
    PasswordReplaced,
    Recovered,
    SecretReplaced,
    SessionShown,
)
from securechat.ui.text.wording import Sentence, alarm, day_of, moment_of, notice, warning

_SIGNED: Final = {
    "certify": "gave a device a new key", "revoke": "revoked a device", "succeed": "named another key as its successor",
    "contest": "denied a successor", "restart": "began anew",
}  # fmt: skip


def said(event: Event, own: str) -> Iterator[Sentence]:
    """Yield what is said of an event, if it is one of these."""
    match event:
        case OwnKeyUsed(shut_out=True):
            yield alarm(
                f"another program with your identity key {_SIGNED[event.what]} on {day_of(event.time)}, and this "
                "device speaks for you no more. If you have recovered on another computer, or revoked this one there, "
                "all is well: go on there. /rotate puts this program in its place. If it was not you, somebody has "
                "your data or your recovery file, and the password: /rotate, change the password, see /devices, "
                "/revoke what is not yours, and tell the others.",
            )
        case OwnKeyUsed():
            yield alarm(
                f"another program with your identity key {_SIGNED[event.what]} on {day_of(event.time)}. Was that "
                "you, with another copy of your data? /rotate makes this program the one that speaks for you. If it "
                "was not, somebody has your data and its password: change that, see /devices, /revoke what is not "
                "yours, and tell the others.",
            )
        case KeyRenewed():
            yield notice(
                f"This device has a new key, good until {day_of(event.until)}: no copy of its data speaks for you now."
            )
        case DeviceRevoked():
            yield notice(
                f"Device {event.device} is revoked: it speaks for you no more, and leaves each conversation with the "
                "next change there."
            )
        case CaChanged():
            yield warning(
                f"The server is known by another CA from now on, as you have asked, {event.pin}; the former is not "
                "trusted any more. If nobody has told you of a new CA in a way that you trust, say nothing here, and "
                "ask the operator."
            )
        case AccountDeleted():
            data = "Your data here goes, too, when you leave." if event.wiped else "Your data stays on this computer."
            yield notice(f"Your account is deleted, and nobody can take its name. {data}")
        case PasswordReplaced():
            file = " The password file still has the old one: put the new one into it." if event.file else ""
            yield notice(
                "Your account and your data here have the new password. Your other devices are logged out; each asks "
                f"for it once it has been opened with the old one.{file}"
            )
        case OwnSessions():
            yield from (notice(_of_session(*each)) for each in enumerate(event.sessions, 1))
        case SecretReplaced():
            when = moment_of(event.time) if event.time else "some time"
            yield warning(
                f"The secret by which the server knows your password is another one since {when}, by a login that this "
                "program did not make: a new password, or a new CA of the server. If it was no program of yours, "
                "somebody can log in as you, and has none of your keys: ask the operator for a code that sets a new "
                "password (securechat admin users reset-password)."
            )
        case IdentitySucceeded():
            yield warning(
                f"You go on under a new identity key, {event.key}, which your old one has named. Your conversations "
                "have ended: /chat opens private ones anew, /join open rooms, and an owner or inviter lets you into "
                "the others. Recovery files of the old key are worthless: make one with securechat recovery --out FILE."
            )
        case Devices():
            yield from (notice(_of_device(event.account, device, own)) for device in event.devices)
        case Recovered():
            yield from _of_recovery(event)
        case LostRevoked(devices=()):
            yield notice(f"No device speaks for {clean_line(own)}: there is nothing to revoke.")
        case LostRevoked():
            yield notice(f"Revoked: {', '.join(event.devices)}. No device speaks for {clean_line(own)} now.")
            yield notice(
                "securechat recover FILE makes this computer one. It enters what somebody else has changed last, until "
                "the next change there; other rooms have to invite you again, and /chat opens private chats anew."
            )


def _of_session(number: int, session: SessionShown) -> str:
    """Return one line about a session of ours."""
    name = f" ({clean_line(session.name)})" if session.name else ""
    own = ", this one" if session.own else ""
    where = f" from {clean_line(session.address)}" if session.address else ""
    since = f", came in {moment_of(session.used)}" if session.used else ""
    until = f"; it can come back without the password until {day_of(session.expires)}" if session.expires else ""
    return f"{number}  device {session.device}{name}{own}: {'here' + where if session.online else 'away'}{since}{until}"


def _of_device(account: str, shown: DeviceShown, own: str) -> str:
    whose = "Your device" if account == own else f"{clean_line(account)}'s device"
    called = f" ({clean_line(shown.name)})" if shown.name else ""
    what = f"{whose} {shown.device}{called}{' (this one)' if shown.own else ''}, since {day_of(shown.since)}"
    heard = f", last heard on {day_of(shown.heard)}" if shown.heard else ""
    if shown.state == "revoked":
        return f"{what}{heard}: revoked{', and not published yet' if shown.unpublished else ''}."
    if shown.state == "older":
        return f"{what}{heard}: another device has taken its place."
    return f"{what}{heard}: certified by key {shown.key} on {day_of(shown.renewed)}, until {day_of(shown.until)}."


def _of_recovery(event: Recovered) -> Iterator[Sentence]:
    if event.kept:
        entered = f"{event.entered} conversation{'' if event.entered == 1 else 's'}"
        yield notice(f"This device is set up from your keepsake of {day_of(event.kept)}: {entered}.")
        yield notice("Whom you met and what you entered since that day is not in it. Earlier messages are gone.")
    else:
        yield warning(
            "This device is set up, but the server has no keepsake of yours: everybody is a first contact, and rooms "
            "have to invite you again."
        )
    if event.missing:
        names = ", ".join(map(clean_line, event.missing))
        yield warning(f"Not entered: {names}. The client goes on trying by itself, whenever it runs.")
    if event.revoked:
        yield notice(f"Your lost devices speak for you no more: {event.revoked} revoked.")
