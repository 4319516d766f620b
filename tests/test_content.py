import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.content.envelope import Envelope, decode, encode, padding, place, unplaced
from securechat.content.registry import (
    INVITATION_DAYS,
    KINDS,
    MAX_FILE,
    MAX_FILE_NAME,
    MAX_FILE_TEXT,
    MAX_INLINE,
    MAX_TEXT,
    MAX_THUMBNAIL,
    NAMELESS,
    Accept,
    Action,
    Body,
    Bye,
    Decline,
    DeclineInvite,
    Delete,
    Edit,
    File,
    Instead,
    Invite,
    LineProof,
    Marks,
    Name,
    Reaction,
    Reply,
    Request,
    Text,
    Unknown,
    WithdrawInvite,
    check_text,
    encode_body,
    file_of,
    is_editable,
    is_message,
    kind_of,
    line_of,
    stand_in,
    with_text,
)
from securechat.errors import DecodeError, UsageError
from securechat.tlscodec import encode_vector
from securechat.wire.limits import MAX_PAYLOAD

CHAIN = bytes(range(32))


ROOM = bytes(range(32))
INVITE = Invite(ROOM, "invite", "#club", "member", (("alice", bytes(32)),), CHAIN, 1_700_000_000_000, "come in")
ABOUT = Name(bytes(range(16)), 7)
BLOB, KEY = b"b" * 16, b"k" * 32
SHARED = File("a holiday", "sea.jpg", "image/jpeg", "image", 70_000, CHAIN, BLOB, KEY, b"", b"thumbnail")
NOTE = File("note.ogg", "note.ogg", "audio/ogg", "voice", 4, CHAIN, b"", b"", b"OggS", b"", 1500, bytes(range(48)))
EXAMPLES = [
    SHARED, NOTE,
    Text("hi"), Action("waves"), Reply("yes", ABOUT), Edit("hi!", ABOUT), Delete(ABOUT),
    Reaction("👍", ABOUT, "add"), Reaction("👍", ABOUT, "remove"),
    Marks(7, 5), Request("may I?"), Request(), Accept(), Decline(), Bye(),
    INVITE, DeclineInvite(ROOM), WithdrawInvite(ROOM),
    LineProof(ROOM, b"package", bytes(64)), LineProof(ROOM, b"", bytes(64)), Instead(ROOM),
]  # fmt: skip
"""At least one body of every kind."""


@pytest.mark.parametrize("body", EXAMPLES)
def test_what_is_put_in_comes_out(body: Body) -> None:
    envelope = Envelope(7, CHAIN, 1_700_000_000_000, body)
    assert decode(encode(envelope)) == envelope


@pytest.mark.parametrize("body", EXAMPLES)
def test_what_waits_without_a_place_is_the_same_once_it_has_one(body: Body) -> None:
    waits = unplaced(encode_body(body), 1_700_000_000_000)
    assert decode(waits) == Envelope(0, bytes(32), 1_700_000_000_000, body)
    assert place(waits, 7, CHAIN) == encode(Envelope(7, CHAIN, 1_700_000_000_000, body))


def test_there_is_an_example_of_every_kind() -> None:
    assert {kind_of(body) for body in EXAMPLES} == set(KINDS)
    assert len({kind.name for kind in KINDS}) == len({kind.body for kind in KINDS}) == len(KINDS)


def test_every_field_of_every_kind_has_a_limit() -> None:
    def is_limited(described: object) -> bool:
        if isinstance(described, msgspec.inspect.NamedTupleType):
            return all(is_limited(field.type) for field in described.fields)
        limits = [getattr(described, name, None) for name in ("max_length", "le", "lt", "values")]
        return any(limit is not None for limit in limits)

    for kind in KINDS:
        for field in msgspec.structs.fields(kind.body):
            assert is_limited(msgspec.inspect.type_info(field.type)), f"{kind.name}.{field.name}"


