"""The socket beside a vault, through which its owner is reached: where it is, who may connect, what comes first.

The owner is the process that holds the vault's lock. Its socket has mode 0600; on Linux the system also says that the
other process is of our own user. Neither is what counts: each side proves that it can open the vault
(`client.vault.door_proof`), and seals all that it says. So neither the socket nor a place between the two gives anybody
more than the vault's files and its password do.

Unix sockets are POSIX's. On Windows, and where a path is too long for the system, there is none, and whoever needs the
vault waits for its owner to end.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from securechat.client.vault.door_proof import (
    HEADER_LENGTH,
    MAX_RECORD,
    NONCE_LENGTH,
    PROOF_LENGTH,
    DoorKey,
    Records,
)
from securechat.errors import TrustError
from securechat.files import PRIVATE

MAX_SOCKET_PATH: Final = 100
"""Bytes of a socket's path: the systems allow 104 to 108."""

PROOF_SECONDS: Final = 5.0
"""How long each step of the proofs may take."""

WAITING: Final = 8
"""Connections that the system keeps until the owner takes them."""


class Sealed:
    """A connection whose ends have proven themselves. One thread may send while another one receives."""

    def __init__(self, connection: socket.socket, ours: Records, theirs: Records) -> None:
        """`connection` stays the caller's to set a timeout on, shut down and close, as `socket`."""
        self.socket = connection
        self._ours, self._theirs = ours, theirs

    def send(self, text: bytes) -> None:
        """Send all of a text. Raises OSError: then nothing more can be sent."""
        for begin in range(0, len(text), MAX_RECORD):
            self.socket.sendall(self._ours.seal(text[begin : begin + MAX_RECORD]))

    def receive(self) -> bytes:
        """Return what has come, at most MAX_RECORD bytes; none: the other side sends no more.

        Raises TrustError if it is not what they have sent, and OSError: then nothing more can be received.
        """
        header = self.socket.recv(HEADER_LENGTH)
        if not header:
            return b""
        header += _take(self.socket, HEADER_LENGTH - len(header))
        return self._theirs.open(header, _take(self.socket, self._theirs.length(header)))

    def lines(self) -> Iterator[bytes]:
        """Yield what comes as lines, without their ends, until the other side sends no more. Raises as `receive`."""
        begun = bytearray()
        while text := self.receive():
            *whole, rest = text.split(b"\n")
            for part in whole:
                begun += part
                yield bytes(begun)
                begun.clear()
            begun += rest


def path_of(vault: Path) -> Path:
    """Return where the socket of a vault is. Its name is short, since systems limit the whole path."""
    return vault.with_name(f"{sha256(vault.name.encode()).hexdigest()[:16]}.socket")


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Give a path as the system takes it for a socket. Raises OSError if it takes none."""
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("this system has no sockets with a path")
    whole = os.fsencode(path.absolute())
    if len(whole) <= MAX_SOCKET_PATH:
        yield os.fsdecode(whole)
    elif sys.platform == "linux":
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{folder}/{path.name}"
        finally:
            os.close(folder)
    else:
        raise OSError("the path is too long for a socket")


def listen(path: Path) -> socket.socket:
    """Return the owner's socket. One that a killed owner has left gives way: the caller holds the vault's lock.

    Raises OSError.
    """
    with _address(path) as address:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with suppress(FileNotFoundError):
                path.unlink()
            listener.bind(address)
            path.chmod(PRIVATE)  # before it listens: until then nobody gets in
            listener.listen(WAITING)
        except BaseException:
            listener.close()
            raise
    return listener


def connect(path: Path, key: DoorKey) -> Sealed:
    """Return a connection to the owner of a vault, who has proven to be it. Raises OSError, or TrustError if not."""
    with _address(path) as address:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(PROOF_SECONDS)
            connection.connect(address)
            a = os.urandom(NONCE_LENGTH)
            connection.sendall(a)
            answer = _take(connection, NONCE_LENGTH + PROOF_LENGTH)
            b, proof = answer[:NONCE_LENGTH], answer[NONCE_LENGTH:]
            key.verify("owner", a, b, proof)
            connection.sendall(key.prove("asker", a, b))
            connection.settimeout(None)
        except BaseException:
            connection.close()
            raise
    return Sealed(connection, key.records_of("asker", a, b), key.records_of("owner", a, b))


def admit(connection: socket.socket, key: DoorKey) -> Sealed:
    """Let somebody in who can open the vault. Raises OSError or TrustError."""
    if (user := _user_of(connection)) is not None and user != os.geteuid():
        raise TrustError(f"a process of user {user} asks")
    connection.settimeout(PROOF_SECONDS)
    a = _take(connection, NONCE_LENGTH)
    b = os.urandom(NONCE_LENGTH)
    connection.sendall(b + key.prove("owner", a, b))
    key.verify("asker", a, b, _take(connection, PROOF_LENGTH))
    connection.settimeout(None)
    return Sealed(connection, key.records_of("owner", a, b), key.records_of("asker", a, b))


def _user_of(connection: socket.socket) -> int | None:
    """Return the user id of the process at the other end, where the system says it."""
    if sys.platform != "linux":
        return None
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(user)


def _take(connection: socket.socket, length: int) -> bytes:
    """Return so many bytes, and no more. Raises OSError if the other side ends before."""
    taken = b""
    while len(taken) < length:
        block = connection.recv(length - len(taken))
        if not block:
            raise ConnectionResetError("the other side has ended")
        taken += block
    return taken
