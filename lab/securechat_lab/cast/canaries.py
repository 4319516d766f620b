"""Looks for secrets in what was written, sent or logged, in every usual encoding."""

import base64
import json
from pathlib import Path


def spellings(canary: bytes) -> dict[str, bytes]:
    """All encodings in which a canary would be recognised, by name."""
    found = {
        "as it is": canary,
        "hex": canary.hex().encode(),
        "HEX": canary.hex().upper().encode(),
        "escaped": "".join(f"\\x{byte:02x}" for byte in canary).encode(),
        "repr": repr(canary)[2:-1].encode(),
        "repr in JSON": json.dumps(repr(canary)[2:-1])[1:-1].encode(),
        "Latin-1 in JSON": json.dumps(canary.decode("latin-1"))[1:-1].encode(),
        "numbers": ", ".join(map(str, canary)).encode(),
        "numbers, close": ",".join(map(str, canary)).encode(),
    }
    for offset in range(3):
        # Inside a longer text, the bytes before and after change the digits at either end.
        digits = base64.b64encode(bytes(offset) + canary)[4 if offset else 0 :]
        inner = digits[: len(digits) // 4 * 4 - 4]
        found[f"base64, {offset}"] = inner
        found[f"base64url, {offset}"] = inner.translate(bytes.maketrans(b"+/", b"-_"))
    try:
        text = canary.decode()
    except UnicodeDecodeError:
        return found
    return found | {
        "in JSON": json.dumps(text)[1:-1].encode(),
        "ascii": ascii(text)[1:-1].encode(),
        "ascii in JSON": json.dumps(ascii(text)[1:-1])[1:-1].encode(),
        "UTF-16": text.encode("utf-16-le"),
        "UTF-16BE": text.encode("utf-16-be"),
        "backwards": canary[::-1],
    }


def search(places: dict[str, bytes], canaries: dict[str, bytes]) -> list[str]:
    """Where a canary was found, and how it was written there."""
    return [
        f"{name} in {place} ({spelling})"
        for name, canary in canaries.items()
        for spelling, needle in spellings(canary).items()
        for place, content in places.items()
        if needle in content
    ]


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its name, because that is searched, too."""
    return {str(path): str(path).encode() + path.read_bytes() for path in folder.rglob("*") if path.is_file()}
