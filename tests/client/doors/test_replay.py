"""The explorer's stories with real keys: what the symbols say is what the engine and the rules say."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.doors.moves import Scenario
from tests.client.doors.person import WHOLE
from tests.client.doors.real import replay
from tests.client.doors.scenarios import SCENARIOS

MOVES = 8


@given(st.sampled_from(SCENARIOS), st.lists(st.integers(min_value=0, max_value=1 << 16), max_size=MOVES))
@settings(max_examples=60, deadline=None)
def test_a_walk_means_the_same_with_real_keys(scenario: Scenario, picks: list[int]) -> None:
    left = iter(picks)

    def choose(labels: list[str]) -> int:
        pick = next(left, -1)
        return pick % len(labels) if labels and pick >= 0 else -1

    replay(scenario, choose, WHOLE)
