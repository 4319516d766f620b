"""Changes of a room that its user asked for and no commit has made yet: what each does to the rules, and when it is in
force. What a commit has changed in them, for people (docs/design.md, section 6, Rules).

Several wait together and go into one commit. Whom a change is about it names by account and identity key, as they were
when the user asked: nobody else gets the right because the tree has changed meanwhile.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from securechat.client.conversations.conversation import Conversation
from securechat.client.events import Change
from securechat.client.vault.conversations import Action, ChangeRow
from securechat.identity.pins import WRITTEN_TO, Standing
from securechat.policy import Identity, Rules, rules_of
from securechat.policy.rules import in_order

OF_MEMBERS: Final = frozenset[Action](("add", "remove", "replace"))
"""Changes that are about who is in; each of the others is about one thing in the rules."""


def founding(room: Conversation) -> Rules:
    """Return the rules that we found a room with: it is ours."""
    device = room.context.device
    return Rules(room.row.kind, room.row.name, owners=(Identity(device.account, device.identity_key),))


def subject(change: ChangeRow) -> str:
    """Return what a change is about: of two changes of the rules about one thing, the newer counts."""
    return change.action if change.action in ("topic", "rename", "life") else change.value


def apply(rules: Rules, change: ChangeRow) -> Rules:
    """Return the rules with a change made. Somebody's new key does not get what the one before it was allowed to."""
    value = change.value
    owners = tuple(each for each in rules.owners if each.account != value)
    inviters = tuple(each for each in rules.inviters if each.account != value)
    barred = tuple(account for account in rules.barred if account != value)
    who = Identity(value, change.data)
    match change.action:
        case "owner":
            return replace(rules, owners=in_order((*owners, who)), inviters=inviters)
        case "inviter":
            return replace(rules, owners=owners, inviters=in_order((*inviters, who)))
        case "no-owner":
            return replace(rules, owners=owners)
        case "no-inviter":
            return replace(rules, inviters=inviters)
        case "bar":
            return replace(rules, owners=owners, inviters=inviters, barred=tuple(sorted((*barred, value))))
        case "unbar":
            return replace(rules, barred=barred)
        case "topic":
            return replace(rules, topic=value)
        case "life":
            return replace(rules, life=int(value))
        case "rename":
            return replace(rules, name=value)
        case "replace" if change.data:  # the key package is there: so this is the commit
            return replace(rules, owners=owners, inviters=inviters)
        case "add" | "remove" | "replace":
            return rules


def without(rules: Rules, account: str) -> Rules:
    """Return the rules with nobody of this account as owner or inviter: whom an owner removes has no successor."""
    return replace(
        rules,
        owners=tuple(each for each in rules.owners if each.account != account),
        inviters=tuple(each for each in rules.inviters if each.account != account),
    )


def is_in_force(change: ChangeRow, rules: Rules, here: Mapping[str, Standing], own: Identity) -> bool:
    """Whether a change is made, by whomever; `here`: the accounts that are in the tree, and how their keys stand.

    Whose leaf has gone by itself is not removed by `own`, an owner, before the rules let no successor of theirs in.
    """
    if change.action == "replace":
        return here.get(change.value) in WRITTEN_TO
    if change.action == "remove" and own in rules.owners and without(rules, change.value) != rules:
        return False
    if change.action in OF_MEMBERS:
        return (change.value in here) == (change.action == "add")
    return apply(rules, change) == rules


def settle(conversation: Conversation) -> None:
    """Forget the requested changes that are in force now, whoever made them."""
    context = conversation.context
    if not (wanted := context.vault.changes.load(conversation.id)):
        return
    standing = context.pins.standing
    here = {each.account: standing(each.account, each.identity_key) for each in conversation.people.values()}
    ours = {each.person.account: each for each in context.added if each.room == conversation.id}
    rules, own = rules_of(conversation.group.public.extensions), Identity.of(context.device.certificate)
    for change in wanted:
        if is_in_force(change, rules, here, own):
            context.vault.changes.delete(change.id)
            if change.action in ("add", "replace") and change.value in ours:
                ours[change.value].change = change.id  # it is answered once their invitation is in the log
            else:
                context.answers.done(("change", change.id))


def told(before: Rules, after: Rules) -> Iterator[tuple[Change, str]]:
    """Yield what has changed: its kind, and the account that it is about, or the new name, topic or life."""
    if after.name != before.name:
        yield "renamed", after.name
    if after.topic != before.topic:
        yield "topic", after.topic
    if after.life != before.life:
        yield "life", str(after.life)
    accounts: tuple[tuple[Change, Change, Iterable[str], Iterable[str]], ...] = (
        ("owner", "no-owner", _accounts(before.owners), _accounts(after.owners)),
        ("inviter", "no-inviter", _accounts(before.inviters), _accounts(after.inviters)),
        ("barred", "unbarred", before.barred, after.barred),
    )
    for given, taken, were, are in accounts:
        old, new = set(were), set(are)
        yield from ((given, account) for account in sorted(new - old))
        yield from ((taken, account) for account in sorted(old - new))


def _accounts(identities: Iterable[Identity]) -> Iterator[str]:
    return (identity.account for identity in identities)
