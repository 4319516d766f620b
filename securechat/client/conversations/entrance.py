"""Entrance: a Welcome opened with its key package, checked by itself, and entered, or left from (design, section 6).

`welcomes` and `invitations` ask the table of doors whether it may be entered.
"""

import hashlib
from typing import Final, NamedTuple, Protocol

import msgspec

from securechat import policy
from securechat.client.context import Context
from securechat.client.conversations import beginning, offers, phases, verdicts
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.external_commits import check_departures
from securechat.client.doors.facts import Leaf, Verdict
from securechat.client.vault.conversations import ConversationRow
from securechat.client.vault.invitations import WelcomeRow
from securechat.content.registry import Role
from securechat.errors import InternalError, PeerError, UsageError, sentence
from securechat.identity.certificate import DeviceCertificate, certificate_of, verify
from securechat.identity.statements import Statement
from securechat.mls.framing import decode_body
from securechat.mls.group import Group
from securechat.mls.joining import enter
from securechat.mls.joining import open_welcome as open_secrets
from securechat.mls.key_package_bundle import KeyPackageBundle
from securechat.mls.key_schedule import no_psks
from securechat.mls.proposals import Remove
from securechat.mls.public_group import PublicGroup
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.policy import Identity, Rules
from securechat.wire.messages import Leave, Reply, Welcomed

decode_welcomed: Final = msgspec.msgpack.Decoder(Welcomed).decode


class NoKeyPackageError(PeerError):
    """A Welcome is for a key package that this vault does not have."""


class RegistryPort(Protocol):
    """What entering needs of the set of conversations."""

    @property
    def connected(self) -> bool:
        """Whether this device may make requests."""

    def get(self, conversation: bytes) -> Conversation | None:
        """Return a conversation by its id, or by the id it had at first."""

    def keep(self, conversation: Conversation) -> Conversation:
        """Add a conversation under the id that it has."""

    def entitle(self, conversation: Conversation) -> None:
        """Give a room that has got its name now a second title, if another one goes by that name here."""

    def follow(self, conversation: Conversation) -> None:
        """Read the conversation's log from its cursor on."""


class Facts(msgspec.Struct, array_like=True, frozen=True):
    """What a Welcome leads to, as its tree and rules say it."""

    kind: str
    name: str
    role: Role
    owners: tuple[Identity, ...]
    people: tuple[Leaf, ...]  # ours included
    signer: Leaf
    epoch: int


decode_facts: Final = msgspec.msgpack.Decoder(Facts).decode


class Opened(NamedTuple):
    """A Welcome that has been opened and checked by itself."""

    group: Group
    signer: DeviceCertificate
    facts: Facts
    reference: bytes
    bundle: KeyPackageBundle
    last_resort: bool

    @property
    def inviter(self) -> Identity:
        """Who made it."""
        return Identity.of(self.signer)

    @property
    def context(self) -> bytes:
        """SHA-256 of the group context that it opens, 32 bytes."""
        return hashlib.sha256(self.group.public.context.encode()).digest()


def bundle_for(context: Context, welcomed: Welcomed) -> tuple[KeyPackageBundle, bool]:
    """Return our key package that a Welcome is for, and whether it is a last-resort one. Raises `PeerError`."""
    for reference in decode_body(welcomed.welcome, Welcome).new_member_refs:
        if (stored := context.vault.key_packages.find(reference)) is not None:
            return KeyPackageBundle.decode(stored[0]), stored[1]
    raise NoKeyPackageError("it is for none of our key packages")


