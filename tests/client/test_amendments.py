"""Edits, deletions, reactions and replies: all come to the same, and nobody changes what somebody else has said."""

from collections.abc import Callable

import pytest

from securechat.client import commands, events
from securechat.client.conversations import amendments
from securechat.client.message import Message, Quote, Reaction
from securechat.client.vault.history import MAX_QUOTE, MAX_REACTIONS, MAX_REACTIONS_EACH
from securechat.content.registry import (
    NAMELESS,
    Body,
    Delete,
    Edit,
    Name,
    Unknown,
)
from securechat.content.registry import Reaction as ReactionBody
from securechat.content.registry import Reply as ReplyBody
from securechat.errors import UsageError
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


@pytest.fixture
def garden(people: World) -> list[Person]:
    """alice owns an open room, and bob and carol are in it."""
    everybody = people("alice", "bob", "carol")
    for person in everybody:
        person.do(commands.JoinRoom("#garden"))
        settle(*everybody)
    return everybody


def line(person: Person, text: str, room: str = "#garden") -> Message:
    """The line of this text."""
    (found,) = [each for each in person.history(room, 1000) if each.text == text]
    return found


def say(people: list[Person], by: Person, text: str) -> None:
    by.say("#garden", text)
    settle(*people)


def do(people: list[Person], by: Person, command: commands.Command) -> None:
    by.do(command)
    settle(*people)
    assert [each for each in by.happened if isinstance(each, events.Done) and each.command == command.id]


def slip(person: Person, body: Body, room: str = "#garden") -> None:
    """Say something that our own program would never."""
    with person.vault.transaction():
        conversation = person.engine._registry.get(person.id_of(room))
        assert conversation is not None
        conversation.put(body)
    person.engine.handle_timer()


def shown(person: Person, room: str = "#garden") -> list[tuple[object, ...]]:
    """All that a front end can see of a history, without what each vault has its own of."""
    return [
        (
            each.seq, each.time, each.sender, each.text, each.problem, each.kind, each.number, each.edited,
            each.deleted_by, each.reactions,
            None if each.quote is None else (each.quote.sender, each.quote.text, each.quote.state, each.quote.edited),
        )
        for each in person.history(room, 1000)
    ]  # fmt: skip


def agree(people: list[Person]) -> None:
    """All see the same."""
    first, *others = [shown(person) for person in people]
    for other in others:
        assert other == first


def test_an_edit_changes_the_text_everywhere_and_the_line_stays_where_it_was(garden: list[Person]) -> None:
    alice, bob, _ = garden
    say(garden, bob, "I'll come at six")
    say(garden, alice, "fine")
    do(garden, bob, commands.Edit(line(bob, "I'll come at six").local_id, "I'll come at seven"))
    agree(garden)
    for person in garden:
        assert person.texts("#garden") == ["bob: I'll come at seven", "alice: fine"]
        assert line(person, "I'll come at seven").edited >= line(person, "fine").time
        assert line(person, "fine").edited == 0
        (told,) = [each for each in person.happened if isinstance(each, events.Edited)]
        assert (told.before, told.message) == ("I'll come at six", line(person, "I'll come at seven"))
    do(garden, bob, commands.Edit(line(bob, "I'll come at seven").local_id, "I'll come at eight"))
    assert {each.texts("#garden")[0] for each in garden} == {"bob: I'll come at eight"}


def test_a_deletion_leaves_that_there_was_something_and_nothing_of_it(garden: list[Person]) -> None:
    _, bob, carol = garden
    say(garden, bob, "the code is 1234")
    do(garden, carol, commands.React(line(carol, "the code is 1234").local_id, "👍"))
    carol.do(commands.Reply(line(carol, "the code is 1234").local_id, "thanks"))
    settle(*garden)
    do(garden, bob, commands.Delete(line(bob, "the code is 1234").local_id))
    agree(garden)
    for person in garden:
        deleted, thanks = person.history("#garden", 10)
        assert (deleted.text, deleted.deleted_by, deleted.reactions) == ("", "bob", ())
        assert thanks.quote == Quote(deleted.local_id, "bob", person is bob, state="deleted")
        (told,) = [each for each in person.happened if isinstance(each, events.Deleted)]
        assert told.message.deleted_by == "bob"
    for command in (commands.Edit(1, "again"), commands.Delete(1), commands.React(1, "👍"), commands.Reply(1, "what?")):
        with pytest.raises(UsageError, match="deleted"):
            bob.do(command)


