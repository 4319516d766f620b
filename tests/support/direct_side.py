"""One side of a direct link as a process: `python -m tests.support.direct_side listen|knock FILE HOLD`.

It says its certificate, and its port if it listens, and reads those of the other side. It gives FILE as the blob, and
takes as much of the other one's as it reads then, appending to FILE.part: after HOLD bytes it waits for a line before
it takes more. It says what it hears, one word a line.
"""

import ipaddress
import sys
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

from securechat.client.direct.carrying import DirectLink, Down, Giving, Meet, News, Wish
from securechat.client.direct.endpoints import Endpoint
from securechat.client.direct.meeting import Door, knock
from securechat.transport.mutual import MutualTLS, make_credential

HERE = ipaddress.ip_address("127.0.0.1")
BLOB = bytes(16)


def main(role: str, path: Path, hold: int) -> None:
    """Be that side until the link is over."""
    own, door = make_credential(), Door([HERE] if role == "listen" else [])
    say(own.certificate.hex(), *(each.port for each in door.endpoints([HERE])))
    certificate, *port = sys.stdin.readline().split()
    tls = MutualTLS(own, bytes.fromhex(certificate), listens=role == "listen")
    meet: Meet = lambda deadline, *_: knock(tls, [Endpoint(HERE, int(port[0]))], deadline)  # noqa: E731
    if role == "listen":
        meet = lambda *waiting: door.admit(tls, *waiting)  # noqa: E731
    news = SimpleQueue[News]()
    link = DirectLink(meet, listens=role == "listen", open_blob=lambda _: path.open("rb"), deliver=news.put)
    link.start()
    with path.with_suffix(".part").open("ab") as part:
        for length in map(int, sys.stdin.readline().split()):
            link.fetch(Wish(BLOB, part.tell(), length - part.tell(), partial(take, part, hold)))
        while True:
            told = news.get()
            if isinstance(told, Giving):  # now and then
                continue
            say(type(told).__name__)
            if isinstance(told, Down):
                return


def take(part: BinaryIO, hold: int, data: bytes) -> None:
    """Append what comes."""
    before = part.tell()
    part.write(data)
    part.flush()
    if before < hold <= part.tell():
        sys.stdin.readline()


def say(*words: object) -> None:
    """Say a line at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
