"""Invite lines: given out, used, and taken back (docs/design.md, section 6, Invitations).

A line carries its maker's key and a one-time secret, so it makes first contact a known one on both sides. Whoever uses
it accepts the maker's key and asks in the direct conversation with a *proof*: a signature by the secret over both of
them, the room and a fresh key package. The maker's client, which has kept the public half, then lets exactly this key
in, once: by this key package, which the server could not choose.

    a right proof                                the key is accepted, the room adds it; told
    right, and used before by somebody else      an ordinary request; told who was the first
    right, and we may not add them there         the same; told why
    wrong, ended, taken back                     an ordinary request
"""

import os
from collections.abc import Callable
from typing import Final, Protocol

from securechat import policy
from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.device import check_key_packages
from securechat.client.vault.invite_lines import LineRow
from securechat.content.registry import Accept, LineProof
from securechat.errors import PeerError, TrustError, UsageError
from securechat.identity import line_proof, pins
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.invite_line import MAX_DAYS, InviteLine, Voucher
from securechat.identity.line_proof import Claim
from securechat.identity.pins import WRITTEN_TO
from securechat.policy import Identity

DAY_MILLISECONDS: Final = 86_400_000

MAX_LINES: Final = 200
"""Lines of one account that have not ended, used ones included; and as many that it has used itself."""

MARK: Final = 8
"""Hexadecimal digits by which people name a line: the beginning of SHA-256 of its public half."""

SECRET_LENGTH: Final = 32
"""Bytes of a line's secret: the seed of an Ed25519 key."""


class RegistryPort(Protocol):
    """What lines need of the set of conversations."""

    def get(self, conversation: bytes) -> Conversation | None:
        """Return a conversation by its id, or by the id it had at first."""

    def find(self, name: str) -> Conversation | None:
        """Return the conversation of this name that counts."""

    def add(self, kind: policy.Kind, name: str) -> Conversation:
        """Begin a conversation under an id of our own making."""


