"""mls-rs as a member: Rust, through the bindings of agentvault-mls-rs-uniffi. Suite 1, handshakes in PublicMessages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mls_rs_uniffi as mls

from tests.interop.member import AddClient, Change, Committed, Refused, RemoveMember

SUITE = mls.CipherSuite.CURVE25519_AES128


class MlsRs:
    """A member that runs mls-rs. The bindings show no epoch authenticator, so views are compared by the exporter."""

    def __init__(self, name: str, *, tree_in_welcome: bool = True) -> None:
        self.identity = name.encode()
        config = mls.ClientConfig(
            group_state_storage=mls.client_config_default().group_state_storage,
            use_ratchet_tree_extension=tree_in_welcome,
        )
        self._client = mls.Client(self.identity, mls.generate_signature_keypair(SUITE), config)
        self._group: Any = None
        self._met: dict[bytes, Any] = {}
        self.active = False

    def key_package(self) -> bytes:
        """A fresh key package."""
        return bytes(self._client.generate_key_package_message().to_bytes())

    def create(self, group_id: bytes) -> None:
        """Make a group of one."""
        self._group = self._client.create_group(group_id)
        self.active = True

    def join(self, welcome: bytes, tree: bytes | None = None) -> None:
        """Enter a group by a Welcome."""
        beside = None if tree is None else mls.RatchetTree(bytes=tree)
        with _refusals():
            self._group = self._client.join_group(beside, mls.Message.from_bytes(welcome)).group
        self.active = True

    def meet(self, identity: bytes, message: bytes) -> None:
        """Read an application message of this member: the bindings remove only whom they have met."""
        self._met[identity] = self._receive(message).sender

    def propose(self, change: Change) -> bytes:
        """Propose a change, for a later commit to refer to."""
        with _refusals():
            match change:
                case AddClient(key_package):
                    made = self._group.propose_add_members([mls.Message.from_bytes(key_package)])
                case RemoveMember(identity):
                    made = self._group.propose_remove_members([self._met[identity]])
                case _:
                    raise NotImplementedError
        return bytes(made[0].to_bytes())

    def commit(self, *changes: Change) -> Committed:
        """Commit the proposals received and these changes, which are all additions or all removals."""
        added = [mls.Message.from_bytes(change.key_package) for change in changes if isinstance(change, AddClient)]
        removed = [self._met[change.identity] for change in changes if isinstance(change, RemoveMember)]
        assert len(changes) in {len(added), len(removed)}
        with _refusals():
            if added:
                made = self._group.add_members(added)
            elif removed:
                made = self._group.remove_members(removed)
            else:
                made = self._group.commit()
            self._group.process_incoming_message(made.commit_message)
        welcome = None if made.welcome_message is None else bytes(made.welcome_message.to_bytes())
        return Committed(bytes(made.commit_message.to_bytes()), welcome, bytes(self._group.export_tree().bytes))

    def receive(self, message: bytes) -> bytes | None:
        """Process what another member sent."""
        received = self._receive(message)
        if received.is_application_message():
            return bytes(received.data)
        if received.is_commit():
            self.active = not received.effect.is_removed()
        return None

    def _receive(self, message: bytes) -> Any:
        with _refusals():
            return self._group.process_incoming_message(mls.Message.from_bytes(message))

    def encrypt(self, text: bytes) -> bytes:
        """Make an application message."""
        with _refusals():
            return bytes(self._group.encrypt_application_message(text).to_bytes())

    def export(self, label: str, context: bytes, length: int) -> bytes:
        """MLS-Exporter."""
        return bytes(self._group.export_secret(label.encode(), context, length))


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except mls.Error as error:
        raise Refused(str(error)) from None
