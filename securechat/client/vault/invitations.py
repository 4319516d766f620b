"""What waits for an answer: Welcomes, the invitations that go with them, and inviters we want to hear no more of.

Both are kept for a while by themselves, because a Welcome and its invitation come by different ways, in either order.
"""

from dataclasses import field
from typing import Final

from securechat.client.vault.database import Statements
from securechat.policy import Identity
from securechat.value import value


@value
class WelcomeRow:
    """A Welcome that has been checked and leads into a room, once its invitation is there and answered."""

    id: int
    conversation: bytes
    inviter: Identity
    """Who made the commit that added us."""
    context: bytes
    """SHA-256 of the GroupContext that it opens, 32 bytes."""
    facts: bytes = field(repr=False)
    """What the room is and who is in it, as `client.conversations.welcomes` encodes it."""
    bundle: bytes = field(repr=False)
    """The key package with its private keys: the Welcome can be opened as long as it waits."""
    welcomed: bytes = field(repr=False)
    """The wire message."""
    received: int = 0
    """Milliseconds since 1970."""


@value
class InviteRow:
    """An invitation as it came in a direct conversation."""

    conversation: bytes
    """The room."""
    inviter: Identity
    direct: bytes
    """The direct conversation in which it came."""
    body: bytes = field(repr=False)
    received: int = 0
    """Milliseconds since 1970."""
    until: int = 0
    """The same: when it ends."""
    told: bool = False
    """Whether the user was asked."""


_WELCOME: Final = (
    "SELECT id, conversation, account, identity_key, context, facts, bundle, welcomed, received FROM welcomes"
)
_INVITE: Final = "SELECT conversation, account, identity_key, direct, body, received, until, told FROM invites"


class InvitationTable:
    """Welcomes, invitations, and refused inviters."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    # --- Welcomes -------------------------------------------------------------------------------------------------

    def add_welcome(self, row: WelcomeRow) -> None:
        """Keep a Welcome; its id is chosen here."""
        self._database.run(
            "INSERT INTO welcomes (conversation, account, identity_key, context, facts, bundle, welcomed, received)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row.conversation, *row.inviter, row.context, row.facts, row.bundle, row.welcomed, row.received,
        )  # fmt: skip

    def welcomes(self, conversation: bytes) -> list[WelcomeRow]:
        """Return the Welcomes into a room, newest first."""
        rows = self._database.all(f"{_WELCOME} WHERE conversation = ? ORDER BY id DESC", conversation)
        return [WelcomeRow(row[0], row[1], Identity(row[2], row[3]), *row[4:]) for row in rows]

    def inviters(self) -> list[tuple[int, Identity, int]]:
        """Return id, inviter and size in bytes of each Welcome that waits, oldest first."""
        rows = self._database.all(
            "SELECT id, account, identity_key, length(facts) + length(bundle) + length(welcomed) FROM welcomes"
            " ORDER BY id"
        )
        return [(row[0], Identity(row[1], row[2]), row[3]) for row in rows]

    def bundles(self) -> list[bytes]:
        """Return the key packages, with their private sides, by which the Welcomes that wait add us."""
        return [bundle for (bundle,) in self._database.all("SELECT bundle FROM welcomes")]

    def oldest_welcome(self) -> int:
        """Return when the oldest Welcome that waits was received, in milliseconds since 1970; 0: none waits."""
        (oldest,) = self._database.one("SELECT min(received) FROM welcomes")
        return int(oldest or 0)

    def delete_welcome(self, welcome: int) -> None:
        """Forget one Welcome."""
        self._database.run("DELETE FROM welcomes WHERE id = ?", welcome)

    def expire_welcomes(self, before: int) -> None:
        """Forget Welcomes received before a time, in milliseconds since 1970."""
        self._database.run("DELETE FROM welcomes WHERE received < ?", before)

    # --- invitations ----------------------------------------------------------------------------------------------

    def save_invite(self, row: InviteRow) -> None:
        """Keep an invitation, in place of an older one to the same room by the same inviter."""
        self._database.run(
            "REPLACE INTO invites (conversation, account, identity_key, direct, body, received, until, told)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row.conversation, *row.inviter, row.direct, row.body, row.received, row.until, row.told,
        )  # fmt: skip

    def invites(self, conversation: bytes | None = None) -> list[InviteRow]:
        """Return the invitations to one room, or all of them, newest first."""
        where, values = ("", ()) if conversation is None else (" WHERE conversation = ?", (conversation,))
        rows = self._database.all(f"{_INVITE}{where} ORDER BY received DESC, rowid DESC", *values)
        return [
            InviteRow(conversation, Identity(account, key), direct, body, received, until, bool(told))
            for conversation, account, key, direct, body, received, until, told in rows
        ]

    def delete_invite(self, conversation: bytes, inviter: Identity) -> None:
        """Forget an invitation."""
        self._database.run(
            "DELETE FROM invites WHERE conversation = ? AND account = ? AND identity_key = ?", conversation, *inviter
        )

    def forget(self, conversation: bytes) -> None:
        """Forget everything that waits for a room: it is answered."""
        self._database.run("DELETE FROM welcomes WHERE conversation = ?", conversation)
        self._database.run("DELETE FROM invites WHERE conversation = ?", conversation)

    # --- inviters we want to hear no more of ----------------------------------------------------------------------

    def refuse(self, inviter: Identity) -> None:
        """Decline whatever an inviter sends from now on."""
        self._database.run("INSERT OR IGNORE INTO refused_inviters (account, identity_key) VALUES (?, ?)", *inviter)

    def refuses(self, inviter: Identity) -> bool:
        """Whether the user wants to hear no more of an inviter."""
        sql = "SELECT 1 FROM refused_inviters WHERE account = ? AND identity_key = ?"
        return self._database.one(sql, *inviter) is not None
