"""What the user decides about people: whose keys count, whose lines are hidden, and who may come in."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from securechat.client import commands, events
from securechat.client.context import Context
from securechat.client.conversations.decisions import Decisions
from securechat.client.conversations.registry import Registry
from securechat.client.settings import ClientSettings
from securechat.errors import UsageError
from securechat.identity import invite_line, pins
from securechat.names import normalise_account, normalise_title

MAX_LISTED: Final = 200
"""Contacts, and rooms, that are listed at once: some screens; `part` finds the others."""

LINES_BACK: Final = 10_000
"""Newest lines in which it is looked for when somebody last said something: read in some milliseconds."""

MAX_IGNORED: Final = 1000
"""Accounts that a user can ignore: as many as the largest room has members."""


MAX_BLOCKED: Final = 1000
"""Accounts that a user can block: the same."""


class Contacts:
    """Carries these commands out, in the engine's units."""

    def __init__(self, context: Context, registry: Registry, decisions: Decisions, settings: ClientSettings) -> None:
        self._context = context
        self._registry = registry
        self._decisions = decisions
        self._settings = settings
        self.handlers: Final[Mapping[type[commands.Command], Callable[[Any], None]]] = {
            commands.ShowSafetyNumber: self._show_safety_number,
            commands.Verify: lambda command: self._decide(self._decisions.verify, command),
            commands.Trust: lambda command: self._decide(self._decisions.trust, command),
            commands.Distrust: lambda command: self._decide(self._decisions.refuse, command),
            commands.ListContacts: self._list_contacts,
            commands.Ignore: lambda command: self._ignore(command.account, ignored=True),
            commands.Unignore: lambda command: self._ignore(command.account, ignored=False),
            commands.Block: lambda command: self._block(command.account),
            commands.Unblock: lambda command: self._unblock(command.account),
            commands.AcceptInvitation: self._accept_invitation,
            commands.DeclineInvitation: self._decline_invitation,
            commands.MakeInviteLine: self._make_invite_line,
            commands.ListInviteLines: lambda _: self._show_invite_lines(),
            commands.RevokeInviteLine: self._revoke_invite_line,
            commands.UseInviteLine: self._use_invite_line,
        }
        """How each command is carried out."""

    def _show_safety_number(self, command: commands.ShowSafetyNumber) -> None:
        self._context.emit(self._decisions.show(normalise_account(command.account)))
        self._context.emit(events.Done())

    def _decide(
        self,
        decide: Callable[[str, str], events.Event],
        command: commands.Verify | commands.Trust | commands.Distrust,
    ) -> None:
        self._context.emit(decide(normalise_account(command.account), command.key))
        self._context.emit(events.Done())

    def _list_contacts(self, command: commands.ListContacts) -> None:
        context, part = self._context, command.part.casefold()
        talks: set[str] = set()
        rooms: dict[str, list[str]] = {}  # account -> where it is
        titles: set[str] = set()
        for each in self._registry:
            row = each.row
            if part in each.title.casefold() and row.kind != "direct":
                titles.add(each.title)
            if row.closed:
                continue
            if row.kind == "direct":
                talks.add(row.name)
            else:
                for account in row.members:
                    rooms.setdefault(account, []).append(each.title)
        blocked = {account for account, _ in context.unwanted if context.blocks(account)}
        known = {*context.pins.accounts(), *blocked, *((*talks, *rooms) if part else ())} - {context.device.account}
        names = sorted(account for account in known if part in account.casefold())
        heard = context.vault.history.last_heard(LINES_BACK)
        contacts = tuple(
            self._contact(each, rooms.get(each, []), heard, talks=each in talks) for each in names[:MAX_LISTED]
        )
        found = tuple(sorted(titles)[:MAX_LISTED]) if part else ()
        context.emit(events.ContactList(command.part, contacts, len(names), found))
        context.emit(events.Done())

    def _contact(
        self, account: str, rooms: list[str], heard: Mapping[tuple[str, bytes], int], *, talks: bool
    ) -> events.Contact:
        states = self._context.pins.of(account)
        key = states.written_to or next(iter(states.states), b"")
        return events.Contact(
            account,
            pins.short(key) if key else "",
            states.standing(key) if key else "unknown",
            tuple(rooms[:MAX_LISTED]),
            talks=talks,
            ignored=account in self._context.ignored,
            blocked=self._context.blocks(account),
            heard=heard.get((account, key), 0),
        )

    def _ignore(self, name: str, *, ignored: bool) -> None:
        context, account = self._context, normalise_account(name)
        if account == self._context.device.account:
            raise UsageError("That is you. Choose somebody else to ignore.")
        if (account in context.ignored) == ignored:
            raise UsageError(f"{account} is {'ignored already' if ignored else 'not ignored'}.")
        if ignored and len(context.ignored) >= MAX_IGNORED:
            raise UsageError(f"You ignore {MAX_IGNORED} accounts, and more are not kept: /unignore some of them first.")
        if ignored:
            context.vault.ignored.add(account)
            context.ignored.add(account)
        else:
            context.vault.ignored.remove(account)
            context.ignored.discard(account)
        context.vault.history.hide(account, hidden=ignored or context.blocks(account))
        context.emit(events.Ignored(account, ignored))
        self._context.emit(events.Done())

    def _block(self, name: str) -> None:
        context, account = self._context, normalise_account(name)
        if account == context.device.account:
            raise UsageError("That is you. Choose somebody else to block.")
        if context.blocks(account):
            raise UsageError(f"{account} is blocked already.")
        if sum(until == 0 for until in context.unwanted.values()) >= MAX_BLOCKED:
            raise UsageError(f"You block {MAX_BLOCKED} accounts, and more are not kept: /unblock some of them first.")
        context.unwanted[account, b""] = 0
        context.vault.unwanted.put(account, b"", 0)
        self._registry.invitations.silence(account)
        self._show_lines(account, blocked=True)

    def _unblock(self, name: str) -> None:
        context, account = self._context, normalise_account(name)
        if not context.blocks(account):
            raise UsageError(f"{account} is not blocked.")
        context.hear_again(account)
        self._show_lines(account, blocked=False)
        for conversation in self._registry.named(account):
            if conversation.row.asked == "theirs" and not conversation.row.closed:
                conversation.tell("request", account)

    def _show_lines(self, account: str, *, blocked: bool) -> None:
        """Hide what a blocked account says, or show it again; tell it."""
        context = self._context
        context.vault.history.hide(account, hidden=blocked, kind="direct")
        context.vault.history.hide(account, hidden=blocked or account in context.ignored)
        context.touched.update(each.id for each in self._registry.named(account))
        context.emit(events.Blocked(account, blocked))
        context.emit(events.Done())

    def _accept_invitation(self, command: commands.AcceptInvitation) -> None:
        self._registry.invitations.accept(command.conversation, command.question)
        self._context.emit(events.Done())

    def _decline_invitation(self, command: commands.DeclineInvitation) -> None:
        self._registry.invitations.decline(command.conversation, command.question, never=command.never)
        self._context.emit(events.Done())

    def _make_invite_line(self, command: commands.MakeInviteLine) -> None:
        room = normalise_title(command.room) if command.room else ""
        settings = self._settings
        trusted = self._context.vault.authorities.current()
        pin = settings.ca_pin if trusted is None else trusted.text
        blank = invite_line.InviteLine(settings.address, pin, command.code)
        blank.encode()  # refuses what no line can hold, before anything is kept
        voucher, mark = self._registry.lines.make(room, command.days)
        made = events.InviteLine(mark, room, voucher.until)
        self._context.emit(events.InviteLineMade(made, replace(blank, voucher=voucher).encode()))
        self._context.emit(events.Done())

    def _show_invite_lines(self) -> None:
        self._context.emit(events.InviteLines(self._registry.lines.listed()))
        self._context.emit(events.Done())

    def _revoke_invite_line(self, command: commands.RevokeInviteLine) -> None:
        self._registry.lines.revoke(command.mark)
        self._show_invite_lines()

    def _use_invite_line(self, command: commands.UseInviteLine) -> None:
        line = invite_line.decode(command.line, self._context.clock.milliseconds())
        self._context.answers.wait_for(("item", self._registry.lines.use(line)))
