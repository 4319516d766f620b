"""The stock: our key packages at the server, by which others add us while we are away, renewed before they run out.

They end with the certificate in them, so `client.rotation` renews them in time. Here the server is asked which of them
are left: at each connection and each hour, since others can take them and never write.

    few are left                              there are more again
    one is there that this vault does not     all are replaced, the last-resort one, too: the vault is an older copy,
    know, or no last-resort one of ours       put back from a backup, and could open no Welcome for that one
    a Welcome is for the last-resort one      likewise: no two people should be given one key

What the server says of them has all replaced once a day: where it is said again, the user hears of it, once. Private
sides are never pushed out by new ones: beyond `device.MAX_KEY_PACKAGES` no more are made, which is told, too.
"""

from collections.abc import Hashable
from typing import Final

from securechat.client import events
from securechat.client.context import Context
from securechat.client.device import KEY_PACKAGE_LOW, KEY_PACKAGE_STOCK, MAX_KEY_PACKAGES
from securechat.client.errands import ReplyHandler
from securechat.wire import messages as wire

MAX_SPENT: Final = 3
"""Last-resort key packages that are spent in `SPENT_SECONDS` before the user hears of it: one is, where many have
written while we were away; the next ones came with a whole new stock."""

SPENT_SECONDS: Final = 86_400.0

REPLACED_SECONDS: Final = 86_400.0
"""Since all were replaced because of what the server said: it is no reason for another time before."""

_WHAT: Final = "take new key packages, by which others reach you for the first time: soon they may not be able to"

_SPENT: Final = (
    f"{MAX_SPENT} times within a day somebody who writes to you for the first time was given the key that is kept for "
    "when all others are used, though there were new ones: somebody takes them as fast as they come, or the server "
    "holds them back. Nothing is lost, but several people have that key. If it goes on, tell the operator."
)


_FOREIGN: Final = (
    "The server holds key packages for you that this device has not made, or not the one that is kept for when "
    "all others are used, and goes on saying so although all were replaced: whoever writes to you first "
    "may not reach you. Nothing more is replaced for a day. Tell the operator; if a copy of this device's data may be "
    "in use elsewhere, /rotate shuts it out."
)

_FULL: Final = (
    f"This device keeps {MAX_KEY_PACKAGES} keys that were handed out for people who write to you for the first time, "
    "and makes no more before some of them end: somebody takes them and never writes, or the server only says so. Who "
    "writes first may be given a key that others have, too. If it goes on, tell the operator."
)


class Stock:
    """The key packages of this device that nobody has used yet."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._left = KEY_PACKAGE_STOCK  # at the server, as far as we know
        self._spent: dict[bytes, float] = {}  # last-resort ones that Welcomes were for -> when the first came
        self._asked: Hashable = ()  # what is on its way
        self._replaced: float | None = None  # when all were, by what the server had said
        self._told: dict[str, float] = {}  # what was told -> when

    @property
    def publishing(self) -> bool:
        """Whether new ones may be on their way: until they are there, nobody can begin a conversation with us.

        Not any more where the user knows that the server does not take them now.
        """
        return bool(self._asked) and not self._context.errands.is_late(self._asked)

    def begin(self) -> None:
        """A connection is up, or the certificate is new."""
        self._asked = ()
        if self._may_publish:
            self._ask()

    def used_one(self) -> None:
        """One of those at the server is used up."""
        self._left -= 1
        self._top_up()

    def used_last_resort(self, reference: bytes) -> None:
        """A Welcome is for a last-resort one."""
        now = self._context.clock.monotonic()
        self._spent = {each: since for each, since in self._spent.items() if now - since < SPENT_SECONDS}
        if reference in self._spent:
            return
        self._spent[reference] = now
        if len(self._spent) >= MAX_SPENT:
            self._spent.clear()
            self._context.emit(events.Alarm("key-package", b"", _SPENT))
        if self._may_publish:
            self._replace()

    def look(self, *, inbox_is_read: bool) -> None:
        """Ask what is left, and forget those that have run out. Called now and then while we are connected.

        `inbox_is_read`: a Welcome that has waited there for us may be for one that has expired since.
        """
        context = self._context
        if inbox_is_read and not context.clock_trouble:
            context.device.forget_expired_key_packages(context.clock.seconds())
        if self._may_publish and not self._asked:
            self._ask()

    @property
    def _may_publish(self) -> bool:
        """Whether the server has our certificate, and it is in date: key packages end with it."""
        device = self._context.device
        return device.overruled_by is None and not device.is_expired(self._context.clock.seconds())

    def _ask(self) -> None:
        def answer(reply: wire.Reply) -> None:
            self._asked = ()
            if not isinstance(reply, wire.Stock) or not self._may_publish:
                return  # refused: it is asked again
            ours = self._context.device.key_package_references()
            there = [ours.get(reference) for reference in reply.references]
            now = self._context.clock.monotonic()
            wrong = None in there or True not in there
            if wrong and (self._replaced is None or now - self._replaced >= REPLACED_SECONDS):
                if self._replace():
                    self._replaced = now
                return
            if wrong:
                self._tell(_FOREIGN)
            self._left = there.count(False)
            self._top_up()

        self._request("stock", wire.PublishKeyPackages(0, [], b""), answer)

    def _top_up(self) -> None:
        device, now = self._context.device, self._context.clock.seconds()
        if self._left < KEY_PACKAGE_LOW and self._may_publish and not self._context.tell_clock_trouble():
            count = min(KEY_PACKAGE_STOCK - max(self._left, 0), device.room_for_key_packages)
            if count:
                self._publish(device.make_key_packages(count, now), b"")
            else:
                self._tell(_FULL)

    def _replace(self) -> bool:
        """Replace all. False if that cannot be done now, which is told."""
        device, now = self._context.device, self._context.clock.seconds()
        if self._context.tell_clock_trouble():
            return False  # nobody takes what is dated by such a clock
        if not (room := device.room_for_key_packages):
            self._tell(_FULL)
            return False
        fresh = device.make_key_packages(min(KEY_PACKAGE_STOCK, room - 1), now)
        (last_resort,) = device.make_key_packages(1, now, last_resort=True)
        self._publish(fresh, last_resort)
        return True

    def _tell(self, text: str) -> None:
        """Tell what is wrong, once a day while it goes on."""
        now = self._context.clock.monotonic()
        if text not in self._told or now - self._told[text] >= REPLACED_SECONDS:
            self._told[text] = now
            self._context.emit(events.Alarm("key-package", b"", text))

    def _publish(self, fresh: list[bytes], last_resort: bytes) -> None:
        self._left = max(self._left, len(fresh)) if not last_resort else len(fresh)

        def answer(reply: wire.Reply) -> None:
            self._asked = ()
            if not isinstance(reply, wire.Stock):  # nobody has them, or ever will
                self._left = 0
                if last_resort:
                    self._replaced = None
                self._context.device.forget_key_packages([*fresh, *([last_resort] if last_resort else [])])

        self._request((*fresh, last_resort), wire.PublishKeyPackages(0, fresh, last_resort), answer)

    def _request(self, key: Hashable, request: wire.PublishKeyPackages, answer: ReplyHandler) -> None:
        self._asked = key
        self._context.errands.run(key, _WHAT, request, answer)