ID, PROOF = bytes(32), bytes(64)
INVITED = (ID, "invite", "#club", "member", (("alice", ID),), ID, 1, "come")
WRONG_NAMES: list[object] = [
    (bytes(15), 1), (bytes(17), 1), (bytes(16), -1), (bytes(16), 1 << 53), (bytes(16),), (bytes(16), 1, 1), bytes(16),
]  # fmt: skip
FILE: tuple[object, ...] = msgspec.structs.astuple(SHARED)
FILE_EDGES: list[tuple[object, object, list[object]]] = [
    ("x", "x" * 4096, ["", "x" * 4097, "é" * 2049]),
    ("x", "x" * 255, ["", "x" * 256, "é" * 128]),
    ("a/b", "a/" + "b" * 125, ["", "a", "/", "a/", "/b", "a/" + "b" * 126, "a/b/c", "A/b", "a/b; c=d", "a/b\n"]),
    ("voice", "attachment", ["", "inline", "Image"]),
    (0, 1 << 40, [-1, (1 << 40) + 1, "5"]),
    (CHAIN, CHAIN, [b"", bytes(31), bytes(33)]),
    (BLOB, BLOB, [b"", bytes(15), bytes(17)]),
    (KEY, KEY, [b"", bytes(31), bytes(33)]),
    (b"", b"", [b"x", bytes(5)]),
    (b"", bytes(16_384), [bytes(16_385)]),
    (0, 86_400_000, [-1, 86_400_001]),
    (b"", bytes(48), [bytes(47), bytes(49)]),
    (0, 65_535, [-1, 65_536]),
    (0, 65_535, [-1, 65_536]),
    (0, 253_370_764_800_000, [-1, 253_370_764_800_001]),
]  # fmt: skip
"""Of each field of a file, in their order."""
EDGES: list[tuple[type[Body], tuple[object, ...], int, object, object, list[object]]] = [
    # kind, its fields, which of them, the least and the most of it that is taken, and what is not
    (Text, ("hi",), 0, "", "x" * 65_536, ["x" * 65_537, "é" * 32_769]),
    (Request, ("hi",), 0, "", "x" * 65_536, ["x" * 65_537, "é" * 32_769]),
    (Action, ("hi",), 0, "", "x" * 65_536, ["x" * 65_537, "é" * 32_769]),
    (Reply, ("hi", ABOUT), 0, "", "x" * 65_536, ["x" * 65_537, "é" * 32_769]),
    (Reply, ("hi", ABOUT), 1, NAMELESS, (bytes(16), (1 << 53) - 1), WRONG_NAMES),
    *((File, FILE, at, least, most, beyond) for at, (least, most, beyond) in enumerate(FILE_EDGES)),
    (File, (*FILE[:4], 65_536, CHAIN, b"", b"", bytes(65_536), b"", *FILE[10:]), 8, bytes(65_536), bytes(65_536),
     [b"", bytes(65_535), bytes(65_537)]),
    (File, (*FILE[:4], 0, CHAIN, b"", b"", b"", *FILE[9:]), 4, 0, 0, [1]),
    (File, (*FILE[:3], "voice", *FILE[4:]), 4, 1, 8 << 20, [(8 << 20) + 1]),
    (File, (*FILE[:4], (8 << 20) + 1, *FILE[5:]), 3, "image", "attachment", ["voice"]),
    (Edit, ("hi", ABOUT), 0, "x", "x" * 65_536, ["", "x" * 65_537, "é" * 32_769]),
    (Edit, ("hi", ABOUT), 1, NAMELESS, (bytes(16), (1 << 53) - 1), WRONG_NAMES),
    (Delete, (ABOUT,), 0, NAMELESS, (bytes(16), (1 << 53) - 1), WRONG_NAMES),
    (Reaction, ("+1", ABOUT, "add"), 0, "x", "👍" * 16, ["", "x" * 17]),
    (Reaction, ("+1", ABOUT, "add"), 1, NAMELESS, (bytes(16), (1 << 53) - 1), WRONG_NAMES),
    (Reaction, ("+1", ABOUT, "add"), 2, "add", "remove", ["", "toggle", True]),
    (Marks, (7, 5), 0, 0, (1 << 53) - 1, [-1, 1 << 53, "7", True]),
    (Marks, (7, 5), 1, 0, (1 << 53) - 1, [-1, 1 << 53, "5", True]),
    (DeclineInvite, (ID,), 0, ID, ID, [bytes(31), bytes(33)]),
    (WithdrawInvite, (ID,), 0, ID, ID, [bytes(31), bytes(33)]),
    (Instead, (ID,), 0, ID, ID, [bytes(31), bytes(33)]),
    (LineProof, (ID, b"", PROOF), 0, ID, ID, [bytes(31), bytes(33)]),
    (LineProof, (ID, b"", PROOF), 1, b"", bytes(4096), [bytes(4097)]),
    (LineProof, (ID, b"", PROOF), 2, PROOF, PROOF, [bytes(63), bytes(65)]),
    (Invite, INVITED, 0, ID, ID, [bytes(31), bytes(33)]),
    (Invite, INVITED, 1, "invite", "invite", ["open", "direct", ""]),
    (Invite, INVITED, 2, "#", "#" + "x" * 31, ["", "#" + "x" * 32]),
    (Invite, INVITED, 3, "member", "owner", ["", "guest"]),
    (Invite, INVITED, 4, (), (("x" * 32, ID),) * 64, [(("x" * 32, ID),) * 65, (("", ID),), (("x" * 33, ID),)]),
    (Invite, INVITED, 4, (("x", ID),), (("x", ID),), [(("x", bytes(31)),), (("x", bytes(33)),), (("x",),)]),
    (Invite, INVITED, 5, ID, ID, [bytes(31), bytes(33)]),
    (Invite, INVITED, 6, 0, 253_370_764_800_000, [-1, 253_370_764_800_001]),
    (Invite, INVITED, 7, "", "x" * 400, ["x" * 401]),
]


