"""Governing: the commands that change who is in a room, and its rules (docs/design.md, section 6, Rules).

Each is kept in the vault and done once a commit has made it (`committing`), in a room that we are founding too: it
waits there until the server has taken the room. One that makes no sense raises `UsageError` and changes nothing.
"""

from typing import Final, Literal

from securechat import policy
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.roster import unanswered
from securechat.client.conversations.rule_changes import OF_MEMBERS, founding, subject
from securechat.client.vault.conversations import Action, ChangeRow
from securechat.errors import UsageError
from securechat.identity.pins import WRITTEN_TO
from securechat.names import normalise_account, normalise_room
from securechat.wire.limits import MAX_TOPIC

MIN_LIFE: Final = 3600
"""Seconds that messages live at least: members look for what is over so often, and clocks differ by minutes."""

MAX_LIFE: Final = 3650 * 86_400
"""Seconds that they live at most, ten years: what is longer means for ever."""

NAMED: Final = 5
"""Of those who may do something, how many a refusal names: enough to ask one."""

_WHAT: Final = {
    "add": "invite people to", "remove": "remove people from", "replace": "put a new key in place of an old one in",
}  # fmt: skip


def change(room: Conversation, action: Literal["add", "remove", "replace"], account: str) -> None:
    """Invite somebody to a room, or remove them; done once a commit has made it."""
    context, account = room.context, normalise_account(account)
    rules = _rules_of(room)
    own = policy.Identity(context.device.account, context.device.identity_key)
    if account == context.device.account:
        raise UsageError("That is you. /leave leaves a room.")
    here = account in room.row.members
    if action == "add" and here:
        _check_replaceable(room, account)
        action = "replace"
    takes_back = here and account in {each.account for each in unanswered(room)}
    who = rules.who_adds if action == "add" or takes_back else frozenset(rules.owners)
    may = own in who
    if action == "add" and not may:
        anybody = policy.added_by_anybody(room.group.public, rules, room.departed, room.revocations)
        may = account in {each.account for each in anybody}
    if not may:
        if action == "add" and rules.kind == "open":
            raise UsageError(f"Nobody has to be invited to {rules.name}: everybody can enter.")
        raise UsageError(_reserved(rules, who, _WHAT[action]))
    if action == "remove" and not here and account in {each.account for each in (*rules.owners, *rules.inviters)}:
        give(room, "owner" if account in {each.account for each in rules.owners} else "inviter", account, on=False)
        return  # their leaf went by itself, and the rules still let a successor of theirs take over what they were
    if action == "remove" and not here:
        raise UsageError(f"{account} is not in {room.row.name}.")
    changes = context.vault.changes
    asked = next((each.id for each in changes.load(room.id) if (each.action, each.value) == (action, account)), 0)
    context.answers.wait_for(("change", asked or changes.add(room.id, action, account)))
    context.touched.add(room.id)


def give(room: Conversation, role: Literal["owner", "inviter"], account: str, *, on: bool) -> None:
    """Make somebody an owner or an inviter of a room, or take that from them."""
    account, rules = normalise_account(account), _owned(room)
    if role == "inviter" and rules.kind == "open":
        raise UsageError(f"Nobody has to be invited to {rules.name}: everybody can enter.")
    has = {each.account for each in (rules.owners if role == "owner" else rules.inviters)}
    if not on:
        if account not in has:
            raise UsageError(f"{account} is no {role} of {rules.name}.")
        if role == "owner" and len(has) == 1:
            raise UsageError(f"{rules.name} needs an owner: name another one first, with /owner add NAME.")
        _change_rules(room, "no-owner" if role == "owner" else "no-inviter", account)
        return
    present = room.present if room.row.phase in phases.READING else []  # nobody is in a room that we are founding
    person = next((each for each in present if each.account == account), None)
    if person is None:
        raise UsageError(f"{account} is not in {rules.name}.")
    if account in has:
        raise UsageError(f"{account} is an {role} of {rules.name} already.")
    if role == "inviter" and account in {each.account for each in rules.owners}:
        raise UsageError(f"{account} is an owner of {rules.name}, and may invite anyway.")
    if room.context.pins.standing(account, person.identity_key) not in ("unknown", *WRITTEN_TO):
        raise UsageError(f"The key of {account} is not the one that you know. See /safety {account} first.")
    _change_rules(room, role, account, person.identity_key)


