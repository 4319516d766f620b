"""Searching: what is found, by what, and that what has gone is found no more; and hostile searches."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securechat.client import commands, searching
from securechat.client.core import ChatClient
from securechat.client.message import Message
from securechat.client.password_source import PasswordSource
from securechat.client.query import MAX_QUERY, Query
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import Cost
from securechat.content.registry import File, Name, Reply, Text, encode_body
from securechat.errors import UsageError
from tests.client.test_migrations import pages
from tests.support.people import Person, settle

World = Callable[..., list[Person]]
HERE, ELSEWHERE = b"h" * 32, b"e" * 32


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    password = PasswordSource.typed("correct horse")
    vault = Vault.open(tmp_path / "alice.vault", "alice", password, cost=Cost(time=1, memory=8, lanes=1))
    yield vault
    vault.close()


def add(vault: Vault, text: str, sender: str = "bob", conversation: bytes = HERE, **others: object) -> Message:
    given = {"own": False, "trust": "accepted", "seq": vault.history.last_id + 1, **others}
    with vault.transaction():
        return vault.history.add(conversation, sender, encode_body(Text(text)), **given)  # type: ignore[arg-type]  # test data


def found(vault: Vault, *words: str, where: tuple[bytes, ...] = (), **query: object) -> list[str]:
    wanted = Query(words, where="#here" if where else "", **query)  # type: ignore[arg-type]  # test data
    return [each.text for each in vault.history.search(wanted, where, 0, 100)]


@pytest.mark.parametrize(
    ("text", "hits", "misses"),
    [
        ("Hello World", ["hello", "HEL", "wor", "hello world", "world hello"], ["ello", "he", "hello there"]),
        ("is it ok to go?", ["ok", "it", "go", "to go"], ["o", "i", "oka"]),
        ("J'ai été à l'école", ["ete", "ÉTÉ", "ecole", "l'école", "à"], ["eco le"]),
        ("Straße", ["strasse", "STRASSE", "straße", "stra"], ["strase"]),
        ("明日は東京へ行く", ["明日", "日", "東京", "東京へ行", "く"], ["京東", "明東"]),
        ("พรุ่งนี้ไปกรุงเทพ", ["กรุงเทพ", "กรุ", "ไป"], ["เทพกรุง"]),
        ("내일 서울에 가요", ["내일", "서울", "서울에"], ["울에"]),
        ("שָׁלוֹם לכולם", ["שלום", "שָׁלוֹם"], ["לום"]),
        ("می\u200cخواهم", ["میخواهم", "می\u200cخواهم"], ["خواهم"]),
        ("see 🎉 and 👍🏽", ["🎉", "👍", "👍🏿"], ["👎"]),
        ("write to bob@example.org, file_2.txt", ["bob@example.org", "example", "file_2", "txt"], ["bob@example.com"]),
        ("ｆｕｌｌ width", ["full"], ["null"]),
        ("\u202egnp.exe\u202c", ["gnp.exe", "\u202egnp", "exe"], ["exe.gnp"]),
    ],
    ids=["words", "short", "accents", "sharp-s", "Han", "Thai", "Hangul", "Hebrew", "Persian", "emoji", "signs", "wide",
         "directions"],
)  # fmt: skip
def test_a_line_is_found_by_the_words_in_it(vault: Vault, text: str, hits: list[str], misses: list[str]) -> None:
    add(vault, text)
    add(vault, "something else")
    for words in hits:
        assert found(vault, *words.split(" ")) == [text], words
    for words in misses:
        assert found(vault, *words.split(" ")) == [], words


def test_a_phrase_is_found_as_it_was_said(vault: Vault) -> None:
    add(vault, "see you there")
    add(vault, "there you see")
    assert found(vault, phrases=("you there",)) == ["see you there"]
    assert found(vault, phrases=("you the",)) == []
    assert found(vault, "see", "-", phrases=("!", "you there")) == ["see you there"]  # signs are no words
    assert found(vault, "you", "there") == ["there you see", "see you there"]


def test_filters_say_who_where_when_and_what(vault: Vault) -> None:
    add(vault, "lunch at noon", time=1_000)
    add(vault, "lunch? see https://example.org/menu", "carol", ELSEWHERE, time=2_000)
    add(vault, "lunch was good", "bob", ELSEWHERE, time=3_000)
    waits = add(vault, "lunch again", "alice", own=True, seq=0, written=4_000)
    with vault.transaction():
        answer = encode_body(Reply("lunch, yes", Name(b"d" * 16, 1)))
        vault.history.add(HERE, "dave", answer, own=False, trust="accepted", seq=9, time=5_000)
    assert found(vault, "lunch", sender="bob") == ["lunch was good", "lunch at noon"]
    assert found(vault, "lunch", sender="bo") == []
    assert found(vault, sender="carol") == found(vault, has=("link",)) == ["lunch? see https://example.org/menu"]
    assert found(vault, "lunch", where=(ELSEWHERE,), sender="bob") == ["lunch was good"]
    assert len(found(vault, "lunch", where=(HERE, ELSEWHERE))) == 5
    assert found(vault, "lunch", has=("reply",)) == ["lunch, yes"]
    assert found(vault, "lunch", after=2_000, before=3_000) == ["lunch? see https://example.org/menu"]
    assert found(vault, after=3_000) == ["lunch, yes", "lunch again", "lunch was good"]
    assert found(vault, "lunch", before=5_000)[0] == waits.text
    assert found(vault, "lunch", before=0, after=9_000) == []


def test_a_file_is_found_by_its_name_and_what_it_is_said_to_be_until_it_is_deleted(vault: Vault) -> None:
    add(vault, "is there a menu?")
    shared = File("lunch plan", "menu.pdf", "application/pdf", "attachment", 4, bytes(32), b"", b"", b"%PDF")
    with vault.transaction():
        line = vault.history.add(HERE, "bob", encode_body(shared), own=False, trust="accepted", seq=9, time=1_000)
    for hits in (found(vault, has=("file",)), found(vault, "menu", "pdf"), found(vault, "plan")):
        assert hits == ["menu.pdf: lunch plan"]
    assert len(found(vault, "menu")) == 2
    with vault.transaction():
        vault.history.delete(line.local_id, "bob")
    assert found(vault, has=("file",)) == found(vault, "plan") == []


def test_what_was_found_goes_on_in_pages(vault: Vault) -> None:
    for number in range(25):
        add(vault, f"word {number}")
    query = Query(("word",))
    newest = vault.reader().search(query, (), 0, 10)
    older = vault.reader().search(query, (), newest[-1].local_id, 10)
    oldest = vault.reader().search(query, (), older[-1].local_id, 10)
    assert [each.text for each in (*newest, *older, *oldest)] == [f"word {number}" for number in range(24, -1, -1)]


def test_the_index_follows_what_becomes_of_a_line(vault: Vault) -> None:
    edited, deleted, over, moved = (
        add(vault, text, time=1_000, life=life)
        for text, life in (("first draft", 0), ("regretted", 0), ("fleeting", 1), ("wandering", 0))
    )
    with vault.transaction():
        vault.history.edit(edited.local_id, "second thoughts", 2_000, trust="unknown")
        vault.history.delete(deleted.local_id, "bob")
        vault.history.move_lines([moved.local_id], ELSEWHERE)
    assert found(vault, "draft") == found(vault, "regretted") == []
    assert found(vault, "thoughts") == ["second thoughts"]
    assert found(vault, "wandering", where=(HERE,)) == []
    assert found(vault, "wandering", where=(ELSEWHERE,)) == ["wandering"]
    assert found(vault, sender="bob") == ["wandering", "fleeting", "second thoughts"]
    with vault.transaction():
        vault.history.expire(over.time + 1_000)
    assert found(vault, "fleeting") == []
    with vault.transaction():
        vault.history.forget(ELSEWHERE)
    assert found(vault, "wandering") == []
    with pytest.raises(ZeroDivisionError), vault.transaction():
        add_and_fail(vault)
    assert found(vault, "undone") == []


def add_and_fail(vault: Vault) -> None:
    vault.history.add(HERE, "bob", encode_body(Text("undone")), own=False, trust="accepted", seq=99)
    raise ZeroDivisionError


def test_what_is_not_shown_is_not_found(vault: Vault) -> None:
    add(vault, "damaged beyond repair", problem="This message cannot be read.")
    add(vault, "not sent, and ours", "alice", own=True, problem="Nobody is there.")
    add(vault, "ignored", hidden=True)
    assert found(vault, "damaged") == found(vault, "ignored") == []
    assert found(vault, "not", "sent") == ["not sent, and ours"]


@pytest.mark.parametrize("way", ["edit", "delete", "expire"])
def test_words_that_have_gone_are_in_no_page_of_the_index_once_the_log_is_folded_in(vault: Vault, way: str) -> None:
    """Among many others, alone in its transaction or not, and however the index has been merged since."""
    words = [f"{number * 7919 % 10_007:05}paragraphernalia{number:05}" for number in range(600)]
    lines = []
    for first in range(0, 600, 50):
        with vault.transaction():
            for number in range(first, first + 50):
                body = encode_body(Text(f"the common {words[number]} of all"))
                life = 1 if number % 60 == 7 else 0
                line = vault.history.add(HERE, "bob", body, own=False, trust="accepted", seq=1, since=1_000, life=life)
                lines.append(line)
    gone = range(7, 600, 60)

    def left() -> set[int]:
        assert vault.fold()
        whole = b"".join(pages(vault.path))
        return {number for number in range(600) if words[number][5:].encode() in whole}

    assert left() == set(range(600))  # the search finds them where they are
    with vault.transaction():
        for number in gone:
            if way == "edit":
                vault.history.edit(lines[number].local_id, "other", 2_000, trust="unknown")
            elif way == "delete":
                vault.history.delete(lines[number].local_id, "bob")
        if way == "expire":
            vault.history.expire(2_000)
    assert left() == set(range(600)) - set(gone)


# --- hostile searches -------------------------------------------------------------------------------------------------

HELL = [
    '"', '""', '"""', "'", "''; DROP TABLE search; --", "NEAR(a, b)", "NEAR(", "a AND", "OR", "NOT", "a NOT b", "*",
    "a*", "^a", "said:a", "facets:c00", "{said facets}:a", "-said:a", "a + b", "(((((", ")", "a" * 100_000,
    "a " * 50_000, "\0", "a\0b", "\u202e\u200f\u2066", "\ud800", "\\", "%", "?", "?1", ":a", "$a", "\u0301" * 900,
    "ﷺ" * 900, "🏽", "\n", "\t", "1" * 900,
    "😀" * 900, "日" * 900, "search MATCH", "rank:", "\ufffe\uffff", "\U0010ffff",
]  # fmt: skip


