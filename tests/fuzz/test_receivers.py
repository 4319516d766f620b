"""Submit whatever is accepted, and decode whatever comes out: at every limit, and next to it."""

import typing

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from securechat.wire import limits
from securechat.wire import messages as m
from tests.fuzz import targets_receivers as targets
from tests.wire.test_bounds import largest

LOGINS = (m.Register, m.Login, m.Resume)
REQUESTS = [kind for kind in typing.get_args(m.FromClient) if issubclass(kind, m.Request) and kind not in LOGINS]
NEAR = st.integers(0, 2 * targets.NEAR) | st.integers(0, 255)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(NEAR, min_size=8, max_size=10).map(bytes))
def test_what_is_accepted_of_any_size_is_taken_by_its_receivers(script: bytes) -> None:
    targets.receivers(script)


def test_the_seeds_reach_what_is_stored_and_forwarded() -> None:
    there = targets.world()
    there.accepted.clear()
    for script in targets.seeds()["receivers"]:
        targets.receivers(script)
    wanted = {"OpenRoom", "Commit", "Submit", "Join", "Leave", "Resync", "FetchCheckpoints", "Members", "ListRooms"}
    assert wanted <= {name for name, count in there.accepted.items() if count >= 2}


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_the_largest_request_is_answered_with_what_can_be_read(kind: type[m.Request]) -> None:
    there = targets.world()
    message = largest(inspect.type_info(kind))
    assert isinstance(message, m.Request)
    values = msgspec.structs.astuple(message)[1:]
    there.ask(there.person("erin"), kind, *values)
    erin = there.person("erin")
    assert isinstance(there.ask(erin, m.Members, bytes(32)), m.Refused)
    assert erin.link.open


def test_sizes_lie_on_both_sides_of_a_limit() -> None:
    sizes = {targets.Script(bytes([byte])).size(limits.MAX_WELCOME) for byte in range(256)}
    near = {limits.MAX_WELCOME + off for off in range(-targets.NEAR, targets.NEAR + 1)}
    assert near <= sizes
    assert min(sizes) < limits.MAX_WELCOME // 8
