"""Every exercise's files as `start` hands them out: whoever does nothing gets no point.

Tables and checks of one's own, as they are handed out, are tried in test_reviews.py.
"""

from dataclasses import replace

import pytest

from securechat_lab.cast import talkers
from securechat_lab.exercises import EXERCISES, Number, find
from securechat_lab.kit.outcomes import score
from securechat_lab.kit.task import HandIn
from tests.lab.proofs import points, seeds


@pytest.mark.parametrize("number", [each.number for each in EXERCISES])
def test_doing_nothing_gets_no_point_and_all_that_it_would_get_is_idle(
    number: Number, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talkers, "QUIET_SECONDS", 0.2)  # of a server that says nothing
    files = find(number).load().files(seeds(number, "ann")[0])
    attack, defence, report = (files.get(name, "") for name in ("attack.py", "defence.py", "report.md"))
    found = points(number, HandIn(attack, defence, report=report))
    assert found
    assert sum(each.points for each in found.values()) == 0
    tried = [each.outcome for each in found.values() if each.outcome.worth]
    would = {each.outcome.point for each in score([replace(each, idle=False) for each in tried]) if each.counts}
    assert would == {each.point for each in tried if each.idle}
