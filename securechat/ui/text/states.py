"""What is said of states: why something waits, or cannot be said, and what the user can do about it."""

from typing import Final

from securechat.clean import clean_line
from securechat.client.events import Held, PasswordWanted, PreferenceChanged, Unreachable
from securechat.client.snapshot import ConversationSnapshot
from securechat.ui.text.trust import ACCEPTED, TRUST
from securechat.ui.text.wording import MAX_NAMED, day_of, in_words, names_of, title

NOBODY_YET: Final = "Nobody hears you yet: /msg USER TEXT talks to somebody, /join #room enters a room."
NOBODY_HEARS: Final = "You are in none of your conversations: /go lists them, and /go NAME talks there."
"""Why nothing can be said where no conversation is current: there is none, or none was chosen."""

ENDS: Final = {
    ("closed", True): "You and {0} have both said bye: the chat is over. /chat {0} asks for a new one.",
    ("leaving", True): "You have ended the chat with {0}. /chat {0} asks for a new one.",
    ("leaving", False): "You are leaving {0}: nothing more comes from there.",
    ("not-opened", True): "There is no chat with {0}.",
    ("not-opened", False): "You have not come into {0}.",
    ("given-up", True): "The earlier chat with {0} is over: another one takes its place.",
    ("given-up", False): "The earlier {0} is over for you: you come into it anew.",
}
"""How a conversation comes to its end here (`events.Change`), and whether it is one of two."""

NOWHERE: Final = {
    "bye": "You and {0} have both said bye: that chat is over. /chat {0} asks for a new one.",
    "direct": "You have no chat with {0} now. /chat {0} asks for one.",
    "invite": "You are not in {0}: whoever may invite there can let you in.",
    "open": "You are not in {0}. /join {0} enters it.",
}
"""Why nothing can be said in a closed conversation: both have said bye, or by its kind."""

ARRIVED: Final = {
    "direct": "You are talking with {0} now.",
    "room": "You are talking in {0} now.",
    "requested": "You are talking with {0}, who has yet to agree to the chat.",
    "own-bye": "You have said bye to {0}, and {0} has not: the chat ends when {0} says it too.",
    "their-bye": "{0} has said bye, and you have not: /bye ends the chat.",
    "closed": "{0} is over: what was said there can be read.",
}
"""What is said to who goes to a conversation; of what else keeps them from talking there, see `why_silent`."""

BEGINS: Final = "Another conversation begins here: what is above it can be read, and not answered or changed any more."
"""What is said between two conversations of one name, where they are shown one after the other."""

MISSING: Final = {
    "away": "the server kept them until you had been away too long, or they were too many, and then deleted them.",
    "restored": "the log leaps there, as it does when the server was restored from a backup that lacks them.",
    "re-entered": "this device could not read on there, and has come in again behind them.",
}
"""Why messages are missing (`events.Gap`)."""


PREFERRED: Final = {
    ("send-marks", "on"): "Others learn what you have received and read",
    ("send-marks", "off"): "Nobody learns what you have received and read",
    ("show-marks", "on"): "You see what others have received and read",
    ("show-marks", "off"): "You do not see what others have received and read",
    ("send-typing", "on"): "Others see when you type",
    ("send-typing", "off"): "Nobody sees when you type",
    ("show-typing", "on"): "You see when others type",
    ("show-typing", "off"): "You do not see when others type",
    ("presence", "on"): "You are told who comes and goes",
    ("presence", "off"): "You are not told who comes and goes",
    ("notify", "sender"): "A notice says who has written",
    ("notify", "text"): "A notice says who has written, and what",
    ("notify", "new"): "A notice says that there is something new, and no more",
    ("notify", "none"): "No notice comes",
    ("notify-of", "all"): "A notice comes of every message",
    ("notify-of", "mentions"): "A notice comes of messages that mention you, and of those in private",
    ("notify-by", "bell"): "A notice is the bell of the terminal",
    ("notify-by", "terminal"): "A notice is shown by the terminal, if it can",
    ("notify-by", "desktop"): "A notice is shown by the desktop, if it can",
    ("quiet", "off"): "Notices come at any hour",
    ("link", "ask"): "You are told if somebody offers a direct link",
    ("link", "off"): "Nobody learns this machine's address, and there are no direct links",
}
"""What the user prefers (`client.preferences`)."""

LINKED: Final = {
    "ask": "You are told if {who} offers a direct link.",
    "private": "{who} may learn this machine's address in your network, for direct links.",
    "anywhere": "{who} may learn this machine's address, also a public one, for direct links.",
    "off": "{who} learns no address of this machine, and there are no direct links to {who}.",
}
"""The same of direct links to one person."""


def preference(name: str, value: str) -> str:
    """Return what the user prefers, without a full stop."""
    return PREFERRED.get((name, value)) or f"No notice comes at {value.replace('-', ' to ')}"


def preferred(event: PreferenceChanged, conversation: ConversationSnapshot | None) -> str:
    """Return what the user prefers from now on, and where."""
    where = in_words(conversation)
    if event.name == "link" and event.value and conversation is not None:
        return LINKED[event.value].format(who=title(conversation))
    said = preference(event.name, event.value)
    if not event.value:
        if conversation is None:
            return "Where you have not said otherwise, this is as it was at first."
        return f"In {where}, what you have said for all conversations counts."
    if conversation is None:
        return f"{said}, in all conversations of which you have not said otherwise."
    return f"{said} in {where}."


