"""A server in memory that speaks the client's wire messages: one log per conversation, no sockets, no disk.

It does what the protocol asks of a delivery service, as plainly as possible, with the real public checks
(`PublicGroup`, `policy`). Tests steer each message by hand: nothing moves until `Link` is told to. A hook lets a test
be a server that lies.
"""

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from securechat import policy
from securechat.errors import PeerError
from securechat.identity.certificate import DeviceCertificate, certificate_of, leaf_validator
from securechat.mls.framing import PublicMessage, SenderType, decode_body, read_header
from securechat.mls.group_info import GroupInfo
from securechat.mls.leaf_node import CredentialValidator
from securechat.mls.public_group import PublicGroup, PublicStagedCommit
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.wire import messages as wire
from securechat.wire.chain import CHAIN_START, next_chain

SERVER_ID = b"S" * 16


@dataclass
class Account:
    """One account with its one device."""

    identity_key: bytes = b""
    device: bytes = b""
    secret: bytes = b""
    key_packages: deque[bytes] = field(default_factory=deque)
    last_resort: bytes = b""


@dataclass
class Log:
    """One conversation."""

    id: bytes
    group: PublicGroup
    group_info: bytes
    rules: policy.Rules
    chain: bytes = CHAIN_START
    entries: list[wire.Entry] = field(default_factory=list)
    numbers: dict[bytes, dict[int, tuple[bytes, wire.Accepted]]] = field(default_factory=dict)
    departures: dict[LeafIndex, wire.Departure] = field(default_factory=dict)
    window: dict[bytes, tuple[int, int | None]] = field(default_factory=dict)  # device -> (join_seq, last seq it reads)
    lease: "Link | None" = None
    offered: frozenset[LeafIndex] = frozenset()  # departures named in the offer that is out
    waiting: deque[tuple["Link", int]] = field(default_factory=deque)

    def devices(self) -> dict[bytes, LeafIndex]:
        """Devices in the tree."""
        return {certificate_of(leaf).device_id: index for index, leaf in self.group.members()}

    def alive(self) -> bool:
        """Nobody has left: for direct conversations."""
        return not self.departures and len(self.devices()) == 2

    def may_read(self, device: bytes, seq: int) -> bool:
        """Say whether `seq` lies between the device's joining and its end."""
        if device not in self.window:
            return False
        joined, last = self.window[device]
        return joined < seq and (last is None or seq <= last)


class Link:
    """One connection. Messages wait in both directions until the test moves them."""

    def __init__(self, server: "ToyServer", device: bytes = b"") -> None:
        self.server = server
        self.device = device
        self.account = ""
        self.to_client: deque[wire.FromServer] = deque()
        self.reading: set[bytes] = set()
        self.open = True
        self.to_client.append(wire.Hello([1], "toy", "hello", SERVER_ID, "open"))

    def close(self) -> None:
        """The connection is lost: leases and places in queues go."""
        self.open = False
        self.server.links.discard(self)
        for log in self.server.logs.values():
            log.waiting = deque(place for place in log.waiting if place[0] is not self)
            if log.lease is self:
                self.server.end_lease(log)

    def receive(self, message: wire.FromClient) -> None:
        """Process one message of the client."""
        if not self.open:
            return
        try:
            self.server.handle(self, message)
        except RefusalError as refusal:
            assert isinstance(message, wire.Request)
            self.send(wire.Refused(message.id, refusal.code, str(refusal), refusal.conversation))

    def send(self, message: wire.FromServer) -> None:
        """Queue a message for the client, as the server's hook lets it through."""
        self.to_client.extend(self.server.hook(self, message))


class RefusalError(Exception):
    """The request is refused."""

    def __init__(self, code: wire.Code, text: str = "", conversation: bytes = b"") -> None:
        super().__init__(text or code)
        self.code: wire.Code = code
        self.conversation = conversation


