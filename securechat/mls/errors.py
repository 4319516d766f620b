"""What can be wrong with an MLS message that parses. Each is a `PeerError`: our state has not changed."""

from securechat.errors import PeerError


class InvalidMessage(PeerError):  # noqa: N818 - says what the message is
    """A message breaks a rule of RFC 9420; the text names the rule."""


class WrongEpoch(InvalidMessage):
    """A message belongs to another group, or to an epoch that is not the current one."""


class OutsideLifetime(InvalidMessage):
    """A key package has expired, or is not valid yet: another may do."""


class CannotDecrypt(InvalidMessage):
    """A message cannot be opened: not for us, altered, already read, or its key is deleted."""


class BadConfirmationTag(InvalidMessage):
    """A commit leads us elsewhere than its confirmation tag says. The tag is not signed, except in a GroupInfo."""


class BadExternalKey(InvalidMessage):
    """A GroupInfo offers another key for external joins than the group's. Its signature covers it: its maker did it."""


class BadPath(CannotDecrypt):
    """What a commit's path holds for us does not fit its public keys. Its signature covers both: its maker did it."""
