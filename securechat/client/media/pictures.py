"""Previews of pictures: made by whoever sends one, from their own file; looked at by others as what a stranger made."""

from typing import Final

from securechat.client.media.child import NO_ANSWER, Child, MediaError
from securechat.client.media.worker import MAX_PREVIEW, PICTURES, PIXELS, PREVIEW, SIDE
from securechat.value import value

MAX_SIDE: Final = 65_535
"""Pixels of a picture's side (`content.registry.File`)."""


@value
class Picture:
    """What is sent beside a picture."""

    width: int  # pixels, as it is shown
    height: int
    thumbnail: bytes  # JPEG, at most SIDE pixels wide and high, and MAX_PREVIEW bytes


@value
class Pixels:
    """A preview as a screen takes it: three bytes a pixel, line by line from above."""

    width: int
    height: int
    rgb: bytes


def describe(data: bytes) -> Picture:
    """Return what is sent beside a picture of ours. Raises `MediaError`, and `UsageError` without the extra."""
    with Child(PICTURES) as child:
        answer = child.ask(PREVIEW, data, 8 + MAX_PREVIEW)
    width, height = int.from_bytes(answer[:4]), int.from_bytes(answer[4:8])
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and len(answer) > 8):
        raise MediaError("picture", f"it is more than {MAX_SIDE:,} pixels wide or high")
    return Picture(width, height, answer[8:])


def look(child: Child, thumbnail: bytes) -> Pixels:
    """Return what somebody's preview shows, by a process for `PICTURES`. Raises `MediaError`."""
    answer = child.ask(PIXELS, thumbnail, 8 + 3 * SIDE * SIDE)
    width, height = int.from_bytes(answer[:4]), int.from_bytes(answer[4:8])
    if not (0 < width <= SIDE and 0 < height <= SIDE and len(answer) == 8 + 3 * width * height):
        raise MediaError("picture", NO_ANSWER)
    return Pixels(width, height, answer[8:])
