"""What is changed, quoted, put under a line or typed under a key that stands against what the user has decided."""

from collections.abc import Callable

import pytest

from securechat.client import commands, events
from securechat.client.conversations.bodies import Arrival, receive
from securechat.client.message import Message, Reaction
from securechat.content.registry import Edit, Name
from securechat.ui.view.lines import message_line
from securechat.ui.view.rows import line_of, local_time
from securechat.wire.messages import Entry
from tests.support.people import Person, settle

World = Callable[..., list[Person]]
OTHER = b"k" * 32


@pytest.fixture
def lobby(lobby: list[Person]) -> list[Person]:
    """Both of them have spoken in #lobby, which belongs to nobody."""
    for person in lobby:
        person.say("#lobby", f"{person.name} is here")
        settle(*lobby)
    return lobby


def decide(alice: Person, decision: str, bob: Person, *, his: bool = True) -> None:
    """Have alice decide on bob's key, or on another one of his name: then bob is who comes under a false key."""
    with alice.vault.transaction():
        key = bob.engine._context.device.identity_key if his else OTHER
        getattr(alice.engine._context.pins, decision)("bob", key)


def line(person: Person, text: str) -> Message:
    (found,) = [each for each in person.history("#lobby", 100) if each.text == text]
    return found


@pytest.mark.parametrize(("refused", "trust"), [(True, "refused"), (False, "verified")])
def test_an_edit_stands_under_the_sign_of_its_key_when_it_came(
    lobby: list[Person], trust: str, *, refused: bool
) -> None:
    alice, bob = lobby
    decide(alice, "verify", bob)
    bob.say("#lobby", "send it to me")
    settle(*lobby)
    assert line(alice, "send it to me").trust == "verified"
    alice.do(commands.Reply(line(alice, "send it to me").local_id, "I will"))
    settle(*lobby)
    if refused:
        decide(alice, "refuse", bob)
    bob.do(commands.Edit(line(bob, "send it to me").local_id, "send it to mallory"))
    settle(*lobby)
    assert line(alice, "send it to mallory").trust == trust
    (told,) = [each for each in alice.happened if isinstance(each, events.Edited)]
    assert told.message.trust == trust
    quote = line(alice, "I will").quote
    assert quote is not None
    assert (quote.text, quote.trust) == ("send it to mallory", trust)


@pytest.mark.parametrize("doubt", ["the server, or bob: another history", ""])
def test_an_edit_that_contradicts_our_history_is_marked_like_a_line(lobby: list[Person], doubt: str) -> None:
    alice, bob = lobby
    said, sender = line(alice, "bob is here"), bob.engine._context.device
    conversation = alice.engine._registry.get(alice.id_of("#lobby"))
    assert conversation is not None
    entry = Entry(conversation.id, said.seq + 9, said.time, sender.id, 1, b"", b"")
    for text, because in (("bob was here", doubt), ("bob is gone", "")):
        edit = Edit(text, Name(said.device, said.number))
        with alice.vault.transaction():
            receive(conversation, Arrival(entry, said.number + 1, sender.certificate, edit, doubt=because))
        assert line(alice, text).doubt == doubt  # what was proven once stays


@pytest.mark.parametrize(
    ("decision", "his", "counts"),
    [
        ("verify", True, True), ("trust", True, True), ("verify", False, False), ("trust", False, False),
        ("refuse", True, False), ("", True, True),
    ],
)  # fmt: skip
def test_a_reaction_and_typing_under_another_key_are_not_shown_by_the_name(
    lobby: list[Person], decision: str, *, his: bool, counts: bool
) -> None:
    alice, bob = lobby
    if decision:
        decide(alice, decision, bob, his=his)
    bob.do(commands.Type(bob.id_of("#lobby"), typing=True))
    settle(*lobby)
    assert [each.account for each in alice.happened if isinstance(each, events.Typing)] == ["bob"] * counts
    bob.do(commands.React(line(bob, "alice is here").local_id, "+1"))
    settle(*lobby)
    assert line(bob, "alice is here").reactions == (Reaction("+1", ("bob",)),)
    assert line(alice, "alice is here").reactions == (Reaction("+1", ("bob",)),) * counts
    assert len([each for each in alice.happened if isinstance(each, events.Reacted)]) == counts


@pytest.mark.parametrize(
    ("his", "above"), [(True, "bob ✓: pay mallory"), (False, "bob (NOT THE VERIFIED KEY!): pay mallory")]
)
def test_a_quote_has_the_sign_of_the_key_that_has_said_it(lobby: list[Person], above: str, *, his: bool) -> None:
    alice, bob = lobby
    decide(alice, "verify", bob, his=his)
    bob.say("#lobby", "pay mallory")
    settle(*lobby)
    alice.do(commands.Reply(line(alice, "pay mallory").local_id, "really?"))
    settle(*lobby)
    shown = message_line(line_of(line(alice, "really?")), "#lobby", local_time(0))
    assert above in shown.split("\n")[0]