def test_a_reply_shows_what_it_answers_as_that_is_now(garden: list[Person]) -> None:
    alice, bob, _ = garden
    say(garden, bob, "six " * 100)
    alice.do(commands.Reply(line(alice, "six " * 100).local_id, "yes"))
    settle(*garden)
    agree(garden)
    for person in garden:
        quote = line(person, "yes").quote
        six, own = line(person, "six " * 100), person is bob
        assert quote == Quote(
            six.local_id, "bob", own, six.text[:MAX_QUOTE], trust="accepted" if own else "unknown"
        )
    do(garden, bob, commands.Edit(line(bob, "six " * 100).local_id, "seven"))
    agree(garden)
    quote = line(alice, "yes").quote
    assert quote is not None
    assert (quote.text, quote.edited) == ("seven", line(alice, "seven").edited)
    (said,) = [each.message for each in alice.happened if isinstance(each, events.Said)]
    (delivered,) = [each.message for each in alice.happened if isinstance(each, events.Delivered)]
    assert said.quote == delivered.quote is not None


def test_reactions_come_and_go_in_their_order(garden: list[Person]) -> None:
    alice, bob, carol = garden
    say(garden, bob, "cake?")
    for person, text in ((carol, "👍"), (alice, "+1"), (alice, "👍"), (bob, "🎂")):
        do(garden, person, commands.React(line(person, "cake?").local_id, text))
    agree(garden)
    assert line(bob, "cake?").reactions == (
        Reaction("👍", ("carol", "alice")), Reaction("+1", ("alice",)), Reaction("🎂", ("bob",)),
    )  # fmt: skip
    do(garden, carol, commands.React(line(carol, "cake?").local_id, "👍", remove=True))
    agree(garden)
    assert line(bob, "cake?").reactions == (
        Reaction("+1", ("alice",)), Reaction("👍", ("alice",)), Reaction("🎂", ("bob",)),
    )  # fmt: skip
    told = [each for each in bob.happened if isinstance(each, events.Reacted)]
    assert [(each.account, each.text, each.act) for each in told] == [
        ("carol", "👍", "add"), ("alice", "+1", "add"), ("alice", "👍", "add"), ("bob", "🎂", "add"),
        ("carol", "👍", "remove"),
    ]  # fmt: skip


def test_an_action_is_a_line_of_its_own_kind_and_can_be_edited(garden: list[Person]) -> None:
    _, bob, carol = garden
    do(garden, bob, commands.Act(bob.id_of("#garden"), "waves"))
    do(garden, bob, commands.Edit(line(bob, "waves").local_id, "waves back"))
    assert line(carol, "waves back").kind == "action"
    agree(garden)


def test_what_waits_can_be_answered_and_changed_and_goes_out_in_order(garden: list[Person]) -> None:
    """Its number is not known before it is encrypted, and what is about it is behind it."""
    alice, bob, _ = garden
    bob.cut()
    first = bob.say("#garden", "I am offlien")
    bob.do(commands.Edit(first, "I am offline"))
    bob.do(commands.Reply(first, "still"))
    bob.do(commands.React(first, "🙁"))
    second = bob.say("#garden", "never mind")
    bob.do(commands.Delete(second))
    assert bob.texts("#garden") == ["bob: I am offlien", "bob: still", "bob: never mind"]
    bob.crash()
    bob.connect()
    settle(*garden)
    agree(garden)
    assert alice.texts("#garden") == ["bob: I am offline", "bob: still", "bob: "]
    quote = line(alice, "still").quote
    assert quote is not None
    assert quote.text == "I am offline"