@pytest.mark.parametrize("where", ["words", "phrases", "sender"])
def test_a_search_from_hell_gets_a_sentence_or_a_result(vault: Vault, where: str) -> None:
    add(vault, "a NEAR b, said he: NOT c OR d AND e")
    for text in HELL:
        query = Query(**{where: text if where == "sender" else (text,)})  # type: ignore[arg-type]  # test data
        with suppress(UsageError):
            vault.history.search(query, (), 0, 10)
    assert found(vault, "a", "NEAR", "NOT", "OR") == ["a NEAR b, said he: NOT c OR d AND e"]


@settings(max_examples=30)
@given(st.text(max_size=40), st.text(max_size=40))
def test_words_are_looked_for_as_they_are_indexed(text: str, other: str) -> None:
    words = searching.words_of(text)
    assert searching.said(text).split() == words
    assert all(word.isprintable() or not word.isascii() for word in words)
    assert not {'"', "*", "(", ")", "\0", ":"} & set("".join(words))
    for query in (Query((text, other)), Query((), (text, other))):
        try:
            asked = searching.match(query, ())
        except UsageError:
            continue
        assert asked.count('"') == 2 * sum(bool(searching.words_of(each)) for each in (text, other))


def test_what_is_too_much_to_look_for_is_refused(vault: Vault) -> None:
    with pytest.raises(UsageError, match="at most 1,000 characters"):
        found(vault, "x" * (MAX_QUERY + 1))
    with pytest.raises(UsageError, match="at most 16 words"):
        found(vault, *["word"] * 17)
    with pytest.raises(UsageError, match="no word in that"):
        found(vault, "?!")
    add(vault, "x" * 60_000)
    assert found(vault, "x" * 1000) == ["x" * 60_000]
    add(vault, " ".join(f"w{number}" for number in range(1_500)))
    assert (len(found(vault, "w999")), found(vault, "w1000")) == (1, [])  # of a line, what is at its beginning
    many = tuple(number.to_bytes(32, "little") for number in range(2_000))  # somebody who comes anew each day
    assert found(vault, "xxx", where=(*many, HERE)) == ["x" * 60_000]


