"""The work that all systems are put to, and what it costs them."""

import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass

from scripts.benchmarks.systems.system import STALLED, Client, ServerFailedError, System

OUTSTANDING = 64  # messages of a pipelined sender on their way
PIPELINED_MESSAGES = 1_000  # from each sender
BURSTS = 200
ROOM_MESSAGES = 500
RATE = 2_000  # messages a second
RATE_SECONDS = 3
UNREAD = 100_000  # messages for a receiver that does not read
SETTLED = 0.2  # seconds without work: the server has dealt with all that it got
PATIENCE = 120.0  # seconds: nobody needs a fifth of it who can be compared with
QUIET = 5.0  # seconds without a message from a server that confirms nothing: what is still missing is lost


@dataclass(frozen=True)
class Cost:
    """What a workload came to."""

    delivered: int
    seconds: float
    cpu: float  # seconds, of the server's process
    latencies: list[float]  # seconds, from `say` to the receiver's reading, sorted
    lost: int  # messages that the server has dropped

    @property
    def cpu_each(self) -> float:
        """µs of the server's CPU for each delivered message."""
        return self.cpu / self.delivered * 1e6

    def latency(self, percent: int) -> float:
        """µs within which so many of the messages arrived."""
        return self.latencies[len(self.latencies) * percent // 100] * 1e6


@dataclass(frozen=True)
class Neglect:
    """What came of messages to a receiver that did not read."""

    growth: float  # MiB of the server's memory, at most
    lost: int
    held_up: int  # messages that the server would not take from the sender any more
    cut_off: bool  # whether the receiver was


class Load:
    """Drives clients from one thread and counts what they get."""

    def __init__(self, system: System, clients: list[Client], selector: selectors.BaseSelector | None = None) -> None:
        """Take the clients over: until `release` their sockets do not block."""
        self._system = system
        self._selector = selector or selectors.DefaultSelector()
        self._clients = clients
        self._stamps: list[tuple[int, list[int]]] = []  # (when they arrived, when they were made), in ns
        self.delivered = self.lost = 0
        for client in clients:
            client.socket.settimeout(0)
            self._selector.register(client.socket, selectors.EVENT_READ, client)
        self._started, self._cpu = time.perf_counter(), system.process.cpu()

    def run(self, react: Callable[[Client, int], None], expected: int) -> None:
        """Pump until all that is expected since the beginning has been delivered and confirmed, or is lost.

        A server that confirms messages and then does not deliver them is not measured any further.
        """
        confirms = self._clients[0].confirms
        while self.delivered + self.lost < expected or any(client.unanswered for client in self._clients):
            if time.perf_counter() - self._started > PATIENCE:
                raise ServerFailedError(f"{self._system.name} has not come to an end in {PATIENCE:.0f} s")
            if self.pump(react, STALLED if confirms else QUIET):
                continue
            if confirms:
                raise ServerFailedError(f"nothing has come from {self._system.name} for {STALLED:.0f} s")
            if not self.delivered:
                raise ServerFailedError(f"{self._system.name} has delivered nothing in {QUIET:.0f} s")
            for client in self._clients:
                client.unanswered = 0
            for client in self._clients:
                react(client, 0)
                self.flush(client)
            if not any(client.unanswered for client in self._clients):  # nobody has more to say
                self.lost = expected - self.delivered

    def pump(self, react: Callable[[Client, int], None], patience: float) -> bool:
        """Wait for something to arrive; `react(client, messages)` may say more on any client. Return whether it did."""
        ready = self._selector.select(patience)
        for key, mask in ready:
            client: Client = key.data
            if mask & selectors.EVENT_READ:
                client.read()
                stamps = client.take()
                self._stamps.append((time.perf_counter_ns(), stamps))
                self.delivered += len(stamps)
                react(client, len(stamps))
            self.flush(client)
        return bool(ready)

    def flush(self, client: Client) -> None:
        """Send what a client has queued; the rest when its socket takes it."""
        client.flush()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.wants_to_write else 0)
        if self._selector.get_key(client.socket).events != wanted:
            self._selector.modify(client.socket, wanted, client)

    def release(self) -> Cost:
        """Give the clients back."""
        seconds, cpu = time.perf_counter() - self._started, self._system.process.cpu() - self._cpu
        self._selector.close()
        for client in self._clients:
            client.socket.settimeout(STALLED)
        latencies = sorted((arrived - made) / 1e9 for arrived, stamps in self._stamps for made in stamps)
        return Cost(self.delivered, seconds, cpu, latencies, self.lost)


def pipelined(system: System, pairs: list[tuple[Client, Client]]) -> Cost:
    """One of each pair sends as fast as it may, `OUTSTANDING` messages ahead."""
    load = Load(system, [client for pair in pairs for client in pair])
    sender_of = {client: pair[0] for pair in pairs for client in pair}
    left = {pair[0]: PIPELINED_MESSAGES for pair in pairs}

    def react(client: Client, messages: int) -> None:
        sender = sender_of[client]
        if not client.confirms:
            sender.unanswered -= messages
        while left[sender] and sender.unanswered < OUTSTANDING:
            left[sender] -= 1
            sender.say()
        if sender is not client:
            load.flush(sender)

    for sender, _ in pairs:
        react(sender, 0)
        load.flush(sender)
    load.run(react, len(pairs) * PIPELINED_MESSAGES)
    return load.release()