@pytest.mark.parametrize(("kind", "fields", "at", "least", "most", "beyond"), EDGES)
def test_each_field_is_taken_up_to_its_limits_and_no_further(
    kind: type[Body], fields: tuple[object, ...], at: int, least: object, most: object, beyond: list[object]
) -> None:
    """As numbers: what members send is bounded by these, and a limit that moves unseen parts old clients from new."""
    name = next(each.name for each in KINDS if each.body is kind)

    def read(value: object) -> Envelope:
        data = msgspec.msgpack.encode((*fields[:at], value, *fields[at + 1 :]))
        return decode(msgspec.msgpack.encode((7, CHAIN, 1, name, data)))

    for value in (least, most):
        assert isinstance(read(value).body, kind)
    for value in beyond:
        with pytest.raises(DecodeError):
            read(value)


def test_an_envelope_is_taken_up_to_its_limits() -> None:
    for outer in ((0, CHAIN, 0, "t", b""), ((1 << 53) - 1, CHAIN, 253_370_764_800_000, "t" * 32, b"")):
        assert isinstance(decode(msgspec.msgpack.encode(outer)).body, Unknown)
    for wrong in ((0, CHAIN + b"x", 0, "t", b""), (0, CHAIN, -1, "t", b"")):
        with pytest.raises(DecodeError):
            decode(msgspec.msgpack.encode(wrong))


def test_of_all_kinds_what_people_say_alone_has_a_place_in_rooms() -> None:
    said = [kind.name for kind in KINDS if not kind.direct_only]
    assert said == ["text", "action", "reply", "file", "edit", "delete", "reaction", "marks"]
    assert INVITATION_DAYS == 14


def test_a_kind_that_is_a_line_says_what_it_shows_and_others_show_nothing() -> None:
    assert line_of("text", b"\x91\xa2hi") == "hi"
    assert line_of("request", b"\x91\xa6may I?") == "may I?"
    assert line_of("bye", b"\x90") is None
    assert line_of("poll", b"\x91" * 1000) is None


def test_what_can_be_answered_is_something_said_or_not_known_and_a_text_alone_can_be_edited() -> None:
    assert [kind.name for kind in KINDS if is_message(kind.name)] == ["text", "action", "reply", "file", "request"]
    assert [kind.name for kind in KINDS if is_editable(kind.name)] == ["text", "action", "reply", "request"]
    assert is_message("poll")
    assert not is_editable("poll")


@pytest.mark.parametrize("body", [Text("hi"), Action("hi"), Reply("hi", ABOUT), Request("hi")])
def test_an_edit_leaves_all_but_the_text(body: Body) -> None:
    kind, data = encode_body(body)
    assert with_text(kind, data, "hello") == encode_body(msgspec.structs.replace(body, text="hello"))[1]
    with pytest.raises(UsageError, match="in parts"):
        with_text(kind, data, "x" * (MAX_TEXT + 1))


