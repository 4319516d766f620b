"""What the server has logged, as events with their fields."""

from typing import Any

import pytest


def logged(caplog: pytest.LogCaptureFixture, event: str | None = None) -> list[dict[str, Any]]:
    """All events so far, or those of one kind; each is a dict of its fields, `event` among them."""
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    return [line for line in lines if event in (None, line["event"])]
