"""Each power of the program as a conversation: `powers/` holds the scripts, `play` says how to read them."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.stories.play import Stage

SCRIPTS = sorted((Path(__file__).parent / "powers").glob("*.txt"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_power_reads_like_a_conversation(script: Path, tmp_path: Path) -> None:
    now = datetime.now()  # noqa: DTZ005  as the clock on the wall says it
    quiet = f"{now - timedelta(hours=6):%H:%M}-{now + timedelta(hours=6):%H:%M}"
    stage = Stage(tmp_path, {"quiet": quiet})
    try:
        stage.play(script.read_text())
    finally:
        stage.close()