def bursts(system: System, pairs: list[tuple[Client, Client]]) -> Cost:
    """All pairs play ping-pong in step: one lone message from each comes in a burst, and the next one goes back."""
    load = Load(system, [client for pair in pairs for client in pair])

    def react(client: Client, messages: int) -> None:
        if not client.confirms:
            partner[client].unanswered -= messages

    partner = {client: pair[client is pair[0]] for pair in pairs for client in pair}
    for number in range(BURSTS):
        speakers = [pair[number % 2] for pair in pairs]
        for speaker in speakers:
            speaker.say()
            speaker.encrypt()
        for speaker in speakers:
            load.flush(speaker)
        load.run(react, (number + 1) * len(pairs))
    return load.release()


def room(system: System, members: list[Client], outstanding: int) -> Cost:
    """One member speaks, `outstanding` messages ahead; all others get it."""
    load = Load(system, members)
    speaker, listener = members[0], members[1]
    left = ROOM_MESSAGES

    def react(client: Client, messages: int) -> None:
        nonlocal left
        if not client.confirms and client is listener:
            speaker.unanswered -= messages
        if client is speaker or client is listener:
            while left and speaker.unanswered < outstanding:
                left -= 1
                speaker.say()
            load.flush(speaker)

    react(speaker, 0)
    load.run(react, ROOM_MESSAGES * (len(members) - 1))
    return load.release()


def steady(system: System, pairs: list[tuple[Client, Client]], rate: int = RATE) -> Cost:
    """`rate` messages a second, evenly, from one pair after the other, whatever becomes of them."""
    # `select` waits for microseconds, where `epoll` waits for milliseconds.
    load = Load(system, [client for pair in pairs for client in pair], selectors.SelectSelector())
    partner = {client: pair[client is pair[0]] for pair in pairs for client in pair}

    def react(client: Client, messages: int) -> None:
        if not client.confirms:
            partner[client].unanswered -= messages

    started = time.perf_counter()
    total = rate * RATE_SECONDS
    for number in range(total):
        due = started + number / rate
        while (wait := due - time.perf_counter()) > 0:
            load.pump(react, wait)
        speaker = pairs[number % len(pairs)][0]
        speaker.say()
        load.flush(speaker)
    load.run(react, total)
    return load.release()


def unread(system: System, senders: list[Client], receiver: Client) -> Neglect:
    """Send `UNREAD` messages to a receiver that does not read until the server has done what it does with them."""
    before = peak = system.process.rss()

    def watch() -> None:
        nonlocal peak
        peak = max(peak, system.process.rss())

    sent = pour(system, senders, watch)
    cpu, deadline = -1.0, time.perf_counter() + PATIENCE  # for all that is left to do
    while system.process.cpu() - cpu > SETTLED / 10 and time.perf_counter() < deadline:
        cpu = system.process.cpu()
        time.sleep(SETTLED)
        watch()
    load = Load(system, [*senders, receiver])
    for sender in senders:
        load.flush(sender)  # of a server that would take no more
    cut_off = False
    try:
        while load.delivered < sent and time.perf_counter() < deadline and load.pump(_ignore, QUIET):
            pass
    except ServerFailedError:
        cut_off = True
    load.release()
    return Neglect((peak - before) / 1024, sent - load.delivered, UNREAD - sent, cut_off)


def pour(system: System, senders: list[Client], watch: Callable[[], None] = lambda: None) -> int:
    """Send `UNREAD` messages as fast as they are taken, `watch`ing meanwhile; return how many were taken."""
    load = Load(system, senders)
    left = dict.fromkeys(senders, UNREAD // len(senders))
    progress = time.perf_counter()
    deadline = progress + PATIENCE
    while any(left.values()) or any(sender.unanswered for sender in senders):
        said = False
        for sender in senders:
            if not sender.confirms and not sender.wants_to_write:
                sender.unanswered = 0  # taken; there is nothing more to be learnt
            while left[sender] and sender.unanswered < OUTSTANDING:
                left[sender] -= 1
                sender.say()
                said = True
            load.flush(sender)
        now = time.perf_counter()
        if load.pump(_ignore, 0 if said else SETTLED) or said:
            progress = now
        elif not senders[0].confirms and now - progress > QUIET:
            break
        if now > deadline:
            raise ServerFailedError(f"{system.name} has not taken {UNREAD:,} messages in {PATIENCE:.0f} s")
        watch()
    load.release()
    return UNREAD - sum(left.values())


def _ignore(client: Client, messages: int) -> None:
    """What `pour` sends does not depend on what comes back."""
