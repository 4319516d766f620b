"""What the MLS engine costs."""

import secrets
import time
from collections.abc import Iterator

from figure import Figure

from securechat.client.device import CAPABILITIES, SUITE
from securechat.mls.credential import Credential
from securechat.mls.crypto.sealing import SignaturePrivateKey, generate_signature_secret
from securechat.mls.framing import MLSMessage
from securechat.mls.group import Group
from securechat.mls.key_package_bundle import generate_key_package
from securechat.mls.leaf_node import LeafNode, Lifetime
from securechat.mls.proposals import Add
from securechat.mls.welcome import Welcome

PAYLOAD = 256  # bytes
MLS_MESSAGES = 2_000


def mls() -> Iterator[Figure]:
    """CPU time of the MLS engine for one message of 256 bytes, signature made and checked."""
    now = int(time.time())

    def accept(_leaf: LeafNode, *, entering: bool) -> None:
        """Both members are ours; no credential has to be judged."""

    keys = [SignaturePrivateKey(SUITE, generate_signature_secret(SUITE)) for _ in range(2)]
    one, two = (
        generate_key_package(
            SUITE, Credential.basic(name), key, CAPABILITIES, Lifetime(now - 60, now + 86_400)
        )
        for name, key in zip((b"one", b"two"), keys, strict=True)
    )
    group = Group.create(b"bench", one, keys[0], extensions=())
    staged = group.commit([Add(two.key_package)], tree_in_welcome=True, validate=accept, now=now)
    sender = staged.group
    assert staged.welcome is not None
    welcome = MLSMessage.decode(staged.welcome).body
    assert isinstance(welcome, Welcome)
    receiver = Group.join(welcome, two, keys[1], validate=accept, now=now)
    text = secrets.token_bytes(PAYLOAD)
    started = time.process_time()
    messages = [sender.encrypt(text) for _ in range(MLS_MESSAGES)]
    encrypting = time.process_time() - started
    started = time.process_time()
    for message in messages:
        receiver.decrypt(message, in_order=True)
    decrypting = time.process_time() - started
    yield Figure("256 bytes", "encrypt", encrypting / MLS_MESSAGES * 1e6, "µs")
    yield Figure("256 bytes", "decrypt", decrypting / MLS_MESSAGES * 1e6, "µs")
