"""Floods of everything in every state, ten accounts at a time, while people talk: nothing of what they say is lost."""

from pathlib import Path

from scripts.soaking.hostile import TOGETHER, talk_under
from tests.support.floods import FLOODS


def test_whoever_talks_under_floods_is_heard_once_and_in_order(tmp_path: Path) -> None:
    parties = [FLOODS[first : first + TOGETHER] for first in range(0, len(FLOODS), TOGETHER)]
    assert talk_under(tmp_path, parties, 0.5) > 100
