"""What is said of people that one knows, and of rooms that were looked for with them."""

from collections.abc import Iterator

from securechat.clean import clean_line
from securechat.client.events import Contact, ContactList, Event
from securechat.ui.text.trust import TRUST, beside
from securechat.ui.text.wording import Sentence, moment_of, names_of, notice


def said(event: Event) -> Iterator[Sentence]:
    """Yield what is said of an event, if it is one of these."""
    if not isinstance(event, ContactList):
        return
    part = clean_line(event.part)
    yield from (notice(_of_contact(each)) for each in event.contacts)
    yield from (notice(f"{clean_line(each)}: a room; /go {clean_line(each)} leads there.") for each in event.rooms)
    if (more := event.count - len(event.contacts)) > 0:
        yield notice(f"{more:,} more: /find and a part of the name shows them.")
    if not (event.contacts or event.rooms):
        if part:
            yield notice(f"You know nobody and no room with {part} in the name. /rooms asks the server for its rooms.")
        else:
            yield notice("You have no contacts yet: whom you write to, or let write to you, is one.")


def _of_contact(contact: Contact) -> str:
    who = beside(clean_line(contact.account), contact.trust)
    key = f", key {contact.key}" if contact.key else ""
    talks = "; you have a private chat" if contact.talks else ""
    rooms = f"; in {names_of(contact.rooms)}" if contact.rooms else ""
    unheard = "; blocked" if contact.blocked else "; ignored in open rooms" if contact.ignored else ""
    heard = f"; last said something on {moment_of(contact.heard)}" if contact.heard else ""
    return f"{who}: {TRUST[contact.trust].words}{key}{talks}{rooms}{unheard}{heard}."