@pytest.mark.parametrize("body", [Edit("mine now", NAMELESS), Delete(NAMELESS)])
def test_what_somebody_else_has_said_stays_and_the_attempt_is_shown(garden: list[Person], body: Edit | Delete) -> None:
    alice, bob, carol = garden
    say(garden, bob, "the truth")
    about = Name(line(carol, "the truth").device, line(carol, "the truth").number)
    what = Edit("mine now", about) if isinstance(body, Edit) else Delete(about)
    slip(carol, what)
    settle(*garden)
    for person in (alice, bob):
        truth, attempt = person.history("#garden", 10)
        assert (truth.text, truth.edited, truth.deleted_by) == ("the truth", 0, "")
        assert (attempt.sender, attempt.text, attempt.seq) == ("carol", "", truth.seq + 1)
        assert "somebody else, and counts for nothing" in attempt.problem
    with pytest.raises(UsageError, match="not yours"):
        carol.do(commands.Delete(line(carol, "the truth").local_id))
    with pytest.raises(UsageError, match="not yours"):
        alice.do(commands.Edit(line(alice, "the truth").local_id, "a lie"))


def test_who_owns_a_room_deletes_in_it_and_no_longer_once_that_is_over(garden: list[Person]) -> None:
    alice, bob, carol = garden
    say(garden, bob, "spam 1")
    say(garden, bob, "spam 2")
    do(garden, alice, commands.Delete(line(alice, "spam 1").local_id))
    agree(garden)
    assert carol.history("#garden", 10)[0].deleted_by == "alice"
    alice.do(commands.SetOwner(alice.id_of("#garden"), "carol", owner=True))
    settle(*garden)
    do(garden, carol, commands.Delete(line(carol, "spam 2").local_id))
    agree(garden)
    say(garden, bob, "spam 3")
    carol.do(commands.SetOwner(carol.id_of("#garden"), "alice", owner=False))
    settle(*garden)
    with pytest.raises(UsageError, match="not yours"):
        alice.do(commands.Delete(line(alice, "spam 3").local_id))


def test_a_deletion_counts_by_the_rules_of_where_it_is_in_the_log(garden: list[Person]) -> None:
    """alice is no owner any more when hers gets there: nobody does it, and she is told."""
    alice, bob, carol = garden
    say(garden, bob, "spam")
    alice.do(commands.SetOwner(alice.id_of("#garden"), "carol", owner=True))
    settle(*garden)
    alice.cut()
    command = commands.Delete(line(alice, "spam").local_id)
    alice.do(command)
    carol.do(commands.SetOwner(carol.id_of("#garden"), "alice", owner=False))
    settle(bob, carol)
    alice.connect()
    settle(*garden)
    assert {each.history("#garden", 10)[0].text for each in garden} == {"spam"}
    (refused,) = [each for each in alice.happened if isinstance(each, events.Refused)]
    assert (refused.command, refused.text) == (command.id, amendments._NOT_THEIRS.format("delete"))


def named_of(person: Person, text: str) -> Name:
    return Name(line(person, text).device, line(person, text).number)


@pytest.mark.parametrize("kind", ["reply", "edit", "delete", "reaction"])
def test_what_names_a_message_that_there_has_never_been_is_shown_as_that(garden: list[Person], kind: str) -> None:
    alice, bob, carol = garden
    say(garden, bob, "hello")
    device, number = named_of(alice, "hello")
    bodies: dict[str, Callable[[Name], Body]] = {
        "reply": lambda name: ReplyBody("yes", name), "edit": lambda name: Edit("no", name), "delete": Delete,
        "reaction": lambda name: ReactionBody("👍", name, "add"),
    }  # fmt: skip
    for wrong in (Name(device, number + 1), NAMELESS, Name(line(carol, "hello").device, 1 << 50)):
        slip(carol, bodies[kind](wrong))
        settle(*garden)
    own = next(each for each in garden[2].engine._registry if each.row.name == "#garden").row.number
    slip(carol, bodies[kind](Name(carol.engine._context.device.id, own + 1)))  # itself
    settle(*garden)
    for person in (alice, bob):
        hello, *others = person.history("#garden", 10)
        assert [(each.sender, each.text, each.problem) for each in others] == [("carol", "", amendments.NEVER)] * 4
        assert (hello.text, hello.edited, hello.reactions) == ("hello", 0, ())


