"""The floor: the least that a relay in Python does. One thread, `selectors`, plain `SSLSocket`, length-prefixed frames.

    python floor_server.py CERTIFICATE KEY        prints `listening on HOST:PORT` and runs until it is killed

The first frame on a connection names its group; each later one goes to the others of the group, one write for each.
There is no log, no session and no acknowledgement: what a receiver does not read waits in memory.
"""

import contextlib
import selectors
import socket
import ssl
import struct
import sys

RECEIVE_BYTES = 64 << 10
BACKLOG = 1024

_LENGTH = struct.Struct(">I")


class Client:
    """One connection."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self.established = False
        self.group: list[Client] | None = None
        self.incoming = bytearray()
        self.outgoing = bytearray()


class Floor:
    """The relay."""

    def __init__(self, certificate: str, key: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.num_tickets = 0
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listener.settimeout(0)
        self.port: int = self._listener.getsockname()[1]
        self._groups: dict[bytes, list[Client]] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)

    def run(self) -> None:
        """Relay for ever."""
        while True:
            for key, mask in self._selector.select():
                if key.data is None:
                    self._accept()
                    continue
                try:
                    if mask & selectors.EVENT_WRITE:
                        self._write(key.data)
                    if mask & selectors.EVENT_READ:
                        self._read(key.data)
                except OSError:
                    self._drop(key.data)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            plain, _ = self._listener.accept()
            plain.settimeout(0)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            self._selector.register(tls, selectors.EVENT_READ, Client(tls))

    def _read(self, client: Client) -> None:
        if not client.established:
            try:
                client.tls.do_handshake()
            except ssl.SSLWantReadError:
                return
            client.established = True
        try:
            while True:
                data = client.tls.recv(RECEIVE_BYTES)
                if not data:
                    self._drop(client)
                    return
                client.incoming += data
                self._relay(client)
        except ssl.SSLWantReadError:
            return

    def _relay(self, client: Client) -> None:
        incoming, start = client.incoming, 0
        while len(incoming) - start >= _LENGTH.size:
            end = start + _LENGTH.size + _LENGTH.unpack_from(incoming, start)[0]
            if end > len(incoming):
                break
            frame = bytes(incoming[start:end])
            start = end
            if client.group is None:
                client.group = self._groups.setdefault(frame, [])
                client.group.append(client)
                client.tls.send(frame)  # so that it knows that it is in
                continue
            for other in client.group:
                if other is not client:
                    self._send(other, frame)
        del incoming[:start]

    def _send(self, client: Client, frame: bytes) -> None:
        if client.outgoing:
            client.outgoing += frame
            return
        try:
            client.tls.send(frame)
        except ssl.SSLWantWriteError:
            client.outgoing += frame
            self._selector.modify(client.tls, selectors.EVENT_READ | selectors.EVENT_WRITE, client)

    def _write(self, client: Client) -> None:
        try:
            while client.outgoing:
                # OpenSSL wants a write that it could not finish to be repeated with the same bytes.
                sent = client.tls.send(client.outgoing[: 16 << 10])
                del client.outgoing[:sent]
        except ssl.SSLWantWriteError:
            return
        self._selector.modify(client.tls, selectors.EVENT_READ, client)

    def _drop(self, client: Client) -> None:
        if client.group is not None:
            client.group.remove(client)
        self._selector.unregister(client.tls)
        client.tls.close()


if __name__ == "__main__":
    floor = Floor(sys.argv[1], sys.argv[2])
    print(f"listening on 127.0.0.1:{floor.port}", flush=True)
    floor.run()