def test_what_waits_gets_the_name_of_what_it_is_about_with_its_place() -> None:
    assert NAMELESS.number == 0  # numbers begin with 1: no message has it
    for body in EXAMPLES:
        if hasattr(body, "about"):
            waits = unplaced(encode_body(msgspec.structs.replace(body, about=NAMELESS)), 5)
            assert place(waits, 7, CHAIN, ABOUT) == encode(Envelope(7, CHAIN, 5, body))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (["Cake?", ["yes", "no"], {"until": 5}], "Cake?"),
        (["Cake?"], "Cake?"),
        ([], ""),
        ([b"key", "Cake?"], ""),
        ({"text": "Cake?"}, ""),
        ("Cake?", ""),
        (["x" * 65_537], ""),
    ],
    ids=["more fields", "alone", "nothing", "not first", "no array", "no field", "too long"],
)
def test_a_kind_from_the_future_is_stood_for_by_its_first_field_if_that_is_a_text(data: object, text: str) -> None:
    assert stand_in("poll", msgspec.msgpack.encode(data)) == text
    assert stand_in("text", msgspec.msgpack.encode(data)) == ""  # this one is known


@given(st.binary(max_size=200))
def test_whatever_a_kind_from_the_future_holds_something_or_nothing_stands_for_it(data: bytes) -> None:
    assert isinstance(stand_in("poll", data), str)
    assert stand_in("poll", b"\x92\xa2hi" + b"\x91" * 100_000) == ""


def test_a_type_from_the_future_is_named_and_left_unread() -> None:
    content = msgspec.msgpack.encode((7, CHAIN, 1, "poll", b"\x91" * 1000))
    assert decode(content).body == Unknown("poll", b"\x91" * 1000)


def test_a_file_is_shown_by_its_name_and_what_it_is_said_to_be() -> None:
    assert line_of(*encode_body(SHARED)) == "sea.jpg: a holiday"
    assert line_of(*encode_body(NOTE)) == "note.ogg"
    assert file_of(*encode_body(SHARED)) == SHARED
    assert file_of(*encode_body(Text("hi"))) is None
    assert file_of("poll", b"") is None


def test_a_program_that_does_not_know_files_shows_what_stands_for_one() -> None:
    assert stand_in("file-of-later", encode_body(SHARED)[1]) == "a holiday"


def test_of_a_file_of_which_nobody_says_more_nothing_is_made_up() -> None:
    assert (SHARED.milliseconds, SHARED.width, SHARED.height, SHARED.until) == (0, 0, 0, 0)
    assert (SHARED.inline, SHARED.waveform, NOTE.thumbnail) == (b"", b"", b"")


def test_a_message_itself_brings_64_kib_of_a_file_and_no_more() -> None:
    for size in (65_536, 65_537):
        content = encode(Envelope(1, CHAIN, 1, msgspec.structs.replace(NOTE, size=size, inline=bytes(size))))
        if size == 65_536:
            assert isinstance(decode(content).body, File)
        else:
            with pytest.raises(DecodeError):
                decode(content)


def test_how_large_a_voice_note_can_be_is_told() -> None:
    note = msgspec.structs.replace(SHARED, disposition="voice", size=8 << 20)
    encode(Envelope(1, CHAIN, 1, note))
    with pytest.raises(UsageError, match="at most 8 MiB"):
        encode(Envelope(1, CHAIN, 1, msgspec.structs.replace(note, size=(8 << 20) + 1)))


def test_the_largest_file_that_a_message_brings_fits_into_an_entry() -> None:
    largest = File(
        "x" * MAX_FILE_TEXT, "x" * MAX_FILE_NAME, "a/" + "b" * 125, "voice", MAX_INLINE, CHAIN, b"", b"",
        bytes(MAX_INLINE), bytes(MAX_THUMBNAIL), 86_400_000, bytes(48), 65_535, 65_535, 253_370_764_800_000,
    )  # fmt: skip
    content = encode(Envelope(1, CHAIN, 1, largest))
    assert len(content) + padding(len(content)) + 1024 < MAX_PAYLOAD
    assert MAX_FILE == 1 << 40


