"""The roster: the persons in a conversation, and who of them came by a door (docs/design.md, section 6, Doors).

Its number rises whenever they are others than before, and each line that waits bears the number that it was typed for.
Whether such a line may go is decided by `holds`.
"""

from typing import Final

from securechat import policy
from securechat.client import events
from securechat.client.conversations import marks
from securechat.client.conversations.conversation import Conversation
from securechat.client.doors.facts import Verdict
from securechat.client.vault.conversations import PersonRow
from securechat.identity import pins
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.mls.leaf_node import LeafNodeSource
from securechat.policy import Identity

LONG_MILLISECONDS: Final = 7 * 86_400_000
"""An absence after which lines that wait in a room with owners are asked about: a week, in which an owner commits."""


def note_members(conversation: Conversation) -> None:
    """Update what the row says of the group: its persons and roster, its epoch, its rules."""
    row, rules = conversation.row, policy.rules_of(conversation.group.public.extensions)
    before = {person[:2]: person for person in row.persons}
    here = {(each.account, each.identity_key) for each in conversation.present}
    if here != before.keys():
        row.roster += 1
        row.persons = tuple(before.get(person) or PersonRow(*person) for person in sorted(here))
        _forget_heard(conversation, conversation.heard - here)
        marks.note_newcomers(conversation, here - before.keys())
    row.epoch = conversation.group.epoch
    row.name = rules.name or row.name  # a direct conversation bears the other account's
    row.topic, row.life = rules.topic, rules.life
    row.owners, row.inviters = (
        " ".join(each.account for each in identities) for identities in (rules.owners, rules.inviters)
    )


def note_heard(conversation: Conversation, person: DeviceCertificate) -> None:
    """Somebody has said something, or changed the group, and we have verified it by the group's secrets.

    Whoever makes a group can put anybody's leaf into it: only what is signed in the group shows that a key is there.
    """
    heard, context = (person.account, person.identity_key), conversation.context
    if heard in conversation.heard or person.account == context.device.account:
        return
    if any(each[:2] == heard for each in conversation.row.persons):
        conversation.heard |= {heard}
        context.vault.conversations.hear(conversation.id, heard)


def begin_anew(conversation: Conversation) -> None:
    """We have come in: nobody was heard here since."""
    _forget_heard(conversation, conversation.heard)


def _forget_heard(conversation: Conversation, persons: frozenset[tuple[str, bytes]]) -> None:
    if persons:
        conversation.heard -= persons
        conversation.context.vault.conversations.unhear(conversation.id, persons)


def note_return(conversation: Conversation) -> None:
    """We read the log again: lines that wait were typed for people of long ago, if we were away for long."""
    row, now = conversation.row, conversation.context.clock.milliseconds()
    away = bool(row.followed) and now - row.followed > LONG_MILLISECONDS
    if away and row.owners and conversation.context.vault.outbox.holds_anything(conversation.id):
        row.roster += 1
        row.returned = row.roster


def forget_door(conversation: Conversation, account: str, key: bytes) -> None:
    """The user has decided on a key, whatever way it came by."""
    row = conversation.row
    row.persons = tuple(
        person._replace(door=0) if person[:2] == (account, key) else person for person in row.persons
    )


def hold(conversation: Conversation, verdict: Verdict) -> None:
    """Let lines that were typed before wait until the user has confirmed those for whom the table of doors says so.

    Call when the group is in its new epoch (`note_members`). At once, whether we had caught up or not: that is the
    server's word, and no restart may forget it.
    """
    row = conversation.row
    conversation.stale |= {person[:2] for person in row.persons if person[:2] in verdict.late and not person.door}
    if verdict.holding:
        row.roster += 1
        row.persons = tuple(
            person._replace(door=row.roster) if person[:2] in verdict.holding else person for person in row.persons
        )


def forgive_stale(conversation: Conversation) -> None:
    """Whoever had come in by an old certificate, and has a leaf with one in force by now, holds nothing any more."""
    for person in conversation.people.values() if conversation.stale else ():
        came = (person.account, person.identity_key)
        if came in conversation.stale and conversation.context.in_force(person):
            conversation.stale.discard(came)
            forget_door(conversation, *came)


def tell_stale(conversation: Conversation) -> None:
    """Name those who came in by an old certificate and still have it, now that we know where the log leads.

    Once a session: it is a warning, and what was typed before waits all the same.
    """
    context = conversation.context
    for account, key in conversation.stale:
        if account != context.device.account and ("old certificate", conversation.id, key) not in context.alarmed:
            context.alarmed.add(("old certificate", conversation.id, key))
            context.emit(events.CameByOldKey(conversation.id, account, pins.short(key)))


def unanswered(room: Conversation) -> set[Identity]:
    """Return whose leaf still comes from the key package it was added by: they are invited and have not answered.

    Those who said no are among them until the tree has dropped them.
    """
    if room.row.kind != "invite" or room.row.epoch == 0:  # nobody else is added; the founder commits with the first Add
        return set()
    nodes = (node for _, node in room.group.public.members() if node.source == LeafNodeSource.KEY_PACKAGE)
    return {Identity.of(certificate_of(node)) for node in nodes}