def unopened(context: Context, welcomed: Welcomed) -> str:
    """Say who is in what a Welcome leads to that nothing here opens, and what to do. Raises `PeerError`.

    The certificates are verified, and that is all: whole trees can be copied, so it is the server's word.
    """
    device = context.device
    people = [certificate_of(leaf) for _, leaf in RatchetTree.decode(welcomed.tree).leaves()]
    for person in people:
        verify(person, now=welcomed.time // 1000, entering=False)
    names = sorted({person.account for person in people if person.account != device.account})
    if not names or device.id not in {person.device_id for person in people}:
        raise PeerError("it leads to where this device is not, or is alone")
    who, others = names[0], f" and {len(names) - 1} others" if len(names) > 1 else ""
    private = f" If it is a private chat, /chat {who} opens another in its place." if len(names) == 1 else ""
    return (
        f"By the server's word, this device was let into a conversation with {who}{others}, by a key that it does not "
        "have: its data was put back from a copy, or the server has given out an old key. What was said there cannot "
        f"be read here.{private} To a room, have yourself invited again."
    )


def open_welcome(context: Context, welcomed: Welcomed, bundle: KeyPackageBundle, *, last_resort: bool) -> Opened:
    """Open a Welcome with the key package that it is for, and check it by itself. Raises `PeerError`."""
    device = context.device
    now = welcomed.time // 1000  # the time by which members judged the commit
    welcome = decode_body(welcomed.welcome, Welcome)
    secrets = open_secrets(welcome, bundle)
    if secrets.psks:
        raise PeerError("it asks for a key that nobody uses here")
    entrance = enter(
        welcome, secrets, bundle,
        tree=RatchetTree.decode(welcomed.tree), psks=no_psks, validate=device.validator(now), now=now,
    )  # fmt: skip
    group = Group.entered(entrance, device.keys[bundle.key_package.leaf_node.signature_key])
    if group.group_id != welcomed.conversation:
        raise PeerError("it leads into another conversation than the server says")
    rules = policy.check_state(group.public)
    departed, revocations = _left_and_revoked(group.public, welcomed)
    people = tuple(certificate_of(leaf) for _, leaf in group.public.members())
    signer = certificate_of(group.public.member(entrance.signer))
    if context.chains.age(signer) == "revoked":
        raise PeerError(f"it was made by a device that {signer.account} has revoked")
    if any(person.account == device.account and person.device_id != device.id for person in people):
        raise PeerError("somebody else is in it under your name")
    name = rules.name
    if rules.kind == "open":
        raise PeerError("nobody is added to an open room")
    if rules.kind == "direct":
        others = [person for person in people if person.account != device.account]
        if not others:
            raise PeerError("it leads into a direct conversation with nobody")
        if signer not in others:
            raise PeerError("it leads into a direct conversation that somebody else has made")
        if departed or revocations:  # an honest server gives the first commit of a log, before which nothing was said
            raise PeerError("it leads into a direct conversation that its maker has left")
        name = signer.account
    facts = Facts(
        rules.kind, name, role_of(rules, Identity(device.account, device.identity_key)), rules.owners,
        tuple(map(offers.leaf_of, people)), offers.leaf_of(signer), group.epoch,
    )  # fmt: skip
    reference = bundle.key_package.reference(bundle.suite)
    return Opened(group, signer, facts, reference, bundle, last_resort)


def open_again(context: Context, row: WelcomeRow) -> tuple[Welcomed, Opened]:
    """Open a Welcome that was kept. Raises `UsageError`."""
    welcomed = decode_welcomed(row.welcomed)
    try:
        return welcomed, open_welcome(context, welcomed, KeyPackageBundle.decode(row.bundle), last_resort=True)
    except PeerError as error:
        text = f"This invitation cannot be used any more: {sentence(str(error))} Ask to be invited again."
        raise UsageError(text) from error


def signer_of(row: WelcomeRow) -> DeviceCertificate:
    """Return the certificate under which a Welcome that was kept, and checked then, was made."""
    signer, tree = decode_facts(row.facts).signer, RatchetTree.decode(decode_welcomed(row.welcomed).tree)
    for _, leaf in tree.leaves():
        if offers.leaf_of(certificate := certificate_of(leaf)) == signer:
            return certificate
    raise InternalError("a Welcome in the vault was made by nobody who is in its tree")


def new_conversation(context: Context, registry: RegistryPort, conversation: bytes, facts: Facts) -> Conversation:
    """Return a conversation to be entered by a Welcome, under the id that it has."""
    kind: policy.Kind = "direct" if facts.kind == "direct" else "invite"
    row = ConversationRow(conversation, kind, facts.name, "awaiting", context.clock.milliseconds())
    return registry.keep(Conversation(context, row))


def begin(
    context: Context, verdict: Verdict, conversation: Conversation, welcomed: Welcomed, group: Group
) -> None:
    """Follow the log from where a Welcome leads. Raises `PeerError` if what the tree does not say is not sound."""
    departed, revocations = _left_and_revoked(group.public, welcomed)
    seq, chain = welcomed.join_seq, welcomed.chain
    beginning.begin(
        conversation, verdict, group, seq=seq, chain=chain, number=None, departed=departed, revocations=revocations
    )
    context.touched.add(conversation.id)


def _left_and_revoked(group: PublicGroup, welcomed: Welcomed) -> tuple[frozenset[LeafIndex], tuple[Statement, ...]]:
    """Return the leaves that have departed where a Welcome leads, and the statements that wait. Raises `PeerError`."""
    revocations = policy.check_revocations(group, welcomed.revocations, time=welcomed.time)
    return check_departures(group, welcomed.departures) | policy.revoked_leaves(group, revocations), revocations


def enter_room(
    context: Context, registry: RegistryPort, verdict: Verdict, welcomed: Welcomed, opened: Opened
) -> None:
    """Enter a room to which the user, or an invite line before, has said yes."""
    conversation = registry.get(welcomed.conversation)
    if conversation is None:
        conversation = new_conversation(context, registry, welcomed.conversation, opened.facts)
    else:
        outbox, aside = context.vault.outbox, b""  # the id of none
        if conversation.row.phase not in phases.ENDED:
            if not conversation.row.closed:  # what no server has seen yet may still go, once the user says so (`holds`)
                outbox.move_plain(conversation.id, aside)
            conversation.end("It is not known whether this message was sent.")
        conversation.reopen("awaited-again")
        outbox.move(aside, conversation.id)
    registry.entitle(conversation)
    begin(context, verdict, conversation, welcomed, opened.group)
    conversation.row.path_time = 0  # a path at once: the leaf's key came from a key package
    conversation.tell_entered(verdicts.entered(verdict))
    if conversation.row.title:
        conversation.tell("namesake", opened.facts.name)
    registry.follow(conversation)


def depart(context: Context, registry: RegistryPort, welcome: WelcomeRow) -> None:
    """Leave from the epoch that a Welcome opens.

    If the room has gone on since, or we are offline, that comes to nothing: then our answer makes the inviter's
    client remove us.
    """
    known = registry.get(welcome.conversation)
    try:
        _, opened = open_again(context, welcome)
    except UsageError:
        return
    if registry.connected:
        group = opened.group
        number = known.row.number + 1 if known is not None else 1
        leaving = policy.departure_data(number, group.public.member(group.own_leaf))
        proposal = group.propose(Remove(group.own_leaf), authenticated_data=leaving)
        context.request(Leave(0, welcome.conversation, number, proposal), _ignore)


def _ignore(_reply: Reply) -> None:
    """Nothing depends on the answer."""


def role_of(rules: Rules, who: Identity) -> Role:
    """Return what the rules of a room make of somebody."""
    return "owner" if who in rules.owners else "inviter" if who in rules.inviters else "member"