def bar(room: Conversation, account: str) -> None:
    """Remove somebody from a room, and let them in no more until `unbar`."""
    account = normalise_account(account)
    rules = _owned(room)
    if account == room.context.device.account:
        raise UsageError("That is you. /leave leaves a room.")
    if account in rules.barred:
        raise UsageError(f"{account} is barred from {rules.name} already.")
    _change_rules(room, "bar", account)


def unbar(room: Conversation, account: str) -> None:
    """Let somebody in again who was barred."""
    account = normalise_account(account)
    rules = _owned(room)
    if account not in rules.barred:
        raise UsageError(f"{account} is not barred from {rules.name}.")
    _change_rules(room, "unbar", account)


def set_topic(room: Conversation, topic: str) -> None:
    """Set what a room is about."""
    rules, topic = _owned(room), topic.strip()
    if len(topic) > MAX_TOPIC:
        raise UsageError(f"A topic has at most {MAX_TOPIC} characters.")
    if topic == rules.topic:
        raise UsageError(f"That is the topic of {rules.name} already.")
    _change_rules(room, "topic", topic)


def set_life(conversation: Conversation, seconds: int) -> None:
    """Set how long what is said from then on lives, in a room of ours or in private; 0: for ever."""
    if conversation.row.kind != "direct":
        rules = _owned(conversation)
    elif conversation.row.phase not in phases.READING:
        raise UsageError("This conversation is not open yet.")
    else:
        rules = policy.rules_of(conversation.group.public.extensions)
    if seconds and not MIN_LIFE <= seconds <= MAX_LIFE:
        raise UsageError(f"Messages live from {MIN_LIFE // 3600} hour to {MAX_LIFE // 86_400:,} days, or for ever.")
    if seconds == rules.life:
        raise UsageError("That is how long messages live here already.")
    _change_rules(conversation, "life", str(seconds))


def rename(room: Conversation, name: str) -> None:
    """Give a room another name."""
    name, rules = normalise_room(name), _owned(room)
    if name == rules.name:
        raise UsageError("That is its name already.")
    _change_rules(room, "rename", name)


def _check_replaceable(room: Conversation, account: str) -> None:
    """Raise `UsageError` unless the user has accepted another key of somebody than the one that is in a room."""
    written_to = room.context.pins.of(account).written_to
    if written_to is not None and all(
        each.identity_key != written_to for each in room.present if each.account == account
    ):
        return
    absent = account in {each.account for each in room.absent}
    under = " under the key that you accept. /trust another one first" if absent else ""
    raise UsageError(f"{account} is in {room.row.name}{under}.")


def _owned(room: Conversation) -> policy.Rules:
    """Return the rules of a room, if we may change them. Raises `UsageError`."""
    device, rules = room.context.device, _rules_of(room)
    if policy.Identity(device.account, device.identity_key) not in rules.owners:
        raise UsageError(_reserved(rules, frozenset(rules.owners), "change that in"))
    return rules


def _rules_of(room: Conversation) -> policy.Rules:
    """Return the rules of a room that we are in, or are founding. Raises `UsageError`."""
    if room.row.kind == "direct":
        raise UsageError("That is for rooms: a conversation of two has no owner.")
    if room.row.kind == "invite" and room.row.phase == "founding":
        return founding(room)
    if room.row.phase not in phases.READING:
        raise UsageError("You are not in this room yet.")
    return policy.rules_of(room.group.public.extensions)


def _reserved(rules: policy.Rules, who: frozenset[policy.Identity], what: str) -> str:
    """Say of somebody who may not do something in a room who may."""
    if not rules.owners:
        return f"{rules.name} belongs to nobody: only whoever runs the server keeps order there."
    names = sorted({each.account for each in who})
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"Only {', '.join(names[:NAMED])}{more} can {what} {rules.name}."


def _change_rules(room: Conversation, action: Action, value: str, data: bytes = b"") -> None:
    """Keep a change of the rules, in place of one about the same thing; done once a commit has made it."""
    changes, answers = room.context.vault.changes, room.context.answers
    new = ChangeRow(0, action, value, data)
    for each in changes.load(room.id):
        if each.action not in OF_MEMBERS and subject(each) == subject(new):
            changes.delete(each.id)
            answers.refuse(("change", each.id), "local", "Another change took the place of this one.")
    answers.wait_for(("change", changes.add(room.id, action, value, data)))
    room.context.touched.add(room.id)
