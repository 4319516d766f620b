"""The client without I/O: commands and the server's messages in, events and messages to the server out.

Everything happens in *units*: the commands that have piled up, or one batch of messages. A unit is one transaction of
the vault; its events and its messages to the server leave once it is on disk, and not before (invariant 5). If a unit
fails, memory may be ahead of the disk: the engine has ended, and the next start loads what is on disk.

One thread at a time. `link.runner` drives it from the thread that owns it; tests drive it by hand.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from securechat.client import commands, events
from securechat.client.contacts import Contacts
from securechat.client.context import Context, Outgoing
from securechat.client.conversations import devices
from securechat.client.conversations.decisions import Decisions
from securechat.client.conversations.keeping import Keeping
from securechat.client.conversations.registry import Registry
from securechat.client.deletion import Deletion
from securechat.client.device import Device
from securechat.client.direct.links import Order, Told
from securechat.client.direct.protocol import Typed
from securechat.client.errands import ReplyHandler
from securechat.client.files.jobs import Job, Outcome
from securechat.client.files.transfers import Transfers
from securechat.client.link.login import LoginProcedure
from securechat.client.new_password import PasswordChange
from securechat.client.parts import Parts
from securechat.client.preferences import OF_ONE, PREFERENCES, can_be
from securechat.client.questions import Questions
from securechat.client.recovery import Recovery
from securechat.client.resemblance import Resemblances
from securechat.client.rotation import Rotation
from securechat.client.settings import ClientSettings
from securechat.client.snapshot import Snapshot
from securechat.client.talking import Talking
from securechat.client.vault.vault import Vault
from securechat.errors import InternalError, PeerError, SecurechatError, UsageError
from securechat.names import normalise_account
from securechat.transport.certificate_files import CA
from securechat.wire.messages import (
    DirectoryNews,
    Entry,
    Ephemeral,
    FromClient,
    FromServer,
    Hello,
    Notice,
    Presence,
    Reply,
    Request,
    Seat,
    SecretReplaced,
    Truncated,
    Welcomed,
)


class Engine:
    """One account at one server."""

    def __init__(self, settings: ClientSettings, vault: Vault, *, parts: Parts = Parts()) -> None:
        """Load the vault's state. Raises `StorageError`."""
        with vault.transaction():
            device = Device.load_or_create(vault)
            self._context = Context(vault, device, parts, accepts_from=settings.accept_invitations_of)
        self._registry = Registry(self._context)
        self._decisions = Decisions(self._context, self._registry)
        self._keeping = Keeping(self._context, self._registry)
        self._rotation = Rotation(self._context, renewed=self._renewed)
        self._recovery = Recovery(self._context, self._registry, self._keeping, self._rotation)
        self._change = PasswordChange(self._context)
        self._deletion = Deletion(self._context, self._registry)
        self._login = LoginProcedure(
            self._context, settings, self._rotation, self._recovery, self._change,
            unlocked=self._keeping.seal, seated=self._take_seat,
        )  # fmt: skip
        self._transfers = Transfers(self._context, self._registry)
        self._talking = Talking(self._context, self._registry, self._decisions)
        self._questions = Questions(self._context, self._registry)
        self._contacts = Contacts(self._context, self._registry, self._decisions, settings)
        self._pending: dict[int, ReplyHandler] = {}
        self._released: deque[Outgoing] = deque()
        self._link_orders: list[Order] = []
        self._jobs: list[Job] = []
        self._events: list[events.Event] = []
        self._broken: SecurechatError | None = None
        self._disconnect_reason = ""
        self._asked_to_keep = False  # the user, for the password that a new keepsake takes
        self._handlers: dict[type[commands.Command], Callable[[Any], None]] = {
            **self._talking.handlers,
            **self._questions.handlers,
            **self._contacts.handlers,
            **self._transfers.handlers,
            commands.ListDevices: self._list_devices,
            commands.MarkShown: self._mark_shown,
            commands.Visit: self._visit,
            commands.MarkUnread: self._mark_unread,
            commands.Prefer: self._prefer,
            commands.Type: self._type,
            commands.Link: self._link,
            commands.Reconnect: lambda _: self._done(),  # its driver does it
            commands.Unlock: self._unlock,
            commands.ChangePassword: self._change_password,
            commands.TakePassword: self._take_password,
            commands.DeleteAccount: self._delete_account,
            commands.Rotate: self._rotate,
            commands.NameDevice: self._name_device,
            commands.RevokeDevice: self._revoke_device,
            commands.Succeed: self._succeed,
        }
        self.snapshot = Snapshot()
        self.transfers: tuple[events.Transfer, ...] = ()
        """The files on their way, replaced as the snapshot is."""
        self._published_pins = -1
        self._resemblances = Resemblances(
            self.account, self._context.pins.accounts(), (each.snapshot() for each in self._registry)
        )
        self._publish([conversation.id for conversation in self._registry])

    # --- for its driver -------------------------------------------------------------------------------------------

    @property
    def account(self) -> str:
        """Our account."""
        return self._context.device.account

    @property
    def knows_server(self) -> bool:
        """Whether our server has answered in an earlier session."""
        return bool(self._context.device.row.server_id)

    @property
    def failure(self) -> SecurechatError | None:
        """The error that has ended the client for good, if any."""
        return self._broken or self._login.failure

    @property
    def disconnect_reason(self) -> str:
        """Why this connection has to be given up, if it has."""
        return self._disconnect_reason or self._login.disconnect_reason

    @property
    def is_deleted(self) -> bool:
        """Whether the server has deleted our account, as we wanted."""
        return self._deletion.done

    @property
    def is_changing_password(self) -> bool:
        """Whether the server may end our login because of a new password that we have asked for."""
        return self._change.under_way is not None

    @property
    def retry_after(self) -> float:
        """How long the server wants us to stay away after this connection, in seconds."""
        return self._login.retry_after

    def do(self, batch: Iterable[commands.Command]) -> None:
        """Carry out commands in one transaction. One that makes no sense is refused and changes nothing.

        `StorageError` and `InternalError` end the client.
        """
        answers = self._context.answers
        with self._unit():
            for command in batch:
                answers.current = command.id
                before = self._context.vault.writes
                try:
                    if (handler := self._handlers.get(type(command))) is None:
                        raise UsageError("This program does not know that command.")
                    handler(command)
                except UsageError as error:
                    if self._context.vault.writes != before:
                        raise InternalError("a command failed halfway") from error
                    self._context.emit(events.Refused("local", str(error)))
                finally:
                    answers.current = 0

    def connected(self, shown: bytes, ca: CA) -> None:
        """A connection is up: TLS is established and our hello is sent.

        `shown`: SHA-256 of the certificate that the server has shown, for which `ca` has signed.
        """
        self._disconnect_reason = ""
        self._login.begin(shown, ca)

    def receive(self, messages: Iterable[FromServer]) -> None:
        """Process messages of the server. `StorageError` and `InternalError` end the client."""
        with self._unit():
            for message in messages:
                try:
                    self._dispatch(message)
                except PeerError as error:
                    self._disconnect_reason = f"The server broke the protocol: {error}"
                if self.disconnect_reason or self.failure:
                    break

    def disconnected(self) -> None:
        """The connection is gone. Whatever was on its way is in the vault and will be sent again."""
        self._pending.clear()
        self._released.clear()
        with self._unit():
            self._context.errands.end()
            self._registry.end()
            self._rotation.end()
            self._recovery.end()
            self._deletion.end()
            self._login.end()
            self._questions.end()
            self._transfers.end()
        self._released.clear()

    def say_goodbye(self) -> None:
        """Prepare the end of the connection: acknowledge everything that is on our disk."""
        with self._unit():
            self._registry.acknowledgements.send()

    @property
    def timer(self) -> float | None:
        """When to call `handle_timer`, on the monotonic clock."""
        timers = (
            self._registry.timer, self._registry.linking.timer, self._rotation.timer, self._recovery.timer,
            self._deletion.timer, self._context.errands.timer, self._transfers.timer,
        )  # fmt: skip
        return min((due for due in timers if due is not None), default=None)

    def handle_timer(self) -> None:
        """Time has passed."""
        with self._unit():
            self._context.errands.handle_timer()
            self._registry.handle_timer()
            if self._rotation.handle_timer():
                self._registry.look()
                self._login.look()

    def take_outgoing(self, free: int, next_id: Callable[[], int]) -> list[FromClient]:
        """Return the messages for the server; at most `free` requests, each with an id from `next_id`."""
        outgoing: list[FromClient] = []
        while self._released:
            message, handler = self._released[0]
            if isinstance(message, Request) and handler is not None:
                if free <= 0:
                    break
                free -= 1
                message.id = next_id()
                self._pending[message.id] = handler
            self._released.popleft()
            outgoing.append(message)
        return outgoing

    def take_link_orders(self) -> list[Order]:
        """Return what is to be done about direct links."""
        taken, self._link_orders = self._link_orders, []
        return taken

    def link_news(self, told: Iterable[Told]) -> None:
        """Take what has happened to direct links."""
        with self._unit():
            for link, news in told:
                self._registry.linking.happened(link, news)
                if isinstance(news, Typed):
                    self._registry.typing.take_directly(link, typing=news.typing)
                self._transfers.link_news(link, news)

    def take_jobs(self) -> list[Job]:
        """Return what is to be done with files now, in this order; what comes of each goes to `finish`."""
        taken, self._jobs = self._jobs, []
        return taken

    def finish(self, outcomes: Iterable[Outcome]) -> None:
        """Process what has come of jobs. `StorageError` and `InternalError` end the client."""
        with self._unit():
            for outcome in outcomes:
                self._transfers.finish(outcome)

    def take_events(self) -> list[events.Event]:
        """Return what happened since the last call."""
        taken, self._events = self._events, []
        return taken

    @contextmanager
    def _unit(self) -> Iterator[None]:
        """One transaction and its consequences. Whatever it raises ends this engine."""
        if self._broken is not None:
            raise InternalError("this client has ended") from self._broken
        context = self._context
        try:
            with context.vault.transaction():
                yield
                touched = self._registry.pump()
                if self._context.device.renewal_awaited:  # a conversation cannot go on before
                    self._rotation.look()
                    touched |= self._registry.pump()
                if self._context.founded:
                    self._context.founded = False
                    self._context.unlocking.want("keepsake", self._keep, ask=not self._asked_to_keep)
                    self._asked_to_keep = True  # once a session
                self._recovery.look()
                self._deletion.look()
                self._transfers.look()
                if context.touched:  # it has said something
                    touched |= self._registry.pump()
        except BaseException as error:
            if isinstance(error, SecurechatError) and not isinstance(error, UsageError):
                self._broken = error
                raise
            self._broken = InternalError(f"cut off halfway by {type(error).__name__}: {error}")
            if isinstance(error, UsageError):
                raise self._broken from error
            raise
        self._publish(touched)
        self.transfers = self._transfers.shown
        self._released.extend(context.outgoing)
        self._events.extend(context.events)
        self._link_orders.extend(context.link_orders)
        context.link_orders.clear()
        self._jobs.extend(context.jobs)
        context.outgoing.clear()
        context.events.clear()
        context.jobs.clear()

    def _publish(self, touched: Iterable[bytes]) -> None:
        """Publish the changed conversations for front ends."""
        known, registry, pins = self.snapshot.conversations, self._registry, self._context.pins.version
        if pins != self._published_pins:
            touched, self._published_pins = [each.id for each in registry], pins
        changed = {each: conversation.snapshot() for each in touched if (conversation := registry.get(each))}
        questions = registry.invitations.questions
        blocked = tuple(sorted(account for (account, _), until in self._context.unwanted.items() if not until))
        preferences = self._context.preferences.of(b"")
        if (
            len(known) != len(registry)
            or any(known.get(each.id) != each for each in changed.values())
            or self.snapshot.invitations != questions
            or self.snapshot.blocked != blocked
            or self.snapshot.preferences != preferences
        ):
            now = ((known.get(each.id) if each.id not in changed else None) or each.snapshot() for each in registry)
            before = self.snapshot
            self.snapshot = Snapshot.of(now, registry.aliases, questions, blocked, preferences)
            if pairs := self._resemblances.compare(before, self.snapshot):
                self._context.emit(events.LookAlike(pairs))

    def _dispatch(self, message: FromServer) -> None:
        if isinstance(message, Reply):
            self._pending.pop(message.id)(message)
        elif isinstance(message, Hello | Seat | SecretReplaced):
            self._login.receive(message)
        elif isinstance(message, Notice):
            self._context.emit(events.Notice(message.text))
        elif isinstance(message, Entry | Welcomed | Truncated | Presence | Ephemeral | DirectoryNews):
            self._registry.receive(message)

    def _take_seat(self) -> None:
        self._change.ask()
        self._registry.begin()
        self._keeping.leave()

    def _renewed(self) -> None:
        self._registry.renew()
        self._keep()

    def _keep(self) -> None:
        """The password may be at hand: leave a new keepsake, if it is and something has changed."""
        self._keeping.seal()
        if self._registry.connected:
            self._keeping.leave()

    # --- this account and its devices -----------------------------------------------------------------------------

    def _unlock(self, command: commands.Unlock) -> None:
        self._rotation.look(may_ask=False)
        self._context.unlocking.want("keepsake", self._keep, ask=False)
        self._context.unlocking.unlock(command.password)
        self._done()

    def _change_password(self, command: commands.ChangePassword) -> None:
        if not self._rotation.is_seated:
            raise UsageError("There is no connection to the server, which has to know of it. Try again later.")
        if self._recovery.step is not None:
            raise UsageError("This device is still taking the place of lost ones. Try again once that is done.")
        self._change.begin(command.password, command.new, self._login.ca_pin)

    def _delete_account(self, command: commands.DeleteAccount) -> None:
        if not self._rotation.is_seated:
            raise UsageError("There is no connection to the server, which has to do it. Try again later.")
        account = normalise_account(command.account)
        self._deletion.begin(account, command.password, self._login.ca_pin, wipe=command.wipe)

    def _take_password(self, command: commands.TakePassword) -> None:
        self._login.take_password(command.password)
        self._done()

    def _rotate(self, _command: commands.Rotate) -> None:
        if not self._rotation.is_seated:
            raise UsageError("There is no connection: the key is renewed together with the server. Try again later.")
        self._rotation.renew()
        self._done()

    def _name_device(self, command: commands.NameDevice) -> None:
        devices.call(self._context, command.device, command.name)
        self._context.unlocking.want("keepsake", self._keep, ask=False)
        self._done()

    def _revoke_device(self, command: commands.RevokeDevice) -> None:
        device_id = devices.named(self._context, command.device)
        if not self._registry.connected:
            raise UsageError("There is no connection to the server, which has to know of it. Try again later.")
        self._rotation.revoke(device_id)
        self._done()

    def _succeed(self, _command: commands.Succeed) -> None:
        if self._change.under_way is not None:
            raise UsageError("The password is being changed: wait until the server has answered.")
        if not self._rotation.is_seated:
            raise UsageError("There is no connection to the server, which has to know of it. Try again later.")
        self._rotation.succeed()
        self._done()

    def _list_devices(self, command: commands.ListDevices) -> None:
        account = normalise_account(command.account) if command.account else self.account
        unpublished = self._rotation.revoked_here
        self._context.emit(devices.listed(self._context, self._registry, self._decisions, account, unpublished))
        self._done()

    def _mark_shown(self, command: commands.MarkShown) -> None:
        if not 0 <= command.local_id <= self._context.vault.history.last_id:
            raise UsageError("There is no such message.")
        self._context.vault.history.mark_shown(command.local_id)
        self._done()

    def _visit(self, command: commands.Visit) -> None:
        history = self._context.vault.history
        found = self._registry.wanted(command.conversation) if command.conversation else None
        if not 0 <= command.local_id <= history.last_id:
            raise UsageError("There is no such message.")
        history.go_to(found.id if found is not None else b"")
        if found is not None:
            history.see(found.id, command.local_id)
            found.row.seen = max(found.row.seen, history.seen_of_others(found.id, command.local_id))
            self._context.touched.add(found.id)
        self._done()

    def _mark_unread(self, command: commands.MarkUnread) -> None:
        history = self._context.vault.history
        where = history.message(command.local_id).conversation
        history.see(where, command.local_id - 1)
        lines, newest = history.unread_counts().get(where, (0, 0))
        self._context.emit(events.Unread(where, lines, newest))
        self._done()

    def _type(self, command: commands.Type) -> None:
        self._registry.typing.tell(self._registry.wanted(command.conversation), typing=command.typing)
        self._done()

    def _link(self, command: commands.Link) -> None:
        found = self._registry.wanted(command.conversation)
        if found.row.kind != "direct":
            raise UsageError("A direct link is for conversations of two. Name a person.")
        if command.agreed not in PREFERENCES["link"]:
            raise UsageError("There is nothing like that to agree to.")
        if command.agreed != "off":
            if not self._registry.connected:
                raise UsageError("There is no connection to the server, by which two find each other. Try again later.")
            self._registry.linking.check(found)
        self._context.preferences.put("link", command.agreed, found.scope_of("link"))
        self._context.touched.add(found.id)
        self._context.emit(events.PreferenceChanged("link", command.agreed, found.id))
        if command.agreed != "off":
            self._registry.linking.begin(found)
        self._done()

    def _prefer(self, command: commands.Prefer) -> None:
        if command.name not in PREFERENCES or (command.value and not can_be(command.name, command.value)):
            raise UsageError("There is nothing like that to prefer.")
        if not command.conversation and (command.name, command.value) in OF_ONE:
            raise UsageError("That is said of one person at a time: name a conversation.")
        found = self._registry.wanted(command.conversation) if command.conversation else None
        scope = found.scope_of(command.name) if found is not None else b""
        self._context.preferences.put(command.name, command.value, scope)
        self._context.touched.update([found.id] if found is not None else [each.id for each in self._registry])
        self._context.emit(events.PreferenceChanged(command.name, command.value, command.conversation))
        self._done()

    def _done(self) -> None:
        """Answer the current command: it is done at once."""
        self._context.emit(events.Done())
