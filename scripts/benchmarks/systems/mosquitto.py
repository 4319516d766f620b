"""mosquitto, and clients that speak MQTT 5: QoS 0, a topic for each pair and for each room."""

import itertools
import struct

from scripts.benchmarks.systems.packaged import Packaged
from scripts.benchmarks.systems.system import Client, ServerFailedError, stamp_of, stamped

CONNECT, CONNACK, PUBLISH, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x82, 0x90
NO_LOCAL = 0x04  # with QoS 0: the publisher does not get it back

CONFIGURATION = """
listener {port} 127.0.0.1
certfile {folder}/server.pem
keyfile {folder}/server-key.pem
tls_version tlsv1.3
allow_anonymous true
persistence false
set_tcp_nodelay true
log_type error
"""


class MqttClient(Client):
    """A connection that has subscribed to one topic and publishes to it."""

    def __init__(self, server: "Mosquitto", topic: bytes) -> None:
        super().__init__(server)
        self._topic = _text(topic)
        self._name = _text(b"client%d" % next(server.numbers))

    def log_in(self) -> None:
        """See `Client`."""
        self.connect()
        # MQTT version 5, a clean start, no keep-alive, no properties
        self._ask(CONNECT, _text(b"MQTT") + bytes((5, 0x02, 0, 0, 0)) + self._name, CONNACK)
        self._ask(SUBSCRIBE, struct.pack(">H", 1) + bytes(1) + self._topic + bytes((NO_LOCAL,)), SUBACK)

    def _ask(self, kind: int, body: bytes, answer: int) -> None:
        self.queue(_packet(kind, body))
        self.flush()
        while (packet := self._next()) is None:
            self.read()
        if packet[0] != answer or packet[1][-1] >= 0x80:  # the last byte is the reason, or no properties
            raise ServerFailedError(f"mosquitto refused {kind:#x}: {packet}")

    def say(self) -> None:
        """See `Client`."""
        self.unanswered += 1
        self.queue(_packet(PUBLISH, self._topic + bytes(1) + stamped()))

    def take(self) -> list[int]:
        """See `Client`."""
        stamps = []
        while (packet := self._next()) is not None:
            kind, body = packet
            if kind == PUBLISH:
                start = 2 + int.from_bytes(body[:2], "big")  # after the topic
                stamps.append(stamp_of(body[start + 1 + body[start] :]))  # after the properties, less than 128 bytes
        return stamps

    def _next(self) -> tuple[int, bytes] | None:
        data, length, shift = self._plaintext, 0, 0
        for position in range(1, len(data)):
            length |= (data[position] & 0x7F) << shift
            shift += 7
            if data[position] < 0x80:
                end = position + 1 + length
                if end > len(data):
                    return None
                packet = data[0], bytes(data[position + 1 : end])
                del data[:end]
                return packet
        return None


def _text(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text


def _packet(kind: int, body: bytes) -> bytes:
    length = len(body)
    encoded = bytearray((kind,))
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((*encoded, length)) + body


class Mosquitto(Packaged):
    """See the module."""

    package = program = "mosquitto"

    def configure(self, port: int) -> tuple[list[str], dict[str, str]]:
        """See `Packaged`."""
        self.numbers, self._topics = itertools.count(), itertools.count()
        path = self.folder / "mosquitto.conf"
        path.write_text(CONFIGURATION.format(port=port, folder=self.folder))
        return ["-c", str(path)], {}

    def pairs(self, count: int) -> list[tuple[Client, Client]]:
        """See `System`."""
        return [(one, two) for one, two in (self.room(2) for _ in range(count))]

    def room(self, count: int) -> list[Client]:
        """See `System`."""
        topic = b"topic%d" % next(self._topics)
        clients: list[Client] = [MqttClient(self, topic) for _ in range(count)]
        for client in clients:
            client.log_in()
        return clients

    def newcomer(self) -> Client:
        """See `System`. It is alone with its topic."""
        return MqttClient(self, b"topic%d" % next(self._topics))
