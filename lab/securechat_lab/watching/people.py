"""What each person of a scene sees, as lines of a recording; and the secrets of their connections, for the tap."""

import ssl
from collections.abc import Sequence
from pathlib import Path

from securechat.client import events
from securechat.client.message import Message
from securechat.client.settings import ClientSettings
from securechat.client.snapshot import ConversationSnapshot
from securechat.client.trust import Trust
from securechat.transport.certificate_files import CA
from securechat.transport.deadline import Deadline
from securechat.ui.text.sentences import sentences
from securechat_lab.watching.recording import Recorder


def with_key_log(trust: Trust, key_log: Path) -> Trust:
    """Return the part `trust` of a client that also has its TLS secrets written to `key_log`: for scenes and tests."""

    def logged(settings: ClientSettings, trusted: Sequence[CA], deadline: Deadline) -> ssl.SSLContext:
        context = trust(settings, trusted, deadline)
        context.keylog_filename = str(key_log)
        return context

    return logged


class Screen:
    """One person's screen: it writes down what a client tells its front end, in the words that all front ends have."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder = recorder
        self._name = name
        self._conversations: dict[bytes, ConversationSnapshot] = {}

    def __call__(self, event: events.Event) -> None:
        """Write an event down."""
        match event:
            case events.Received(message=message):
                self._message("received", message)
            case events.Said(message=message):
                self._message("said", message)
            case events.Delivered(message=message):
                self._message("delivered", message)
            case _:
                self._told(event)

    def _message(self, what: str, message: Message) -> None:
        self._recorder.add(
            "person", what, sender=message.sender, to=self._name, conversation=message.conversation.hex(),
            seq=message.seq, number=message.number, local=message.local_id, len=len(message.text.encode()),
            text=message.text,
        )  # fmt: skip
        for problem in filter(None, (message.problem, message.doubt)):
            self._recorder.add(
                "person", "alarm", to=self._name, conversation=message.conversation.hex(), seq=message.seq, text=problem
            )

    def _told(self, event: events.Event) -> None:
        conversation: bytes = getattr(event, "conversation", b"")
        if isinstance(event, events.ConversationChanged):
            snapshot = event.conversation
            conversation = snapshot.id
            self._conversations[snapshot.id] = snapshot
            self._recorder.add(
                "person", "conversation", to=self._name, conversation=snapshot.id.hex(), epoch=snapshot.epoch,
                text=snapshot.name,
            )  # fmt: skip
        for sentence in sentences(event, self._conversations.get(conversation), self._name):
            self._recorder.add(
                "person", "presence" if isinstance(event, events.PresenceChanged) else sentence.kind, to=self._name,
                conversation=conversation.hex(), text=sentence.text,
            )  # fmt: skip