def test_who_came_later_sees_an_edit_and_a_reply_without_their_message_and_no_more(people: World) -> None:
    alice, bob, carol = everybody = people("alice", "bob", "carol")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#garden"))
        settle(*everybody)
    say(everybody, bob, "before")
    carol.do(commands.JoinRoom("#garden"))
    settle(*everybody)
    target = line(bob, "before").local_id
    do(everybody, bob, commands.React(target, "👍"))
    do(everybody, bob, commands.Edit(target, "behind"))
    bob.do(commands.Reply(target, "as I said"))
    settle(*everybody)
    do(everybody, bob, commands.Delete(target))
    edit, reply = carol.history("#garden", 10)
    assert (edit.text, edit.problem) == ("", amendments._ABSENT)
    assert (reply.text, reply.quote) == ("as I said", Quote(0, state="absent"))
    agree([alice, bob])


def test_a_message_of_another_conversation_is_none_of_this_one(people: World) -> None:
    """The name is the same, and the conversation another: each has its own numbers."""
    alice, bob, carol = everybody = people("alice", "bob", "carol")
    alice.do(commands.OpenDirect("bob", "for bob", ask=False))
    alice.do(commands.OpenDirect("carol", "for carol", ask=False))
    settle(*everybody)
    bob.say("alice", "hi")
    settle(*everybody)
    about = Name(alice.engine._context.device.id, line(alice, "for carol", "carol").number)
    assert named_of_in(bob, "for bob", "alice") == about
    slip(bob, ReplyBody("yes", about), "alice")
    settle(*everybody)
    reply = line(alice, "yes", "bob")
    assert reply.quote is not None
    assert reply.quote.text == "for bob"
    assert carol.texts("alice") == ["alice: for carol"]


def named_of_in(person: Person, text: str, room: str) -> Name:
    return Name(line(person, text, room).device, line(person, text, room).number)


@pytest.mark.parametrize("change", ["DELETE FROM messages", "UPDATE messages SET conversation = x'00'"])
def test_what_waits_for_a_message_that_has_gone_or_moved_is_refused_and_what_is_behind_it_goes_out(
    garden: list[Person], change: str
) -> None:
    """It has gone in its time, or lies in the conversation that this one has taken the place of."""
    alice, bob, _ = garden
    say(garden, alice, "soon gone")
    bob.cut()
    command = commands.React(line(bob, "soon gone").local_id, "👍")
    bob.do(command)
    bob.do(commands.Reply(line(bob, "soon gone").local_id, "wait"))
    bob.say("#garden", "after")
    with bob.vault.transaction():
        bob.vault.run(f"{change} WHERE local_id = ?", line(bob, "soon gone").local_id)
    bob.connect()
    settle(*garden)
    (refused, unsent) = [each for each in bob.happened if isinstance(each, events.Refused)]
    assert (refused.command, refused.message) == (command.id, None)
    assert "the message that it is about is not in this conversation" in refused.text
    assert unsent.message is not None
    assert unsent.message.text == "wait"
    assert alice.texts("#garden") == ["alice: soon gone", "bob: after"]


def test_what_comes_after_a_deletion_changes_nothing_of_it(garden: list[Person]) -> None:
    """They had not seen it when they reacted, edited and deleted."""
    alice, bob, carol = garden
    say(garden, bob, "sorry")
    target = line(carol, "sorry").local_id
    alice.cut()
    carol.cut()
    carol.do(commands.React(target, "👍"))
    alice.do(commands.Delete(line(alice, "sorry").local_id))
    bob.do(commands.Delete(line(bob, "sorry").local_id))
    settle(bob)
    for person in (alice, carol):
        person.connect()
    settle(*garden)
    agree(garden)
    (left,) = bob.history("#garden", 10)
    assert (left.text, left.deleted_by, left.reactions) == ("", "bob", ())
    assert not [each for person in garden for each in person.happened if isinstance(each, events.Reacted)]


