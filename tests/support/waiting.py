"""Waiting for what other threads and processes do: until it is done, and not for a time."""

import threading
import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 60.0
"""Seconds until what has not happened never will: machines are slow."""


def wait_until(condition: Callable[[], bool]) -> None:
    """Look at a condition until it holds; fails if it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_set(event: threading.Event) -> None:
    """Wait for an event; fails if it never comes."""
    assert event.wait(PATIENCE)