def test_the_longest_text_fits_into_an_entry_and_one_byte_more_is_refused() -> None:
    content = encode(Envelope(1, CHAIN, 1, Text("x" * MAX_TEXT)))
    assert len(content) + padding(len(content)) + 1024 < MAX_PAYLOAD
    with pytest.raises(UsageError, match="in parts"):
        encode(Envelope(1, CHAIN, 1, Text("x" * (MAX_TEXT + 1))))
    with pytest.raises(UsageError, match="in parts"):
        check_text("é" * (MAX_TEXT // 2 + 1))
    with pytest.raises(UsageError, match="not Unicode"):
        check_text("\ud800")


@pytest.mark.parametrize(
    "outer",
    [
        (7, CHAIN, 1, "text"),
        (7, CHAIN, 1, "text", b"\x91\xa2hi", 0),
        (-1, CHAIN, 1, "text", b"\x91\xa2hi"),
        (1 << 53, CHAIN, 1, "text", b"\x91\xa2hi"),
        (1, CHAIN, 253_370_764_800_001, "text", b"\x91\xa2hi"),
        (7, CHAIN[1:], 1, "text", b"\x91\xa2hi"),
        (7, CHAIN, 1, "", b"\x91\xa2hi"),
        (7, CHAIN, 1, "t" * 33, b"\x91\xa2hi"),
        (7, CHAIN, 1, "text", b"\x92\xa2hi\x00"),
        (7, CHAIN, 1, "text", b"\x91\xa2hi\x00"),
        (7, CHAIN, 1, "text", b"\x91\xa2\xff\xff"),
        (7, CHAIN, 1, "text", b"\x91" * 100_000),
        (7, CHAIN, 1, "accept", b"\x91\xa2hi"),
        (7, CHAIN, 1, "text", b"\x91\xd9\x02hi"),
        (7, CHAIN, 1, "text", msgspec.msgpack.encode(["é" * MAX_TEXT])),
    ],
    ids=["short", "long", "negative", "too large", "too late", "chain", "no type", "long type", "extra field",
         "trailing bytes", "not UTF-8", "nested", "text where none is", "second spelling", "text too long"],
)  # fmt: skip
def test_damaged_content_is_refused(outer: tuple[object, ...]) -> None:
    assert decode(msgspec.msgpack.encode((7, CHAIN, 1, "text", b"\x91\xa2hi"))).body == Text("hi")
    with pytest.raises(DecodeError):
        decode(msgspec.msgpack.encode(outer))


@given(st.binary(max_size=200))
def test_random_bytes_end_in_a_value_or_a_decode_error(content: bytes) -> None:
    try:
        envelope = decode(content)
    except DecodeError:
        return
    assert encode(envelope) == content


@pytest.mark.parametrize("body", [Text("secret"), Unknown("secret", b"secret")])
def test_printing_what_was_decrypted_shows_none_of_it(body: Body | Unknown) -> None:
    envelope = Envelope(7, b"secret".ljust(32), 1_750_000_000_000, body)
    for shown in (repr(envelope), str(envelope), f"{envelope}", repr(body), str(body), f"{body}", f"{[body]}"):
        assert "secret" not in shown
        assert "1750000000000" not in shown
    assert repr(envelope) == f"Envelope(seq=7, {type(body).__name__}(...))"


@pytest.mark.parametrize(
    ("length", "padded"),
    [(0, 256), (1, 256), (63, 256), (64, 256), (254, 256), (255, 272), (270, 272), (998, 1024), (1022, 1024),
     (1023, 1088), (16_382, 16_384), (16_383, 17_408), (16_384, 17_408)],
)  # fmt: skip
def test_content_with_its_length_has_256_bytes_and_above_that_what_padme_rounds_to(length: int, padded: int) -> None:
    assert len(encode_vector(bytes(length))) + padding(length) == padded


@given(st.integers(256, 1 << 24))
def test_padding_above_the_floor_costs_at_most_an_eighth(length: int) -> None:
    assert 0 <= padding(length) <= length * 0.125
