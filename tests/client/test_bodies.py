"""Every kind of content does something when it arrives, and what is unknown is kept."""

from securechat.client.conversations.bodies import HANDLERS
from securechat.content.registry import KINDS


def test_every_kind_has_a_handler() -> None:
    assert set(HANDLERS) == {kind.body for kind in KINDS}