def test_what_a_search_reads_does_not_grow_with_the_history(vault: Vault) -> None:
    """The lines that a common word is in are looked up for the page alone, and none where a filter fits nothing."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def cost(**query: object) -> int:
        nonlocal steps
        steps = 0
        vault.history.search(Query(("the",), **query), (HERE,) if "where" in query else (), 0, 20)  # type: ignore[arg-type]  # test data
        return steps

    def costs() -> list[int]:
        filters = [cost(), cost(sender="bob"), cost(sender="zoe"), cost(where="#here"), cost(has=("link",))]
        return [*filters, cost(after=10_000), cost(before=20), cost(after=100, before=120)]

    def fill(first: int, last: int) -> None:
        with vault.transaction():
            for seq in range(first, last):
                body = encode_body(Text(f"the word {seq}"))
                vault.history.add(HERE, "bob", body, own=False, trust="accepted", seq=seq, time=seq)

    vault._connection.set_progress_handler(count, 100)
    fill(1, 500)
    assert max(costs()) < 40
    fill(500, 5_000)
    assert max(costs()) < 40


# --- the history of a name --------------------------------------------------------------------------------------------


def past(person: Person, name: str, limit: int = 100, **beside: int) -> list[str]:
    lines = client_of(person).past(name, limit, **beside)
    return [f"{line.sender}: {line.text}" for line in lines]


def client_of(person: Person) -> ChatClient:
    """What a front end reads of a person's engine."""
    client = ChatClient.__new__(ChatClient)
    client._engine, client._reader = person.engine, person.vault.history
    return client