class Lines:
    """The lines of one account."""

    def __init__(
        self, context: Context, registry: RegistryPort, direct_with: Callable[[Identity], Conversation | None]
    ) -> None:
        """`direct_with` returns the direct conversation in which what we say reaches a key."""
        self._context = context
        self._registry = registry
        self._direct_with = direct_with
        self._vault = context.vault.lines

    # --- given out ------------------------------------------------------------------------------------------------

    def make(self, room: str, days: int) -> tuple[Voucher, str]:
        """Return what a new line vouches for, and its mark. `room`: its name, title or empty. Raises `UsageError`."""
        context, device = self._context, self._context.device
        if not 1 <= days <= MAX_DAYS:
            raise UsageError(f"A line is good for 1 to {MAX_DAYS} days.")
        if not device.row.server_id:
            raise UsageError("The server has to be known first: connect once.")
        where = self._registry.find(room) if room else None
        if where is not None and where.row.kind == "invite" and where.row.phase == "founding":
            raise UsageError(f"{room} does not exist yet: the server has not answered. Ask for a line once you are in.")
        if room and (where is None or not self._adds_to(where)):
            raise UsageError(f"You cannot invite to {room}: that takes an invite room that you are in and may add to.")
        now = context.clock.milliseconds()
        if len(self._vault.given(now)) >= MAX_LINES:
            raise UsageError(f"You have {MAX_LINES} lines that have not ended: take some back first.")
        secret, until = os.urandom(SECRET_LENGTH), now + days * DAY_MILLISECONDS
        row = LineRow(line_proof.public_half(secret), where.id if where is not None else b"", until)
        self._vault.expire(now)
        self._vault.give(row)
        own = Identity(device.account, device.identity_key)
        name = where.row.name if where is not None else ""
        return Voucher(device.row.server_id, *own, row.room, name, secret, until), _mark(row)

    def listed(self) -> tuple[events.InviteLine, ...]:
        """Return the lines that have not ended, oldest first."""
        return tuple(
            events.InviteLine(
                _mark(row), self._title(row.room), row.until,
                row.user.account, pins.short(row.user.identity_key) if row.used else "", row.used,
            )
            for row in self._vault.given(self._context.clock.milliseconds())
        )  # fmt: skip

    def revoke(self, mark: str) -> None:
        """Take a line back, by its mark or the beginning of it. Raises `UsageError`."""
        given = [row.public for row in self._vault.given(self._context.clock.milliseconds())]
        meant = pins.named(mark, given)
        if not meant:
            raise UsageError("You have no such line.")
        if len(meant) > 1:
            raise UsageError("Several of your lines begin so: type all of its digits.")
        self._vault.revoke(meant[0])

    def _adds_to(self, room: Conversation) -> bool:
        """Whether we may add somebody to a room now."""
        if room.row.kind != "invite" or room.row.closed or room.row.phase not in phases.READING:
            return False
        device, rules = self._context.device, policy.rules_of(room.group.public.extensions)
        return Identity(device.account, device.identity_key) in rules.who_adds

    def _title(self, room: bytes) -> str:
        known = self._registry.get(room) if room else None
        return known.title if known is not None else ""

    # --- used by us -----------------------------------------------------------------------------------------------

    def use(self, line: InviteLine) -> int:
        """Accept the inviter's key and ask them to let us in. Returns the outbox's item. Raises `UsageError`."""
        voucher, context, device = line.voucher, self._context, self._context.device
        if voucher is None:
            raise UsageError("This line is good for registering alone: nobody vouches in it for where it leads.")
        if voucher.server_id != device.row.server_id:
            raise UsageError("This line was for another server.")
        inviter = Identity(voucher.account, voucher.identity_key)
        if inviter.account == device.account:
            raise UsageError("This line is your own. Give it to somebody else.")
        room = self._registry.get(voucher.room) if voucher.room else None
        if room is not None and room.row.phase in phases.GOING_ON and not room.row.closed:
            raise UsageError(f"You are in {room.row.name} already.")
        now = context.clock.milliseconds()
        if voucher.room and self._vault.followed(now) >= MAX_LINES:
            raise UsageError(f"{MAX_LINES} lines that you have used are not answered yet.")
        try:
            known = not context.pins.vouch(*inviter)
        except TrustError as error:
            form = pins.short(inviter.identity_key)
            raise UsageError(
                f"This line names another key of {inviter.account}, {form}: {error} Ask {inviter.account} face to "
                f"face; /trust {inviter.account} {form} accepts it."
            ) from error
        self._vault.expire(now)
        if voucher.room:
            self._vault.follow(voucher.room, inviter, min(voucher.until, now + MAX_DAYS * DAY_MILLISECONDS))
        direct = self._direct_with(inviter)
        if direct is None:
            direct = self._registry.add("direct", inviter.account)
            direct.row.asked = "ours"
        elif direct.row.asked == "theirs":  # to use somebody's line says yes to their request
            self._agree(direct)
        own = Identity(device.account, device.identity_key)
        package = device.make_key_packages(1, context.clock.seconds())[0] if voucher.room else b""
        claim = Claim(voucher.server_id, voucher.room, inviter, own, package)
        proof = line_proof.prove(voucher.secret, claim)
        key = pins.short(inviter.identity_key)
        context.emit(events.AskedByLine(inviter.account, key, voucher.title, voucher.until, known=known))
        return direct.put(LineProof(line_proof.public_half(voucher.secret), package, proof))

    # --- proofs that come -----------------------------------------------------------------------------------------

    def take(self, direct: Conversation, sender: DeviceCertificate, body: LineProof) -> None:
        """Let somebody in who has used a line of ours; otherwise it is an ordinary request."""
        context, who = self._context, Identity.of(sender)
        now = context.clock.milliseconds()
        row = self._vault.find(body.line, now)
        if row is None or not self._is_right(row, sender, body):
            self._ask(direct, who)
            return
        if row.user == who:
            return  # the same once more
        if why := self._against(row, who):
            context.emit(events.InviteLineRefused(
                direct.id, who.account, pins.short(who.identity_key), self._title(row.room), why,
                row.user.account, pins.short(row.user.identity_key) if row.used else "", row.used,
            ))  # fmt: skip
            self._ask(direct, who)
            return
        context.pins.vouch(*who)
        self._vault.use(row.public, who, now)
        if direct.row.asked != "" or direct.row.number == 0:
            self._agree(direct)
        if row.room:
            context.vault.changes.add(row.room, "add", who.account, body.key_package)
            context.touched.add(row.room)
        context.emit(
            events.InviteLineUsed(direct.id, who.account, pins.short(who.identity_key), self._title(row.room))
        )

    def _is_right(self, row: LineRow, sender: DeviceCertificate, body: LineProof) -> bool:
        """Whether a proof is this line's, for its room, and brings a key package of the device that sends it."""
        device, who = self._context.device, Identity.of(sender)
        own = Identity(device.account, device.identity_key)
        claim = Claim(device.row.server_id, row.room, own, who, body.key_package)
        if not line_proof.is_proof(row.public, claim, body.proof):
            return False
        if not row.room:
            return True
        now = self._context.clock.seconds()
        try:
            _, person = check_key_packages([body.key_package], who.account, validate=device.validator(now), now=now)
            self._context.chains.check(person)
        except PeerError:
            return False
        same_device = Identity.of(person) == who and person.device_id == sender.device_id
        return same_device and person.seq >= sender.seq

    def _against(self, row: LineRow, who: Identity) -> events.LineRefusal | None:
        """Return what is against letting somebody in by a right proof."""
        if row.used:
            return "used"
        if self._context.pins.standing(*who) not in ("unknown", *WRITTEN_TO):
            return "key"
        if not row.room:
            return None
        room = self._registry.get(row.room)
        if room is None or not self._adds_to(room):
            return "no-right"
        if who.account in policy.rules_of(room.group.public.extensions).barred:
            return "barred"
        if any(person.account == who.account for person in room.people.values()):
            return "inside"
        return None

    def _ask(self, direct: Conversation, who: Identity) -> None:
        """Whoever opens a conversation with a proof that does not let them in asks by it."""
        direct.tell_request()
        if self._context.pins.standing(*who) == "unknown" and not direct.row.closed and direct.row.asked != "theirs":
            direct.row.asked = "theirs"
            direct.tell("request", who.account)

    def _agree(self, direct: Conversation) -> None:
        direct.row.asked, direct.untold = "", False
        direct.put(Accept())
        direct.tell("accepted", self._context.device.account)


def _mark(row: LineRow) -> str:
    return pins.digest(row.public)[:MARK]