class ToyServer:
    """All accounts and logs."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.logs: dict[bytes, Log] = {}
        self.pairs: dict[tuple[str, str], bytes] = {}
        self.rooms: dict[str, bytes] = {}
        self.inboxes: dict[bytes, list[wire.Welcomed]] = {}
        self.links: set[Link] = set()
        self.failed_commits: list[wire.CommitFailed] = []
        self.acknowledged: dict[tuple[bytes, bytes], int] = {}
        self.now = 1_750_000_000_000  # milliseconds; the tests' clients share it
        self.hook: Callable[[Link, wire.FromServer], list[wire.FromServer]] = lambda _link, message: [message]

    def connect(self) -> Link:
        """A client connects."""
        link = Link(self)
        self.links.add(link)
        return link

    def handle(self, link: Link, message: wire.FromClient) -> None:
        """Dispatch by the message's name."""
        getattr(self, "on_" + type(message).__name__.lower())(link, message)

    # --- logging in -----------------------------------------------------------------------------------------------

    def on_register(self, link: Link, m: wire.Register) -> None:
        account = self.accounts.setdefault(m.account, Account(secret=m.secret))
        if account.secret != m.secret:
            raise RefusalError("name-taken")
        link.send(wire.Registered(m.id, m.account))

    def on_login(self, link: Link, m: wire.Login) -> None:
        if m.account not in self.accounts or self.accounts[m.account].secret != m.secret:
            raise RefusalError("login-refused")
        self._seat(link, m.id, m.account, m.device)

    def on_resume(self, link: Link, m: wire.Resume) -> None:
        name = m.token.rstrip(b"\0").decode()
        if name not in self.accounts:
            raise RefusalError("token-refused")
        self._seat(link, m.id, name, m.device)

    def _seat(self, link: Link, request: int, name: str, device: bytes) -> None:
        for other in list(self.links):
            if other.device == device:
                other.close()
        link.account, link.device = name, device
        account = self.accounts[name]
        token = name.encode().ljust(32, b"\0")
        published = account.device == device
        link.send(
            wire.LoggedIn(
                request, name, token, 1 << 60, 0, account.identity_key, published, len(account.key_packages)
            )
        )

    # --- keys -----------------------------------------------------------------------------------------------------

    def on_publishdevice(self, link: Link, m: wire.PublishDevice) -> None:
        certificate = DeviceCertificate.decode(m.certificate)
        account = self.accounts[link.account]
        if account.identity_key not in (b"", certificate.identity_key) and not m.replace_identity:
            raise RefusalError("identity-differs")
        if account.device != certificate.device_id:
            account.key_packages.clear()
            account.last_resort = b""
        account.identity_key, account.device = certificate.identity_key, certificate.device_id
        self.inboxes.setdefault(certificate.device_id, [])
        link.send(wire.Done(m.id))

    def on_publishkeypackages(self, link: Link, m: wire.PublishKeyPackages) -> None:
        account = self.accounts[link.account]
        account.key_packages.extend(m.key_packages)
        account.last_resort = m.last_resort or account.last_resort
        link.send(wire.Stock(m.id, len(account.key_packages)))

    def on_fetchkeypackages(self, link: Link, m: wire.FetchKeyPackages) -> None:
        account = self.accounts.get(m.account)
        if account is None or not account.device:
            raise RefusalError("not-found", f"There is no {m.account} here.")
        package = account.key_packages.popleft() if account.key_packages else account.last_resort
        link.send(wire.KeyPackages(m.id, m.account, [package]))

    # --- opening --------------------------------------------------------------------------------------------------

    def _validator(self) -> CredentialValidator:
        return leaf_validator(SERVER_ID, self.now // 1000)

    def _found(self, link: Link, conversation: bytes, founding: bytes) -> PublicGroup:
        info = decode_body(founding, GroupInfo)
        group = PublicGroup.from_group_info(info, None, validate=self._validator(), now=self.now // 1000)
        creator = next(certificate_of(leaf) for _, leaf in group.members())
        assert creator.device_id == link.device
        assert group.group_id == conversation
        policy.check_founding(group, creator=creator)
        return group

    def on_opendirect(self, link: Link, m: wire.OpenDirect) -> None:
        first, second = sorted((link.account, m.peer))
        existing = self.pairs.get((first, second))
        if existing == m.conversation:
            _, accepted = self.logs[existing].numbers[link.device][1]
            link.send(wire.Accepted(m.id, *_fields(accepted)))
            return
        if existing is not None and self.logs[existing].alive() and link.device in self.logs[existing].devices():
            raise RefusalError("exists", conversation=existing)
        group = self._found(link, m.conversation, m.founding)
        log = Log(m.conversation, group, m.group_info, policy.rules_of(group.extensions))
        log.window[link.device] = (0, None)
        staged = self._stage(log, m.commit)
        policy.check_opening(staged, peer=m.peer)
        self.logs[log.id] = log
        self.pairs[first, second] = log.id
        self._accept_commit(link, log, m.id, 1, m.commit, m.welcome, m.group_info)

    def on_openroom(self, link: Link, m: wire.OpenRoom) -> None:
        group = self._found(link, m.conversation, m.founding)
        rules = policy.rules_of(group.extensions)
        if self.rooms.get(rules.name) == m.conversation:  # made before, by a request whose answer was lost
            link.send(wire.Done(m.id))
            return
        if rules.name in self.rooms:
            raise RefusalError("exists")
        log = Log(m.conversation, group, m.group_info, rules)
        log.window[link.device] = (0, None)
        self.logs[log.id] = log
        self.rooms[rules.name] = log.id
        link.send(wire.Done(m.id))

    def on_join(self, link: Link, m: wire.Join) -> None:
        if m.room not in self.rooms or self.logs[self.rooms[m.room]].rules.kind != "open":
            raise RefusalError("not-found")
        self._queue_for_lease(link, self.logs[self.rooms[m.room]], m.id)

    def on_resync(self, link: Link, m: wire.Resync) -> None:
        log = self.logs.get(m.conversation)
        if log is None or link.device not in log.devices():
            raise RefusalError("not-found")
        self._queue_for_lease(link, log, m.id)

    def _queue_for_lease(self, link: Link, log: Log, request: int) -> None:
        log.waiting.append((link, request))
        if log.lease in (None, link):  # whoever asks again has given up what was offered before
            self.end_lease(log)

    def expire_leases(self) -> bool:
        """Two seconds have passed. Says whether that ended any lease."""
        held = [log for log in self.logs.values() if log.lease is not None]
        for log in held:
            self.end_lease(log)
        return bool(held)

    def end_lease(self, log: Log) -> None:
        """The lease is over: the next in the queue gets it."""
        log.lease = None
        if log.waiting:
            log.lease, request = log.waiting.popleft()
            last = max(log.numbers.get(log.lease.device, {}), default=0)
            tree = log.group.tree.encode()
            departures = list(log.departures.values())
            log.offered = frozenset(log.departures)
            log.lease.send(wire.JoinOffer(request, log.id, last, log.group_info, tree, departures))

    # --- submitting -----------------------------------------------------------------------------------------------

    def _submission(self, link: Link, m: wire.Submit | wire.Commit | wire.Leave, payload: bytes) -> Log | None:
        """Check number and membership. None: it was a retry, and is answered."""
        log = self.logs.get(m.conversation)
        if log is None:
            raise RefusalError("not-found")
        numbers = log.numbers.setdefault(link.device, {})
        if m.number in numbers:
            digest, accepted = numbers[m.number]
            if digest != hashlib.sha256(payload).digest():
                raise RefusalError("wrong-number")
            link.send(wire.Accepted(m.id, *_fields(accepted)))
            return None
        header = read_header(payload)
        data = header.authenticated_data
        assert (data[:8] if isinstance(m, wire.Leave) else data) == m.number.to_bytes(8, "big")
        if header.epoch != log.group.epoch:
            raise RefusalError("stale-epoch")
        if m.number != max(numbers, default=0) + 1:
            raise RefusalError("wrong-number")
        return log

    def on_submit(self, link: Link, m: wire.Submit) -> None:
        log = self._submission(link, m, m.payload)
        if log is None:
            return
        if link.device not in log.devices() or log.devices()[link.device] in log.departures:
            raise RefusalError("not-found")
        if log.departures:
            raise RefusalError("commit-first")
        self._append(link, log, m.id, m.number, m.payload)

    def on_leave(self, link: Link, m: wire.Leave) -> None:
        log = self._submission(link, m, m.proposal)
        if log is None:
            return
        context = log.group.context.encode()
        leaf = policy.check_departure(log.group, m.proposal, context)
        assert log.devices()[link.device] == leaf
        log.departures[leaf] = wire.Departure(m.proposal, context)
        log.window[link.device] = (log.window[link.device][0], len(log.entries) + 1)
        self._append(link, log, m.id, m.number, m.proposal)
        if set(log.departures) == set(log.devices().values()):
            del self.logs[log.id]
            for waiting, request in log.waiting:
                waiting.send(wire.Refused(request, "not-found", ""))
            self.rooms = {name: there for name, there in self.rooms.items() if there != log.id}
            self.pairs = {pair: there for pair, there in self.pairs.items() if there != log.id}

    def on_commit(self, link: Link, m: wire.Commit) -> None:
        log = self._submission(link, m, m.commit)
        if log is None:
            return
        if log.lease is not None and log.lease is not link:
            raise RefusalError("leased")
        header = read_header(m.commit)
        external = header.sender is not None and header.sender.type == SenderType.NEW_MEMBER_COMMIT
        if external and (log.lease is not link or log.offered != frozenset(log.departures)):
            # Whoever enters knows of departures from the offer alone: with another offer than the newest it would take
            # their removal, later, for a breach of the rules.
            if log.lease is link:
                self.end_lease(log)
            raise RefusalError("commit-first")
        try:
            self._stage(log, m.commit)
        except PeerError as error:
            if log.lease is link:
                self.end_lease(log)
            raise RefusalError("invalid-commit", str(error)) from error
        self._accept_commit(link, log, m.id, m.number, m.commit, m.welcome, m.group_info)

    def _stage(self, log: Log, commit: bytes) -> PublicStagedCommit:
        message = decode_body(commit, PublicMessage)
        staged = log.group.stage(message, validate=self._validator(), now=self.now // 1000)
        policy.check_commit(staged, departed=frozenset(log.departures))
        return staged

    def _accept_commit(
        self, link: Link, log: Log, request: int, number: int, commit: bytes, welcome: bytes, group_info: bytes
    ) -> None:
        staged = self._stage(log, commit)
        if welcome:
            assert decode_body(welcome, Welcome).new_member_refs == staged.new_member_refs
        before = set(log.devices())
        log.group, log.group_info = staged.after, group_info
        for leaf, _ in staged.removed:
            log.departures.pop(leaf, None)
        seq = len(log.entries) + 1
        external = link.device not in before or any(
            certificate_of(leaf).device_id == link.device for _, leaf in staged.removed
        )
        if external:
            log.window[link.device] = (seq, None)
        for device in before - set(log.devices()):
            joined, last = log.window[device]
            log.window[device] = (joined, last or seq)
        self._append(link, log, request, number, commit, with_chain=external or seq == 1)
        for _, node in staged.added:
            certificate = certificate_of(node)
            if certificate.device_id == link.device:
                continue
            log.window[certificate.device_id] = (seq, None)
            if not welcome:
                continue
            inbox = self.inboxes[certificate.device_id]
            welcomed = wire.Welcomed(
                len(inbox) + 1, self.now, log.id, seq, log.chain, welcome, log.group.tree.encode(),
                list(log.departures.values()),
            )  # fmt: skip
            inbox.append(welcomed)
            for other in self.links:
                if other.device == certificate.device_id and certificate.device_id in other.reading:
                    other.send(welcomed)
        if log.lease is link:
            self.end_lease(log)

    def _append(
        self, link: Link, log: Log, request: int, number: int, payload: bytes, *, with_chain: bool = False
    ) -> None:
        self.now += 1
        seq = len(log.entries) + 1
        log.chain = next_chain(log.chain, log.id, seq, self.now, link.device, number, payload)
        entry = wire.Entry(log.id, seq, self.now, link.device, payload)
        log.entries.append(entry)
        chain = log.chain if with_chain else b""
        accepted = wire.Accepted(request, log.id, number, seq, self.now, chain)
        log.numbers.setdefault(link.device, {})[number] = (hashlib.sha256(payload).digest(), accepted)
        for other in list(self.links):
            if other is link:
                other.send(accepted)
            elif log.id in other.reading and log.may_read(other.device, seq):
                other.send(entry)

    def on_commitfailed(self, link: Link, m: wire.CommitFailed) -> None:
        self.failed_commits.append(m)
        link.send(wire.Done(m.id))

    # --- reading --------------------------------------------------------------------------------------------------

    def on_subscribe(self, link: Link, m: wire.Subscribe) -> None:
        if m.conversation == link.device:
            inbox = self.inboxes[link.device]
            link.send(wire.Subscribed(m.id, m.conversation, 0, len(inbox)))
            link.reading.add(m.conversation)
            after = max(m.after_seq, self.acknowledged.get((link.device, link.device), 0))
            for welcomed in inbox[after:]:
                link.send(welcomed)
            if inbox and not inbox[after:]:
                link.send(wire.Truncated(m.conversation, len(inbox) + 1))
            return
        log = self.logs.get(m.conversation)
        if log is None or link.device not in log.window:
            raise RefusalError("not-found")
        last = max(log.numbers.get(link.device, {}), default=0)
        readable = [entry for entry in log.entries if log.may_read(link.device, entry.seq) and entry.seq > m.after_seq]
        head = log.window[link.device][1] or len(log.entries)
        link.send(wire.Subscribed(m.id, m.conversation, last, head))
        link.reading.add(m.conversation)
        for entry in readable:
            link.send(entry)

    def on_acknowledge(self, link: Link, m: wire.Acknowledge) -> None:
        key = (link.device, m.conversation)
        assert m.seq >= self.acknowledged.get(key, 0)
        self.acknowledged[key] = m.seq

    def on_listrooms(self, link: Link, m: wire.ListRooms) -> None:
        rooms = [
            wire.Room(log.rules.name, log.rules.kind, len(log.devices()), link.device in log.devices())
            for log in self.logs.values()
            if log.rules.kind == "open"
        ]
        link.send(wire.Rooms(m.id, rooms))

    def on_members(self, link: Link, m: wire.Members) -> None:
        online = {other.account for other in self.links}
        accounts = sorted({certificate_of(leaf).account for _, leaf in self.logs[m.conversation].group.members()})
        members = [wire.Member(account, account in online) for account in accounts]
        link.send(wire.MemberList(m.id, m.conversation, members))


def _fields(accepted: wire.Accepted) -> tuple[bytes, int, int, int, bytes]:
    return accepted.conversation, accepted.number, accepted.seq, accepted.time, accepted.chain


