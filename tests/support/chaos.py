"""A bad network: a TCP proxy that cuts, resets, stalls, delays and crumbles what goes through it.

Each direction of each connection has a plan of its own, drawn from the seed, the connection's number and the direction:
some bytes pass, then a fault happens, and so on. A quarter of the distances are log-uniform, so that the first byte and
the middle of the TLS handshake are hit, too; the others let people get somewhere first.
"""

import contextlib
import math
import random
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Literal, Self, get_args

Fault = Literal["cut", "reset", "stall", "delay", "crumbs"]
"""cut: both ends see the end of the stream. reset: RST. stall: silence, then RST. delay: a pause. crumbs: one byte per
segment for a while."""

FAULTS: tuple[Fault, ...] = get_args(Fault)

CALM_BYTES = 1 << 17
"""The longest distance between two faults of one direction, by default."""

DELAY_SECONDS = 0.05
STALL_SECONDS = 1.0
CRUMBS = 400
"""Bytes that go one by one."""

_BUFFER = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends RST


class _Stream:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, target: socket.socket, chance: random.Random) -> None:
        self.source = source
        self.target = target
        self.chance = chance
        self.waiting = bytearray()
        self.ended = False  # the source sends no more
        self.left = 0  # bytes that pass before the next fault
        self.crumbs = 0  # of them, those that pass one by one
        self.pause = 0.0  # until when nothing passes (monotonic seconds)
        self.stalled = False  # and then comes a reset

    def draw(self, calm: int) -> None:
        """Choose where the next fault is."""
        early = self.chance.random() < 0.25
        self.left = int(math.exp(self.chance.uniform(0, math.log(calm))) if early else self.chance.uniform(0, calm))


class ChaosProxy:
    """Listens on `port` and relays to `upstream`, which may be down. Use as a context; one thread serves all."""

    def __init__(
        self, upstream: int, *, seed: int, faults: Iterable[Fault] = FAULTS, calm: int = CALM_BYTES, port: int = 0
    ) -> None:
        """`upstream`: a port of this machine. Two faults of one direction are `calm` bytes apart at most."""
        self.upstream = upstream
        self.faults = tuple(faults)
        """The faults from now on; without any, this is a plain proxy. May be changed at any time."""
        self.happened: Counter[Fault] = Counter()
        """Faults so far."""
        self.connections = 0
        """Connections so far."""
        self.seed = seed
        self._calm = calm
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._listener.settimeout(0)
        self.port: int = self._listener.getsockname()[1]
        self._links: set[tuple[_Stream, _Stream]] = set()
        self._selector = selectors.DefaultSelector()
        self._orders: list[str] = []
        self._waker, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="chaos", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._order("end")
        self._thread.join()

    def cut_all(self) -> None:
        """Reset every connection at once; new ones are accepted."""
        self._order("cut")

    def _order(self, what: str) -> None:
        self._orders.append(what)
        self._waker.send(b"\0")

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        ending = False
        while not ending:
            now = time.monotonic()
            pauses = [stream.pause for link in self._links for stream in link if stream.pause > now]
            ready = self._selector.select(min(pauses) - now if pauses else None)
            for key, mask in ready:
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._woken:
                    self._woken.recv(4096)
                elif mask & selectors.EVENT_READ and key.data[0] in self._links:
                    self._receive(*key.data)
            while self._orders:
                order = self._orders.pop(0)
                ending = ending or order == "end"
                for link in list(self._links):
                    self._drop(link, reset=True)
            now = time.monotonic()
            for link in list(self._links):
                if all(self._pass_on(link, stream, now) for stream in link):
                    self._watch(link, now)
        for sock in (self._listener, self._waker, self._woken):
            sock.close()
        self._selector.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket()
        for end in (client, server):
            end.settimeout(0)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.connect_ex(("127.0.0.1", self.upstream))
        self.connections += 1
        link = (
            _Stream(client, server, random.Random(f"{self.seed} {self.connections} up")),
            _Stream(server, client, random.Random(f"{self.seed} {self.connections} down")),
        )
        self._links.add(link)
        for stream in link:
            stream.draw(self._calm)
            self._selector.register(stream.source, selectors.EVENT_READ, (link, stream))

    def _receive(self, link: tuple[_Stream, _Stream], stream: _Stream) -> None:
        try:
            data = stream.source.recv(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            self._drop(link, reset=True)
            return
        stream.waiting += data
        stream.ended = not data

    def _pass_on(self, link: tuple[_Stream, _Stream], stream: _Stream, now: float) -> bool:
        """Send what may pass; False if the connection is gone."""
        faults = self.faults
        while stream.pause <= now:
            if stream.stalled:
                self._drop(link, reset=True)
                return False
            if not stream.waiting:
                if stream.ended:
                    self._drop(link, reset=False)
                    return False
                return True
            if faults and stream.left == 0:
                if not self._strike(link, stream, stream.chance.choice(faults), now):
                    return False
                continue
            size = 1 if stream.crumbs else len(stream.waiting)
            if faults:
                size = min(size, stream.left)
            try:
                sent = stream.target.send(memoryview(stream.waiting)[:size])
            except BlockingIOError:
                return True
            except OSError:  # the other end is down, or was never up
                self._drop(link, reset=True)
                return False
            del stream.waiting[:sent]
            stream.left = max(stream.left - sent, 0)
            stream.crumbs = max(stream.crumbs - sent, 0)
        return True

    def _strike(self, link: tuple[_Stream, _Stream], stream: _Stream, fault: Fault, now: float) -> bool:
        """Let a fault happen; False if the connection is gone."""
        self.happened[fault] += 1
        stream.draw(self._calm)
        if fault in ("cut", "reset"):
            self._drop(link, reset=fault == "reset")
            return False
        if fault == "crumbs":
            stream.crumbs = CRUMBS
        else:
            stream.stalled = fault == "stall"
            longest = STALL_SECONDS if stream.stalled else DELAY_SECONDS
            stream.pause = now + stream.chance.uniform(0, longest)
        return True

    def _watch(self, link: tuple[_Stream, _Stream], now: float) -> None:
        up, down = link
        for stream, other in ((up, down), (down, up)):
            mask = 0
            if not stream.ended and len(stream.waiting) < _BUFFER:
                mask |= selectors.EVENT_READ
            if other.waiting and other.pause <= now:
                mask |= selectors.EVENT_WRITE
            registered = stream.source in self._selector.get_map()
            if mask and registered:
                self._selector.modify(stream.source, mask, (link, stream))
            elif mask:
                self._selector.register(stream.source, mask, (link, stream))
            elif registered:
                self._selector.unregister(stream.source)

    def _drop(self, link: tuple[_Stream, _Stream], *, reset: bool) -> None:
        self._links.discard(link)
        for stream in link:
            with contextlib.suppress(KeyError):  # not watched at this moment
                self._selector.unregister(stream.source)
            if reset:
                stream.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            stream.source.close()
