"""The operator speaks in rooms that belong to nobody: who has to go, and who does not come in (`policy.words`).

A word is an entry like any other, but that it comes from no session: it is signed and appended in one turn. What it
does to the members' devices is what their leaving does; whoever commits next carries the rest out.
"""

from collections.abc import Sequence

from securechat import policy
from securechat.errors import PeerError, RefusedError, StorageError
from securechat.identity.certificate import certificate_of
from securechat.mls.public_group import PublicGroup
from securechat.policy import Rules, Word
from securechat.policy.rules import READERS
from securechat.policy.support import who_lacks
from securechat.policy.words import carried_out, leaf_hash, leaf_of_account
from securechat.server.logs import get_logger
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.groups import Groups
from securechat.server.sequencer.leases import Leases
from securechat.server.sequencer.operations import ChangeSiteKey, OwnerlessRoom, Speak, SpeakReady, Survey, Surveyed
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import Store
from securechat.server.store.records import Departed, Who

log = get_logger(__name__)


class Words:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: Store,
        conversations: Conversations,
        groups: Groups,
        leases: Leases,
        checks: Checks,
        *,
        rooms: frozenset[str],
    ) -> None:
        self._turn = turn
        self._site = store
        self._store = store.conversations
        self._conversations = conversations
        self._groups = groups
        self._leases = leases
        self._checks = checks
        self._rooms = rooms

    def survey(self, operation: Survey) -> None:
        """Look at the rooms that belong to nobody."""
        open_rooms = {name: found for name in self._rooms if (found := self._store.room(name)) is not None}
        seen = {name: self._conversations.find(found, self._turn.now) for name, found in open_rooms.items()}
        people = {name: len({each.account for each in one.present}) for name, one in seen.items()}
        states = {name: (one.head.id, one.group, one.words) for name, one in seen.items()}

        def work() -> Surveyed:
            rooms = []
            for name in sorted(self._rooms):
                if name not in states:
                    rooms.append(OwnerlessRoom(name, 0, ()))
                    continue
                conversation, known, words = states[name]
                group = known if known is not None else self._groups.restore(conversation)
                rules = policy.rules_of(group.extensions)
                if not rules.site_key:
                    continue  # somebody had opened it before the operator named it
                rising = max(word.version for word in words) if words else 0
                behind = _behind(group, rising) if rising else ()
                barred = carried_out(rules, words).barred
                rooms.append(OwnerlessRoom(name, people[name], barred, rules.version, rising, behind))
            return Surveyed(operation, rooms)

        self._checks.load(work, lambda: None)  # who asks gives up by itself

    def change_site_key(self, operation: ChangeSiteKey) -> None:
        """Make a new site key."""
        self._site.change_site_key()
        self._turn.after(lambda: operation.answer(None))
        log.info("new site key")

    def speak(self, operation: Speak) -> None:
        """Say something, once the room's group is in memory. Raises RefusedError."""
        conversation_id = self._store.room(operation.room)
        if conversation_id is None:
            raise RefusedError("not-found", f"there is no room {operation.room}")
        conversation = self._conversations.find(conversation_id, self._turn.now)
        if conversation.group is None:
            read = self._groups.reading(conversation)
            self._checks.load(
                lambda: SpeakReady(operation, read()),
                lambda: operation.answer(StorageError("the server cannot read this room: its log says more")),
            )
            return
        self._say(conversation, conversation.group, operation)

    def ready(self, result: SpeakReady) -> None:
        """Go on, now that a worker has rebuilt the group. Raises RefusedError."""
        self._groups.read(result.read)
        self.speak(result.operation)

    def _say(self, conversation: Conversation, group: PublicGroup, operation: Speak) -> None:
        head, words = conversation.head, conversation.words
        rules = policy.rules_of(group.extensions)
        _check_sense(group, rules, words, operation)
        found = leaf_of_account(group, operation.account)
        going = found if operation.action in ("bar", "remove") else None
        time = self._turn.time_in(head)
        key = next((key for key in self._site.site_keys if key.public == rules.site_key), None)
        if key is None:
            raise RefusedError("not-allowed", f"the rules of {rules.name} name a site key that this server never had")
        match operation.action:
            case "site-key":
                about = self._site.site_keys[0].public
            case "upgrade":
                about = max(READERS).to_bytes(2, "big")
            case _:
                about = operation.account.encode()
        word = Word(
            self._site.server_id, head.id, head.epoch, head.seq + 1, time, operation.action, about,
            leaf_hash(going[1]) if going is not None else b"",
        ).signed(key)  # fmt: skip
        try:
            policy.check_word(group, word.encode(), seq=word.seq, time=time, before=words)
        except PeerError as error:
            raise RefusedError("not-allowed", str(error)) from error
        out = certificate_of(going[1]) if going is not None else None
        entry = self._turn.word(conversation, word.encode(), time, last_for=(out.who,) if out else ())
        head.words[entry.seq] = entry.payload
        self._store.save_handshake(head.id, entry, "")
        self._store.put_word(head.id, entry.seq, entry.payload)
        if going is not None and out is not None:
            self._depart(conversation, out.who, going[0], entry.seq)
        self._turn.after(lambda: operation.answer(None))
        log.info("operator's word", conversation=head.title, action=operation.action, account=operation.account)

    def _depart(self, conversation: Conversation, who: Who, leaf: int, seq: int) -> None:
        head, (_, device) = conversation.head, who
        if device not in head.departed:
            head.departed[device] = Departed(device, leaf, b"", b"")
            self._store.put_departed(head.id, head.departed[device])
        member = head.place(who)
        if member is not None and member.last_seq is None:
            member.last_seq = seq
            self._store.put_members(head.id, [member])
        self._leases.release(conversation, who)
        if not conversation.present:  # nobody is left to carry it out
            self._store.delete(head.id)
            self._conversations.remove(conversation)
            self._turn.after(lambda: self._leases.close(conversation))


def _behind(group: PublicGroup, version: int) -> tuple[str, ...]:
    """Return the accounts whose programs do not know a version of the rules."""
    return tuple(who_lacks((leaf for _, leaf in group.members()), version))


def _check_sense(group: PublicGroup, rules: Rules, words: Sequence[Word], operation: Speak) -> None:
    """Refuse what makes no sense, in words that help the operator."""
    upgrade, newest = operation.action == "upgrade", max(READERS)
    if not rules.site_key:
        owners = ", ".join(owner.account for owner in rules.owners) or "nobody"
        what = "change its rules" if upgrade else f"{operation.action} somebody there"
        raise RefusedError("not-allowed", f"{rules.name} belongs to {owners}; only its owners can {what}")
    if upgrade and rules.version >= newest:
        raise RefusedError(
            "not-allowed",
            f"the rules of {rules.name} have version {rules.version}, the newest that this server knows; for newer "
            "rules, update the server first",
        )
    if upgrade and any(word.version >= newest for word in words):
        behind = ", ".join(_behind(group, newest))
        waits = f"waits for newer programs of {behind}" if behind else "comes when somebody there next speaks"
        raise RefusedError("not-allowed", f"you have let {rules.name} rise to version {newest} already; it {waits}")