def test_history_goes_back_over_all_conversations_that_a_person_has_had_with_one(people: World) -> None:
    alice, bob = both = people("alice", "bob")
    for number in range(3):
        alice.do(commands.OpenDirect("bob", f"hello {number}", ask=False))
        settle(*both)
        if number == 0:
            bob.do(commands.Accept(bob.id_of("alice")))
            settle(*both)
        bob.say("alice", f"answer {number}")
        settle(*both)
        if number < 2:
            for one, other in ((alice, "bob"), (bob, "alice")):
                one.do(commands.Bye(one.id_of(other)))
                settle(*both)
    said = ("alice: hello", "bob: answer")
    everything = [f"{each} {number}" for number in range(3) for each in said]
    for one, other in ((alice, "bob"), (bob, "alice")):
        assert one.texts(other) == everything[-2:]  # the conversation of now
        assert past(one, other) == everything
        client = client_of(one)
        page = client.past(other, 3)
        assert [line.text for line in page] == ["answer 1", "hello 2", "answer 2"]
        older = client.past(other, 3, before=page[0].local_id)
        assert [line.text for line in older] == ["hello 0", "answer 0", "hello 1"]
        assert client.past(other, 3, before=older[0].local_id) == []
        assert client.past(other, 4, after=older[1].local_id) == [older[2], *page]
        hits = client.search(Query(("hello",), where=other), 10)
        assert [each.text for each in hits] == ["hello 2", "hello 1", "hello 0"]
    with pytest.raises(UsageError, match="nothing can be found in it"):
        client_of(alice).search(Query(("hello",), where="zoe"), 10)


def test_history_of_a_room_goes_on_behind_a_leave(people: World) -> None:
    alice, bob = both = people("alice", "bob")
    for time in ("first", "second"):
        for person in both:
            person.do(commands.JoinRoom("#garden"))
            settle(*both)
        bob.say("#garden", f"the {time} time")
        settle(*both)
        if time == "first":
            bob.do(commands.Leave(bob.id_of("#garden")))
            settle(*both)
            alice.do(commands.Leave(alice.id_of("#garden")))
            settle(*both)
    for person in both:
        assert past(person, "#garden") == ["bob: the first time", "bob: the second time"]
