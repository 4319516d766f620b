"""rine-mls as a member: Rust on mls-rs, the peer that joins by external commit. Suite 1, PublicMessages."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rine_mls

from securechat.mls.framing import ContentType, read_header
from tests.interop.member import AddClient, Change, Committed, Refused, RemoveMember

APPLICATION_TAG = bytes([rine_mls.APP_MESSAGE_TAG])
"""rine's own byte before an application message."""

SEED_SIZE = 32  # bytes of an Ed25519 private key


class Rine:
    """A member that runs rine-mls. It has no exporter, no authenticator, no update; its identity is its public key."""

    def __init__(self, store: Path) -> None:
        self._client = rine_mls.MlsClient(str(store), secrets.token_bytes(SEED_SIZE), rine_mls.CIPHER_SUITE_CLASSICAL)
        self.identity = bytes(self._client.public_key())
        self._group: Any = None

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        return int(self._group.epoch())

    @property
    def active(self) -> bool:
        """Whether this is still a member."""
        return bool(self._group.is_active())

    def key_package(self) -> bytes:
        """A fresh key package."""
        return bytes(self._client.generate_key_package())

    def create(self, group_id: bytes) -> None:
        """Make a group of one."""
        self._group = self._client.create_group(group_id)

    def join(self, welcome: bytes, tree: bytes | None = None) -> None:
        """Enter a group by a Welcome."""
        assert tree is None
        with _refusals():
            self._group = self._client.join_from_welcome(welcome)

    def join_external(self, group_info: bytes, *, resync: bool = False) -> bytes:
        """Enter a group by an external commit, or come back in place of the old leaf; the commit comes back."""
        with _refusals():
            if resync:
                old = self._group.current_member_index()
                self._group = self._client.resync_by_external_commit(group_info, old)
            else:
                self._group = self._client.join_by_external_commit(group_info)
        return bytes(self._group.last_commit().commit)

    def commit(self, *changes: Change) -> Committed:
        """Commit one addition or one removal."""
        (change,) = changes
        with _refusals():
            match change:
                case AddClient(key_package):
                    made = self._group.add_member(key_package)
                case RemoveMember(identity):
                    made = self._group.remove_member(self._group.member_index(identity))
                case _:
                    raise NotImplementedError
        welcomes = [bytes(welcome) for welcome in made.welcomes]
        return Committed(bytes(made.commit), welcomes[0] if welcomes else None, b"")

    def receive(self, message: bytes) -> bytes | None:
        """Process a commit or an application message."""
        with _refusals():
            if read_header(message).content_type != ContentType.APPLICATION:
                self._group.apply_commit(message)
                return None
            return bytes(self._group.decrypt_application_message(APPLICATION_TAG + message).envelope)

    def encrypt(self, text: bytes) -> bytes:
        """Make an application message."""
        with _refusals():
            return bytes(self._group.encrypt_application_message(text)).removeprefix(APPLICATION_TAG)

    def group_info(self) -> bytes:
        """A GroupInfo with the tree, by which others can join externally."""
        return bytes(self._group.group_info())


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except rine_mls.RineMlsError as error:
        raise Refused(f"{type(error).__name__}: {error}") from None
