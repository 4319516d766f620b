"""Guesses passwords from many addresses, in a process of its own, so that it does not hold up what measures meanwhile.

    python -m scripts.benchmarks.work.flooder HOST:PORT CERTS SECONDS      prints `Guesses` as JSON

The addresses are 127.0.0.x, which only Linux has. Every guess is at another account, half of them at ones that exist,
so that no account's rate spares the server the work; no address comes near its own.
"""

import json
import os
import selectors
import socket
import ssl
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.benchmarks.systems.system import trusting
from securechat.wire import limits
from securechat.wire.messages import Hello, Login, Refused
from securechat.wire.protocol import ClientProtocol

ADDRESSES = 50
RATE = 100  # guesses a second


@dataclass
class Guesses:
    """What came of them. Times in ms."""

    made: int
    left_out: int  # the answer to the address's one before was not there yet
    answers: dict[str, int]
    busy_p99: float


class Guesser:
    """One connection from one address."""

    def __init__(self, server: tuple[str, int], number: int, context: ssl.SSLContext) -> None:
        plain = socket.create_connection(server, source_address=(f"127.0.0.{number + 10}", 0))
        self.tls = context.wrap_socket(plain, server_hostname="localhost")
        self._protocol = ClientProtocol("bench", time.monotonic())
        self.asked: float | None = None
        self.tls.sendall(self._protocol.data_to_send())
        while not any(isinstance(event, Hello) for event in self._receive()):
            pass

    def close(self) -> None:
        """Go."""
        self.tls.close()

    def guess(self, account: str) -> None:
        """Try a wrong password."""
        secret, device = os.urandom(limits.SECRET_LENGTH), bytes(limits.DEVICE_ID_LENGTH)
        self._protocol.send(Login(self._protocol.next_id(), account, secret, device))
        self.asked = time.perf_counter()
        self.tls.sendall(self._protocol.data_to_send())

    def answer(self) -> tuple[str, float]:
        """The code of the refusal that has arrived, and how many ms it took."""
        (refused,) = self._receive()
        assert isinstance(refused, Refused), refused
        assert self.asked is not None
        taken, self.asked = time.perf_counter() - self.asked, None
        return refused.code, taken * 1000

    def _receive(self) -> list[object]:
        data = self.tls.recv(1 << 14)
        if not data:
            raise SystemExit("the server has closed a connection")
        return list(self._protocol.receive_data(data, time.monotonic()))


def flood(server: tuple[str, int], certs: Path, seconds: float) -> Guesses:
    """Guess for this many seconds."""
    context = trusting(certs)
    context.set_alpn_protocols([limits.ALPN])
    guessers = [Guesser(server, number, context) for number in range(ADDRESSES)]
    selector = selectors.DefaultSelector()
    for guesser in guessers:
        selector.register(guesser.tls, selectors.EVENT_READ, guesser)
    made = left_out = 0
    answers: Counter[str] = Counter()
    busy: list[float] = []

    def take(until: float) -> None:
        while True:
            for key, _ in selector.select(max(until - time.perf_counter(), 0)):
                code, taken = key.data.answer()
                answers[code] += 1
                if code == "busy":
                    busy.append(taken)
            if time.perf_counter() >= until:
                return

    started = time.perf_counter()
    for number in range(int(RATE * seconds)):
        take(started + number / RATE)
        guesser = guessers[number % ADDRESSES]
        if guesser.asked is None:
            guesser.guess(f"member{number // 2 % 400}" if number % 2 else f"nobody{number}")
            made += 1
        else:
            left_out += 1
    take(time.perf_counter() + 2)
    p99 = statistics.quantiles(busy, n=100)[98] if len(busy) > 1 else 0.0
    return Guesses(made, left_out, dict(answers), p99)


if __name__ == "__main__":
    host, _, port = sys.argv[1].partition(":")
    print(json.dumps(asdict(flood((host, int(port)), Path(sys.argv[2]), float(sys.argv[3])))))
