"""What is said of a file that is shared, by its name: what it is, and how it wants to be shown."""

import mimetypes
from pathlib import Path
from typing import Final

from securechat.client.commands import SendFile
from securechat.client.message import Disposition

_UNKNOWN: Final = "application/octet-stream"


def sharing(
    conversation: bytes, path: Path, description: str = "", *, voice: bool = False, upload_first: bool = False
) -> SendFile:
    """Return the command that shares a file; `path` is absolute. `voice`: a recording becomes a voice note."""
    if voice:
        return SendFile(conversation, str(path), description, disposition="voice", upload_first=upload_first)
    media_type = mimetypes.guess_type(path.name)[0] or _UNKNOWN
    disposition: Disposition = "image" if media_type.startswith("image/") else "attachment"
    return SendFile(
        conversation, str(path), description, media_type=media_type, disposition=disposition, upload_first=upload_first
    )
