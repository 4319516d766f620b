"""What is said of direct links."""

from collections.abc import Iterator

from securechat.clean import clean_line
from securechat.client.events import Event, LinkChanged
from securechat.ui.text.wording import Sentence, notice


def said(event: Event) -> Iterator[Sentence]:
    """Yield what is said of an event, if it is one of these."""
    if not isinstance(event, LinkChanged):
        return
    who = clean_line(event.account)
    match event.state:
        case "asked":
            yield notice(
                f"{who} offers a direct link, by which files are fetched from one another and not from the server. "
                f"/link {who} agrees, and {who} learns this machine's address then; /link {who} off tells you no more."
            )
        case "offered":
            yield notice(
                f"{who} learns this machine's address ({', '.join(event.addresses)}), now and at each direct link; "
                f"/link {who} off ends that. Waiting for {who}."
            )
        case "up":
            yield notice(f"There is a direct link to {who}.")
        case "down":
            why = f": {clean_line(event.reason).rstrip('.')}" if event.reason else ""
            yield notice(f"There is no direct link to {who} any more{why}. Files come from the server.")
