"""The conversations and open invitations as front ends see them: one value, replaced after a unit that changed them."""

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Final, Literal

from securechat.client.preferences import PREFERENCES, Preference
from securechat.identity.pins import WRITTEN_TO, Standing
from securechat.value import value


@value
class ConversationSnapshot:
    """A conversation as the core knows it now."""

    id: bytes
    kind: Literal["direct", "invite", "open"]
    name: str  # the room's name, or the other account; a room's second title where another one goes by its name here
    members: tuple[str, ...]  # accounts, own included, sorted
    state: Literal["requested", "request", "open", "closed", "stopped"]
    # requested: we asked, no answer yet; request: they asked us; stopped: see `Stopped`
    epoch: int
    own_bye: bool = False
    their_bye: bool = False
    unconfirmed_since: int = 0  # when an owner has last signed its state (ms), if that is more than two weeks ago
    trust: tuple[Standing, ...] = ()  # how the key of each of `members` stands that it has here; of several, the worst
    topic: str = ""
    owners: tuple[str, ...] = ()  # accounts, sorted
    inviters: tuple[str, ...] = ()
    disputed: tuple[str, ...] = ()  # accounts that saw another history of it than we, sorted
    absent: tuple[str, ...] = ()  # accounts whose devices here have left the directory, by the server's word; sorted
    heard: tuple[str, ...] = ()  # other accounts that have said or changed something since we came in; sorted
    # The rest are listed only: whoever makes a group can put anybody's leaf into it, so a leaf proves nothing.
    life: int = 0  # seconds that what is said from now on stays in the history; 0: for ever
    marks: tuple[tuple[str, int, int], ...] = ()
    # Up to which seq each of the others says to have received, and to have read, what is said: by account, sorted; of
    # what came before they were in it says nothing.

    preferences: tuple[tuple[str, str], ...] = ()  # what the user prefers here (`client.preferences`)

    unheard: bool = False  # the other one is blocked, or asks again within a day of a no: it is in no list

    def prefers(self, name: Preference) -> str:
        """Return what the user prefers here."""
        return dict(self.preferences).get(name, PREFERENCES[name][0])

    def trust_in(self, account: str) -> Standing | None:
        """Return how the key of a member stands that it has here; None: it is none."""
        return dict(zip(self.members, self.trust, strict=False)).get(account)

    def outranks(self, older: "ConversationSnapshot") -> bool:
        """Whether this counts in place of an older conversation of the same name.

        One that we are in goes before a closed one, and one with an accepted key before one without. Of two of these
        the older goes on until the user leaves it; otherwise the newest counts.
        """
        rank = self.rank
        return rank > older.rank or rank == older.rank < _FIT

    @property
    def rank(self) -> int:
        """How much it counts: not at all if it is closed, best if what is said in it goes to accepted keys."""
        if self.state == "closed":
            return 0
        fits = self.kind != "direct" or self.trust_in(self.name) in (None, *WRITTEN_TO)
        return _FIT if fits else 1


_FIT: Final = 2


@value
class Invitation:
    """An invitation to a room, which waits for an answer. Who is in the room is what it lists, and proves nothing."""

    conversation: bytes
    name: str
    inviter: str
    key: str  # the inviter's key: 64 hexadecimal digits, of which people compare the first four
    first_contact: bool  # this key was never accepted: the server could be the inviter
    again: bool  # we were in this room before
    role: Literal["member", "inviter", "owner"]
    owners: tuple[str, ...]  # accounts, sorted
    members: tuple[str, ...]  # the same, without ours
    known: tuple[str, ...]  # those of them that are listed under the key we know them by
    text: str = field(repr=False)
    until: int = 0  # when it ends, in milliseconds since 1970
    question: int = 0  # which the answer names: another invitation to this room is another question


@value
class Snapshot:
    """The state after a unit of the engine. May be read from any thread."""

    conversations: Mapping[bytes, ConversationSnapshot] = field(default_factory=dict)  # oldest first
    names: Mapping[str, bytes] = field(default_factory=dict)  # name -> the conversation that counts under it
    aliases: Mapping[bytes, bytes] = field(default_factory=dict)  # an id that was given up -> the id that replaced it
    invitations: Mapping[bytes, Invitation] = field(default_factory=dict)  # not answered yet, by room
    blocked: tuple[str, ...] = ()  # accounts, sorted
    preferences: tuple[tuple[str, str], ...] = ()  # what the user prefers where nothing else was said

    def prefers(self, name: Preference) -> str:
        """Return what the user prefers where nothing else was said."""
        return dict(self.preferences).get(name, PREFERENCES[name][0])

    @classmethod
    def of(
        cls,
        conversations: Iterable[ConversationSnapshot],
        aliases: Mapping[bytes, bytes],
        invitations: Mapping[bytes, Invitation],
        blocked: tuple[str, ...] = (),
        preferences: tuple[tuple[str, str], ...] = (),
    ) -> "Snapshot":
        """Make a snapshot, with the conversation of each name that counts."""
        by_id = {each.id: each for each in conversations}
        names: dict[str, bytes] = {}
        for each in by_id.values():
            if each.name not in names or each.outranks(by_id[names[each.name]]):
                names[each.name] = each.id
        return cls(by_id, names, dict(aliases), dict(invitations), blocked, preferences)

    def get(self, conversation: bytes) -> ConversationSnapshot | None:
        """Return a conversation by its id, or by the id it had at first."""
        while conversation in self.aliases:
            conversation = self.aliases[conversation]
        return self.conversations.get(conversation)

    def find(self, name: str) -> ConversationSnapshot | None:
        """Return the conversation of a normalised name: `#room`, or an account."""
        return self.conversations.get(self.names.get(name, b""))

    def called(self, name: str) -> tuple[ConversationSnapshot, ...]:
        """Return all conversations of a normalised name, over and not: the one that counts last, the others by age."""
        found = [each for each in self.conversations.values() if each.name == name]
        return tuple(sorted(found, key=lambda each: each.id == self.names.get(name)))
