"""What is said of files on their way: that one is sent or fetched, waits, is saved, or is not."""

from collections.abc import Iterator

from securechat.clean import clean_line
from securechat.client.events import Event, FileSaved, Transfer, TransferDelayed, TransferEnded, Transferred
from securechat.ui.text.wording import Sentence, notice, size_of, warning


def said(event: Event, where: str) -> Iterator[Sentence]:
    """Yield what is said of an event; `where`: the title of its conversation."""
    match event:
        case Transferred(transfer=Transfer(kind="send", stage="sealing", done=0) as transfer):
            yield notice(f"Sending {clean_line(transfer.name)} to {where}. /files shows how far it is.")
        case Transferred(transfer=Transfer(kind="save", stage="moving", done=0) as transfer):
            size = size_of(transfer.size)
            yield notice(f"Fetching {clean_line(transfer.name)} ({size}). /files shows how far it is.")
        case TransferDelayed():
            yield warning(f"{clean_line(event.transfer.name)} waits. {clean_line(event.text)}")
        case TransferEnded(command=0):  # else the command is refused with it
            yield warning(clean_line(event.text))
        case FileSaved():
            yield notice(f"Saved {clean_line(event.name)} as {clean_line(event.path)}")


def progress(transfer: Transfer) -> str:
    """Return how far a file is, as one line."""
    name = clean_line(transfer.name)
    share = f" {100 * transfer.done // transfer.size} %" if transfer.size else ""
    act = "sending" if transfer.kind == "send" else "saving"
    match transfer.stage:
        case "sealing":
            return f"{act} {name}: encrypting it here, {size_of(transfer.done)} so far"
        case "waiting":
            return f"{act} {name}: waiting for the server"
        case "moving":
            return f"{act} {name}:{share} of {size_of(transfer.size)}"
        case "offered":
            return f"{act} {name}: it can be fetched by the direct link,{share or ' 0 %'} so far"
        case "opening":
            return f"{act} {name}: decrypting and checking it,{share}"
