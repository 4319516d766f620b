"""Microphone and loudspeaker: what is recorded and played, and what is said where there are none."""

import sys
from array import array
from pathlib import Path

import pytest

from securechat.client.media.worker import MAX_SECONDS, RATE
from securechat.errors import UsageError
from securechat.ui.session.sound import Loudspeaker, Microphone
from tests.support.card import Card
from tests.support.sounds import samples_of, speech


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card(there=True)
    monkeypatch.setitem(sys.modules, "sounddevice", card)
    return card


def test_what_comes_from_the_microphone_is_recorded(card: Card) -> None:
    said = speech(40)
    microphone = Microphone()
    assert card.open
    card.hear(said)
    assert samples_of(microphone.stop()) == said
    assert not card.open


def test_no_more_is_recorded_than_ten_minutes(card: Card) -> None:
    microphone = Microphone()
    card.hear(array("h", bytes(2 * 11 * 60 * RATE)), 60 * RATE)
    assert len(samples_of(microphone.stop())) == MAX_SECONDS * RATE


def test_what_is_played_is_given_to_the_loudspeaker_and_then_silence(card: Card) -> None:
    samples = speech(25).tobytes()
    loudspeaker = Loudspeaker(samples)
    heard = bytearray()
    while loudspeaker.plays:
        heard += card.play(480)
    assert heard == samples + bytes(len(heard) - len(samples))
    loudspeaker.stop()
    assert not card.open


def test_where_there_is_no_card_files_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Card(there=False))
    with pytest.raises(UsageError, match=r"^There is no microphone: /voice FILE\.wav sends a recording\.$"):
        Microphone()
    with pytest.raises(UsageError, match=r"^There is no loudspeaker: /play N FILE\.wav writes it to a file\.$"):
        Loudspeaker(b"")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UsageError, match=r"need the extra \[voice\]: pip install 'securechat\[voice\]'"):
        Microphone()


@pytest.mark.parametrize(("error", "why"), [
    ("OSError('PortAudio library not found')", "There is no PortAudio here"),
    ("Exception('Error initializing PortAudio: Unanticipated host error')", "There is no microphone"),
])  # fmt: skip
def test_where_there_is_no_sound_system_files_are_named(
    error: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sounddevice.py").write_text(f"raise {error}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(UsageError, match=rf"^{why}.*/voice FILE\.wav sends a recording\.$"):
        Microphone()
