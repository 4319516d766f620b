"""What a server is made of where it could be made otherwise: the defaults are the product (`client.parts`)."""

from collections.abc import Callable
from dataclasses import field

import argon2

from securechat.server.accounts.passwords import COST
from securechat.server.sequencer.commits import accepts_commit
from securechat.value import value


@value
class ServerParts:
    """The parts of one server."""

    password_cost: argon2.Parameters = field(default_factory=lambda: COST)
    """What the hash of a login secret costs."""
    accepts_commit: Callable[[int, int], bool] = accepts_commit
    """Whether a commit made in one epoch is accepted in another: the log's epoch, the commit's."""
