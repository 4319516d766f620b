"""Old keys: signature keys in whose place there is another one are forgotten for good (design, section 6, Rotation).

    needs one     a conversation in which our leaf names it, an invitation over it that waits, a key package that may
                  still be used
    forgets it    that nothing needs it; or a week of being connected, unless a conversation stands still or an
                  invitation waits; the end of its certificate in any case, an hour of being connected after it

A conversation whose leaf is left behind goes on: our own external commit replaces the leaf (`resync`).
"""

from collections.abc import Iterable
from typing import Final

from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.mls.group import Group
from securechat.mls.key_package_bundle import KeyPackageBundle

PACKAGES_SECONDS: Final = 3600
"""After an hour of being connected nobody uses the key packages of an old key any more: the server has dropped them
with its certificate, and what was begun by them before is in our inbox, and read."""

KEPT_SECONDS: Final = 7 * 86_400
"""After a week of being connected an old key goes, whatever the server refuses: it decides about no key's life."""


class OldKeys:
    """The signature keys of this device that it uses for nothing new. Lives as long as the client."""

    def __init__(self, context: Context, conversations: Iterable[Conversation]) -> None:
        self._context = context
        self._conversations = conversations
        self._looked = 0.0  # monotonic seconds; 0: not on this connection

    def begin(self) -> None:
        """We are connected."""
        self._looked = self._context.clock.monotonic()
        self.look()

    def look(self) -> None:
        """Count the time, and forget what nothing needs. Called now and then while we are connected."""
        context, device = self._context, self._context.device
        now = context.clock.monotonic()
        passed, self._looked = int(now - self._looked), now
        old = device.old_keys
        if not old:
            return
        used = {each: keys for each in self._conversations if (keys := _keys_of(each).intersection(old))}
        invited = {
            KeyPackageBundle.decode(bundle).key_package.leaf_node.signature_key
            for bundle in context.vault.invitations.bundles()
        }
        table = context.vault.signature_keys
        for public, certificate in old.items():
            table.add_connected(public, passed)
            connected = table.connected(public)
            if connected >= PACKAGES_SECONDS:
                context.vault.key_packages.delete_under(public)
            users = [each for each, keys in used.items() if public in keys]
            stands = public in invited or any(each.row.phase in phases.REPAIRABLE for each in users)
            needed = users or stands or context.vault.key_packages.under(public)
            over = certificate.not_after < context.clock.seconds() and connected >= PACKAGES_SECONDS
            if not needed or over or (connected >= KEPT_SECONDS and not stands):
                context.vault.key_packages.delete_under(public)
                device.keys.wipe(public)
                for each in users:
                    each.reload_group()
                    context.touched.add(each.id)


def _keys_of(conversation: Conversation) -> set[bytes]:
    """Return the signature keys that our leaf in a conversation names, or may name next."""
    staged, groups = conversation.staged, list[Group | None]()
    if conversation.row.phase in phases.INSIDE:
        groups.append(conversation.group)
    if staged is not None and staged.commit is not None:
        groups.append(staged.commit.group)
    return {group.public.member(group.own_leaf).signature_key for group in groups if group is not None}
