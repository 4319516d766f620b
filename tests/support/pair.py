"""A client machine and a server machine with a link in memory between them."""

import typing

import msgspec

from securechat.wire import limits, messages
from securechat.wire.messages import Message
from securechat.wire.protocol import ClientProtocol, Ended, ServerProtocol

HELLO = messages.Hello([limits.PROTOCOL_VERSION], "test", "welcome", bytes(16), "open", bytes(32), bytes(32), 0)


class Pair:
    """Two protocol machines; `exchange` carries bytes both ways until neither has more to say."""

    def __init__(self, hello: messages.Hello = HELLO) -> None:
        self.now = 1000.0
        self.server = ServerProtocol(hello, self.now)
        self.client = ClientProtocol("test", self.now)
        self.at_server: list[messages.FromClient | Ended] = []
        self.at_client: list[messages.FromServer | Ended] = []

    def exchange(self) -> None:
        while True:
            up, down = self.client.data_to_send(), self.server.data_to_send()
            if not up and not down:
                return
            self.at_server += self.server.receive_data(up, self.now) if up else []
            self.at_client += self.client.receive_data(down, self.now) if down else []

    def inject(self, data: bytes) -> None:
        """Have the server receive bytes that no honest client sends, and the client its answer."""
        self.at_server += self.server.receive_data(data, self.now)
        self.exchange()

    def login(self, *, place: int = 0, published: bool = True) -> None:
        self.exchange()
        request = self.client.next_id()
        self.client.send(messages.Login(request, "alice", bytes(32), bytes(16)))
        self.exchange()
        certificate = b"certificate" if published else b""
        self.server.send(messages.LoggedIn(request, "alice", bytes(32), 0, place, b"", 0, bytes(32), certificate, 0))
        self.exchange()
        self.at_server.clear()
        self.at_client.clear()


def example(kind: type[Message], request: int = 9) -> Message:
    """A small valid message of any type."""
    values: dict[str, object] = {
        "id": request, "versions": [1], "registration": "open", "reason": "bye", "size": limits.MIN_BLOB,
    }  # fmt: skip
    sizes = {
        "server_id": 16, "secret": 32, "token": 32, "device": 16, "conversation": 32, "chain": 32,
        "proof": 64, "new": 32, "blob": 16, "data": 1,
    }  # fmt: skip
    fields = []
    for field in msgspec.structs.fields(kind):
        name = field.name
        if name in values:
            fields.append(values[name])
        elif name in sizes:
            fields.append(bytes(sizes[name]))
        elif name == "room":
            fields.append("#x")
        elif name == "state":
            fields.append("online")
        elif name == "code":
            fields.append("busy")
        elif name == "epoch":
            fields.append(None)
        else:
            inner = typing.get_origin(field.type)
            plain = typing.get_args(field.type)[0] if inner is typing.Annotated else field.type
            fields.append([] if typing.get_origin(plain) is list else {str: "x", int: 1, bytes: b"", bool: True}[plain])
    return kind(*fields)