def test_in_private_nobody_deletes_what_the_other_one_has_said(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    bob.say("alice", "hi")
    settle(alice, bob)
    for person, other, text in ((alice, "bob", "hi"), (bob, "alice", "hello")):
        with pytest.raises(UsageError, match="not yours"):
            person.do(commands.Delete(line(person, text, other).local_id))
        slip(person, Delete(named_of_in(person, text, other)), other)
    settle(alice, bob)
    for person, other in ((alice, "bob"), (bob, "alice")):
        assert [each.text for each in person.history(other, 10)][:2] == ["hello", "hi"]
        (attempt,) = [each for each in person.history(other, 10) if each.problem]
        assert (attempt.sender, attempt.problem) == (other, amendments._NOT_THEIRS.format("delete"))


def test_an_ignored_account_reacts_and_edits_unseen(garden: list[Person]) -> None:
    alice, bob, carol = garden
    say(garden, alice, "hello")
    say(garden, carol, "spam")
    alice.do(commands.Ignore("carol"))
    alice.happened.clear()
    do(garden, carol, commands.React(line(carol, "hello").local_id, "🤮"))
    do(garden, carol, commands.Edit(line(carol, "spam").local_id, "more spam"))
    bob.do(commands.Reply(line(bob, "more spam").local_id, "stop it"))
    settle(*garden)
    told = [each for each in alice.happened if isinstance(each, events.Reacted | events.Edited)]
    assert not told
    hello, reply = alice.history("#garden", 10)
    assert (hello.reactions, reply.quote) == ((), Quote(reply.quote.local_id if reply.quote else 0, state="ignored"))
    alice.do(commands.Unignore("carol"))
    agree(garden)
    assert line(alice, "hello").reactions == (Reaction("🤮", ("carol",)),)
    alice.do(commands.Ignore("carol"))
    assert line(alice, "hello").reactions == ()


def test_a_flood_of_reactions_is_cut_alike_for_all(garden: list[Person]) -> None:
    alice, bob, carol = garden
    say(garden, alice, "hello")
    about = named_of(alice, "hello")
    for number in range(MAX_REACTIONS_EACH + 3):
        slip(carol, ReactionBody(f"{number}", about, "add"))
    settle(*garden)
    agree([alice, bob])
    assert [each.text for each in line(bob, "hello").reactions] == [f"{n}" for n in range(MAX_REACTIONS_EACH)]
    with bob.vault.transaction():
        history, target = bob.vault.history, line(bob, "hello").local_id
        for number in range(MAX_REACTIONS):
            history.react(target, "x", "x", number.to_bytes(32, "big"))
        assert not history.react(target, "y", "y", b"y" * 32)
    assert sum(len(each.accounts) for each in line(bob, "hello").reactions) == MAX_REACTIONS
    for number in range(MAX_REACTIONS_EACH):
        do(garden, alice, commands.React(line(alice, "hello").local_id, f"{number}"))
    with pytest.raises(UsageError, match="take one back first"):
        alice.do(commands.React(line(alice, "hello").local_id, "👍"))


@pytest.mark.parametrize("text", ["", " ", "a b", "\N{COMBINING ACUTE ACCENT}", "\x07", "x" * 17, "👍" * 4096])
def test_what_is_no_reaction_is_said_to_be_none(garden: list[Person], text: str) -> None:
    alice = garden[0]
    say(garden, alice, "hello")
    with pytest.raises(UsageError, match="A reaction"):
        alice.do(commands.React(line(alice, "hello").local_id, text))


def test_commands_that_make_no_sense_are_refused_in_words(garden: list[Person]) -> None:
    alice, bob, _ = garden
    say(garden, alice, "hello")
    target = line(alice, "hello").local_id
    for command, words in (
        (commands.Edit(target, ""), "Nothing would be left"),
        (commands.Edit(target, "hello"), "says that already"),
        (commands.Edit(target, "é" * 40_000), "in parts"),
        (commands.Edit(999, "x"), "not here any more"),
        (commands.Reply(999, "x"), "not here any more"),
        (commands.Reply(target, ""), "nothing to send"),
        (commands.Act(alice.id_of("#garden"), ""), "nothing to send"),
        (commands.React(target, "👍", remove=True), "no such reaction"),
    ):
        with pytest.raises(UsageError, match=words):
            alice.do(command)
    do(garden, alice, commands.React(target, "👍"))
    with pytest.raises(UsageError, match="already"):
        alice.do(commands.React(target, "👍"))
    slip(bob, Unknown("poll", b"\x91\xa5Cake?"))  # type: ignore[arg-type]  # of a later version
    settle(*garden)
    (poll,) = [each for each in alice.history("#garden", 10) if each.kind == "poll"]
    assert (poll.text, bool(poll.problem)) == ("Cake?", True)
    do(garden, alice, commands.React(poll.local_id, "🎂"))
    agree([garden[0], garden[2]])
    assert alice.vault.one("SELECT problem FROM messages WHERE kind = 'poll'") == ("",)  # a later version shows it


def test_replies_to_replies_without_end_quote_one_level(garden: list[Person]) -> None:
    alice, bob, _ = garden
    say(garden, alice, "0")
    for number in range(1, 30):
        by = (alice, bob)[number % 2]
        by.do(commands.Reply(line(by, str(number - 1)).local_id, str(number)))
        settle(*garden)
    agree(garden)
    quotes = [each.quote for each in alice.history("#garden", 100)][1:]
    assert [each.text for each in quotes if each is not None] == [str(number) for number in range(29)]


def test_text_and_what_changed_it_go_in_their_time(garden: list[Person]) -> None:
    """What is edited in later goes when it would have gone if it had been said; nothing stays longer for an edit."""
    alice, bob, carol = garden
    say(garden, bob, "old")
    alice.do(commands.SetLife(alice.id_of("#garden"), 86_400))
    settle(*garden)
    say(garden, bob, "for a day")
    do(garden, alice, commands.React(line(alice, "old").local_id, "👍"))
    alice.server.now += 43_200_000
    do(garden, bob, commands.Edit(line(bob, "for a day").local_id, "for half a day"))
    do(garden, carol, commands.React(line(carol, "old").local_id, "🙂"))
    alice.server.now += 44_000_000
    for person in garden:
        person.cut()
        person.connect()
    settle(*garden)
    agree(garden)
    assert alice.texts("#garden") == ["bob: old"]
    assert line(alice, "old").reactions == (Reaction("🙂", ("carol",)),)
    do(garden, bob, commands.Edit(line(bob, "old").local_id, "new"))
    alice.server.now += 90_000_000
    for person in garden:
        person.cut()
        person.connect()
    settle(*garden)
    assert {tuple(person.texts("#garden")) for person in garden} == {()}
    assert carol.vault.one("SELECT count(*) FROM reactions") == (0,)


def test_a_line_of_an_older_vault_is_changed_by_its_device_alone(garden: list[Person]) -> None:
    alice, bob, carol = garden
    say(garden, bob, "old")
    for person in garden:
        with person.vault.transaction():
            person.vault.run("UPDATE messages SET author = x''")
    slip(carol, Edit("mine", named_of(carol, "old")))
    settle(*garden)
    assert alice.history("#garden", 10)[0].text == "old"
    do(garden, bob, commands.Edit(line(bob, "old").local_id, "new"))
    assert alice.history("#garden", 10)[0].text == "new"


def test_a_line_that_could_not_be_read_has_no_text_to_change(garden: list[Person]) -> None:
    alice, bob, carol = garden
    say(garden, bob, "hello")
    with alice.vault.transaction():
        alice.vault.run("UPDATE messages SET kind = '', body = x'', problem = 'cannot be read', author = x''")
    do(garden, bob, commands.Edit(line(bob, "hello").local_id, "hallo"))
    assert [each.problem for each in alice.history("#garden", 10)] == ["cannot be read", amendments._NO_TEXT]
    assert carol.texts("#garden") == ["bob: hallo"]


def test_an_answer_to_a_request_by_a_reply_is_a_conversation_like_any_other(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "may I?", ask=True))
    settle(alice, bob)
    bob.accept("alice")
    settle(alice, bob)
    bob.do(commands.Reply(line(bob, "may I?", "alice").local_id, "you may"))
    alice.do(commands.Edit(line(alice, "may I?", "bob").local_id, "May I?"))
    settle(alice, bob)
    assert alice.texts("bob") == bob.texts("alice") == ["alice: May I?", "bob: you may"]
