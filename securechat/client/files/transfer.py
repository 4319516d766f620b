"""One file on its way: what the vault has of it, and how far its steps have come in this session."""

import threading
from dataclasses import dataclass, field
from typing import Literal

from securechat.client.backoff import Backoff
from securechat.client.vault.transfers import TransferRow
from securechat.content.registry import File
from securechat.wire.blobs import blob_length


@dataclass
class Transfer:
    """One file on its way."""

    row: TransferRow
    file: File
    backoff: Backoff
    stage: Literal["sealing", "waiting", "moving", "opening"] = "waiting"
    attempt: int = 0  # what was asked for in an earlier one counts no more
    asked: bool = False  # something that the next step waits for
    target: bytes = b""  # the conversation to which it goes, in this attempt
    done: int = 0  # bytes of the sealed file that are where they shall be; while it is sealed or opened: of the file
    next: int = 0  # the first one that is not on its way
    in_flight: int = 0
    appended: int = 0  # the first one that was not given to the disk
    appending: int = 0  # parts that the disk was given, and has not written yet; they count as in flight
    arrived: dict[int, bytes] = field(default_factory=dict)  # parts by their offset, before they are given to the disk
    kept: bool = False  # some of what is here was fetched by an earlier session
    afresh: bool = False  # what is here is not to be used
    looked: bool = False  # it is not where it was saved before
    restarts: int = 0
    told: float = 0.0
    told_code: str = ""
    unwanted: threading.Event = field(default_factory=threading.Event)  # set: its jobs are
    # --- by a direct link (`linked`)
    link: bytes = b""  # of one that is sent: on which it can be had. Of one that is saved: by which it comes now
    spared: float = 0.0  # of one that is sent: until when the server is spared it at most (monotonic)
    came_directly: bool = False  # some of what is here has come by a link
    spent: bytes = b""  # the last link that has ended, or did not have it
    tries: int = 0  # how many of these there were
    by_server: bool = False  # no link is tried, or none any more
    fresh: bool = False  # of one that is sent: its user has wanted that in this session
    paced: float = 0.0  # when to look how fast it comes by a link (monotonic)
    paced_from: int = 0  # how far it was before

    @property
    def total(self) -> int:
        """Bytes of the sealed file."""
        return blob_length(self.file.size)

    @property
    def said(self) -> bool:
        """Whether the message that names it is said: of one that is sent, before the server has it."""
        return self.row.line != 0

    @property
    def wants(self) -> bool:
        """Whether another part can be asked for."""
        linked = self.row.kind == "save" and self.link
        return self.stage == "moving" and self.next < self.total and not linked

    def wait(self) -> None:
        """Ask anew how far it is: nothing that is on its way counts any more."""
        self.stage, self.asked, self.in_flight, self.appending = "waiting", False, 0, 0
        self.attempt += 1
        self.arrived.clear()
        if self.row.kind == "save":
            self.link = b""

    def move(self, offset: int) -> None:
        """Go on from here."""
        self.stage, self.asked = "moving", False
        self.done = self.next = self.appended = offset