def why_held(event: Held, conversation: ConversationSnapshot | None) -> str:
    """Return why a message waits, for whose keys, and what decides."""
    where = in_words(conversation)
    named = [f"{clean_line(each.account)} (key {each.key}: {TRUST[each.trust].words})" for each in event.whose]
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    whose = ", ".join(named[:MAX_NAMED]) + more
    if event.after_absence:
        new = f" New there: {whose}." if named else ""
        return (
            f"Your message in {where} waits: you were away for more than a week, and nobody can prove that the server "
            f"shows the newest state.{new} See /who; an empty line (Enter alone) sends it."
        )
    first = event.whose[0]
    who = clean_line(first.account)
    which = f"{who} {first.key}"
    if event.two_holders:
        return (
            f"Your message to {who} waits: two programs hold the key {first.key}. Ask {who} in some other way whether "
            f"both are theirs; an empty line (Enter alone) sends it all the same, /distrust {which} refuses the key."
        )
    if first.trust == "succeeded":
        return (
            f"Your message to {who} waits: the key that you had verified has named {first.key} as its successor. "
            f"Compare /safety {who} again, then /verify {which}; an empty line (Enter alone) goes on without comparing."
        )
    if first.trust == "contested":
        return (
            f"Your message to {who} is held: one of two keys of {who} is a thief's. Compare /safety {who} in some "
            "other way, then /verify the right one."
        )
    if event.question:
        return (
            f"Your message in {where} waits. Reading there: {whose}. /safety {who} shows the numbers; "
            f"an empty line (Enter alone) lets it go to them."
        )
    if first.trust == "refused":
        return (
            f"Your message in {where} is held for {whose}. You have refused that key: /trust {which} accepts it again; "
            f"/safety {who} shows what is known."
        )
    new = f"Either {who} has a new device, or somebody sits between you. " if first.trust != "unknown" else ""
    return (
        f"Your message in {where} is held for {whose}. {new}Compare /safety {who}, then /verify {which}; "
        f"/trust {which} goes on without comparing, /distrust {which} refuses it."
    )


def why_password(event: PasswordWanted) -> str:
    """Return what the password is needed for, why it is not at hand, and how to give it."""
    day = day_of(event.until)
    what = {
        "login": "The last login has expired, and the server wants the password again",
        "changed": "The account has another password by now than your data here",
        "renewal": "Your identity key has to sign this device's new key",
        "revocation": "Your identity key has to sign that the device is revoked",
        "succession": "Your identity key has to name the one that succeeds it",
        "rotation": f"This device's key has to be renewed by {day}; after that you can read, and what you say waits",
        "keepsake": (
            "A room that you have opened is not in your keepsake yet: after this device is lost, a recovery file would "
            "not lead back to it before you have let others invite, or have given the password once more"
        ),
    }[event.why]
    if event.why == "changed":
        own = "it opens both from then on. If nobody has changed it for you, ask the operator"
        return f"{what}: /unlock asks for it, and {own}. {clean_line(event.problem)}"
    problem = f" The password file does not help: {clean_line(event.problem)}" if event.problem else ""
    return f"{what}: /unlock asks for it.{problem}"


def why_unreachable(event: Unreachable, conversation: ConversationSnapshot | None) -> str:
    """Return who will not get what is said, by the server's word, and what to do."""
    where, who, new = title(conversation), clean_line(event.account), event.new
    gone = f"the server says that {who} has no device any more under key {event.key}"
    direct = conversation is None or conversation.kind == "direct"
    text = (
        f"{who} will not get what you write, nor what was not read yet: {gone}"
        if direct
        else f"{who} does not get what is said in {where}: {gone}"
    )
    if new is None:
        return f"{text}. It waits here until {who} is back." if direct else f"{text}."
    text = f"{text}, but under {new.key} ({TRUST[new.trust].words}). "
    decide = f"Compare /safety {who}, then /verify {who} {new.key}; /trust {who} {new.key} goes on without comparing"
    if direct:
        return f"{text}What you write waits. {decide}, and what waits goes to that key."
    again = f"/invite {who} puts the new key in place of the old"
    return (
        f"{text}{again[0].upper()}{again[1:]}."
        if new.trust in ACCEPTED
        else f"{text}{decide}. Then {again}."
    )


def absent(conversation: ConversationSnapshot) -> str:
    """Say of a conversation who will not get what is said there, by the server's word; empty: all will."""
    return f"{names_of(conversation.absent)} will not get this" if conversation.absent else ""


def why_silent(conversation: ConversationSnapshot) -> str:
    """Return why nothing can be said in a conversation, and what to do; empty where something can."""
    where = title(conversation)
    match conversation.state:
        case "request":
            return f"{where} has asked to chat: answer with /accept {where} or /decline {where} first."
        case "closed":
            both = conversation.own_bye and conversation.their_bye
            return NOWHERE["bye" if both else conversation.kind].format(where)
        case "stopped":
            return f"{where} has stopped. /repair tries to rejoin it."
    return ""


def arrived(conversation: ConversationSnapshot) -> str:
    """Return where one is now, and how the conversation stands."""
    state: str = conversation.state
    if state in ("request", "stopped"):
        return why_silent(conversation)
    if state == "open":
        state = "own-bye" if conversation.own_bye else "their-bye" if conversation.their_bye else ""
        state = state or ("direct" if conversation.kind == "direct" else "room")
    return ARRIVED[state].format(title(conversation))


def unconfirmed(since: int) -> str:
    """Say of a room that no owner has signed its state since then (ms since 1970)."""
    return f"not confirmed by an owner since {day_of(since)}"
