"""Prepares a client on this process's terminal, as `securechat client` does, and prints the result."""

import sys
from pathlib import Path

from securechat.errors import SecurechatError
from securechat.ui.start import Options, prepare

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    try:
        start = prepare(
            Options(
                user="Alice",
                server="localhost",
                ca=folder / "ca.pem",
                pin="",
                vault=folder,
                password_file=None,
                register=False,
                new_identity=False,
                invite="",
            )
        )
        sys.stdout.write(f"{start} {len(start.password)} characters, register: {start.settings.register}\n")
    except SecurechatError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
