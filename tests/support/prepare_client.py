"""Prepares a client on this process's terminal, as `securechat client` does, and prints the result."""

import sys
from pathlib import Path

from securechat.errors import SecurechatError
from securechat.ui.start import Options, prepare

if __name__ == "__main__":
    folder, port, ca = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    new_identity = "--new-identity" in sys.argv
    try:
        start = prepare(
            Options(
                user="Alice",
                server=f"localhost:{port}",
                ca=Path(ca) if ca else None,
                pin="",
                vault=folder,
                password_file=None,
                register=False,
                new_identity=new_identity,
                invite="",
            )
        )
        with start.password.read() as password:
            sys.stdout.write(f"{start.account} {len(password)} bytes, register: {start.settings.register}\n")
    except SecurechatError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
