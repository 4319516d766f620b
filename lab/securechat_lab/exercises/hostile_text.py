"""Exercise 7: a text that makes a line on somebody's screen which nobody has said."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from securechat.clean import clean
from securechat.client import commands, events
from securechat.client.message import Message
from securechat_lab.cast.scenes import direct
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.shown import ABOVE, screen
from securechat_lab.kit.stage import PARTS, Stage
from securechat_lab.kit.task import SEEN_BY_ATTACK, SEEN_BY_DEFENCE, Ask, HandIn, Task, predicted, tried

ATTACK = '''"""Exercise 7, attack: fake a line. Read README.md first."""


def text(row):
    """Return what Eve says, a str. Afterwards a row of Mia's screen has to be exactly `row`."""
    return row
'''

DEFENCE = '''"""Exercise 7, defence: what is shown of a text? Read README.md first."""


def clean(text):
    """`text`: what somebody has said, a str. Return what is shown of it, a str; it may have several lines."""
    return text
'''

CHECK = '''"""Exercise 7, a check of your own: is what this client shows harmless? Read README.md first."""


def sound(seen):
    """Return True if the client is sound, False if a text can do harm.

    `seen`: texts that Eve has said, some of them honest, and what became of them: a list of {"said": a str, "shown":
    what the client gave to the terminal for it, a str, "rows": the rows of the screen afterwards, a list of str}. What
    stood above, and in the line itself before the text, is the same each time.
    """
    return True
'''

Clean = Callable[[str], str]

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


def nothing(text: str) -> str:
    """Show everything as it is."""
    return text


def without_colours(text: str) -> str:
    """Take out colours, and what goes back to the beginning of the line."""
    return _COLOURS.sub("", text).replace("\r", "")


def without_escapes(text: str) -> str:
    """Take out the escape character, and what goes back: what most programs do who do anything."""
    return re.sub(r"[\x1b\r\b]", "", text)


WEAK: Final[dict[str, Clean]] = {"nothing": nothing, "colours": without_colours, "escapes": without_escapes}
"""The family: one part, `clean`."""

ORDINARY: Final = (
    "Grüße aus Köln, naïve café, Łódź", "Καλημέρα, τι κάνεις;", "Привет, как дела?", "مرحبا، كيف حالك؟",
    "שלום, מה שלומך?", "नमस्ते, आप कैसे हैं?", "สวัสดีครับ", "你好，今天怎么样？", "こんにちは、元気ですか？",
    "안녕하세요, 잘 지내요?", "Xin chào, bạn khỏe không?", "\N{GRINNING FACE} ok", "2 < 3 & 4 > 1; a\\b [x] {y} #z @me",
)  # fmt: skip
"""Of ten scripts, and what programmers write: all of it has to be there as it was."""

HOSTILE: Final[dict[str, tuple[str, ...]]] = {
    "a cursor that is moved": ("hi\rXX", "hi\x1b[2AXX", "hi\x1b[1;1HXX", "hi\b\b\b\bXX", "hi\x1bMXX"),
    "a control that is one character": ("hi\x9b2AXX", "hi\x9b1;1HXX", "hi\x0b\x0cXX", "hi\x85XX", "hi\x8dXX"),
    "a screen that is erased or renamed": ("hi\x1b[2JXX", "hi\x9b2J", "hi\x1bc", "\x1b]0;bank\x07hi", "hi\x1b[31mred"),
    "a direction that is turned": ("hi\u202eXX", "hi\u2066XX", "hi\u200fXX", "hi\u061cXX"),
    "something that nobody sees": ("hi\u200bXX", "hi\u2028XX", "hi\ufeffXX", "hi\U000e0041XX", "hi\x00\x7fXX"),
    "a flood of marks": ("hi" + "\u0301" * 200, "x\u0489" * 3 + "\u0316" * 90),
}  # fmt: skip

MARKS: Final = 8
"""Combining marks that may stand on one character: honest scripts need four."""

MAX_CLEANED: Final = 4096
"""Characters that may be left of one of these texts."""


def row(seed: Seed) -> str:
    """The line that somebody's Eve has to fake."""
    return f"09:{10 + seed.part('minute').below(50)} [eve] boss: pay {seed.part('payee').word(6)} at once"


def variant(seed: Seed) -> str:
    """How a student's own Mia cleans."""
    return seed.part("variant").pick(list(WEAK))


def unseen_variant(seed: Seed, unseen: Seed) -> str:
    """How the other one does: not the same."""
    return unseen.part("variant").pick([each for each in WEAK if each != variant(seed)])


NOW: Final = datetime(2027, 1, 15, 9).astimezone()
"""When all messages came, as the screen says: at nine, by the clock of this machine, whichever zone that is in."""
_TIME: Final = int(NOW.timestamp() * 1000)


def says(text: str, by: Clean) -> list[str]:
    """Let Eve say something in a real chat, and return Mia's screen."""
    with Stage() as stage:
        eve, mia = stage.person("eve"), stage.person("mia", replace(PARTS, clean=by))
        direct(eve, mia)
        eve.do(commands.Send(eve.id_of("mia"), text))
        mia.wait_for(events.Received, lambda event: event.message.text == text)
        came = [replace(each, time=_TIME, written=0) for each in mia.client.history(mia.id_of("eve"), 10)]
        return screen(came, "eve", mia.client.clean, NOW)


THERE: Final = "the row is there"
NOT_THERE: Final = "the row is not there"
ROW: Final = 100
"""Characters of a row, as it is told, with everything in it that is not ASCII written out."""


def attack(ask: Ask, wanted: str, by: Clean) -> str:
    """Let a student fake a row."""
    said = ask().call("text", wanted)
    if not isinstance(said, str) or not 0 < len(said) <= MAX_CLEANED:
        raise StudentError(f"text() returned {said!a:.60}, which is no text of at most {MAX_CLEANED} characters.")
    try:
        said.encode()
    except UnicodeEncodeError:
        raise StudentError("text() returned what is not Unicode: half a surrogate pair.") from None
    rows = says(said, by)
    return THERE if wanted in rows else f"Mia's screen: {' / '.join(ascii(each)[:ROW] for each in rows if each):.400}"


class Cleaning:
    """A student's cleaner. Raises `StudentError` for what is no text."""

    def __init__(self, student: Student) -> None:
        self._student = student

    def __call__(self, text: str) -> str:
        """Return what is left."""
        left = self._student.call("clean", text)
        if not isinstance(left, str) or len(left) > MAX_CLEANED:
            raise StudentError(f"clean() returned {left!a:.60}, which is no text that could be shown.")
        return left


def _message(text: str) -> Message:
    return Message(1, bytes(32), 7, _TIME, "eve", own=False, text=text, trust="accepted")




def harmless(text: str, by: Clean) -> bool:
    """Whether nothing of what is shown of a text can do harm: neither on a screen, nor as a string."""
    left = by(text)
    rows = screen([_message(text)], "eve", lambda _: left, NOW)
    first, *rest = [each for each in rows[len(ABOVE) :] if each] or [""]
    on_screen = tuple(rows[: len(ABOVE)]) == ABOVE and first[5:].startswith(_BEGINNING) and not any(
        each[:1].strip() for each in rest
    )  # fmt: skip
    return on_screen and not any(map(_is_hidden, left.replace("\n", ""))) and _marks(left) <= MARKS


_BEGINNING: Final = " [eve] eve"


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def _marks(text: str) -> int:
    """The most combining marks in a row."""
    runs = groupby(text, lambda character: unicodedata.category(character)[0] == "M")
    return max((len(list(run)) for is_mark, run in runs if is_mark), default=0)


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    there, mia = THERE, SEEN_BY_ATTACK
    mine = f"attack: the row on your Mia's screen ({variant(seed)})"
    other = unseen_variant(seed, unseen)
    with hand_in.loaded("attack") as ask:
        yield tried(mine, there, mia, lambda: attack(ask, row(seed), WEAK[variant(seed)]))
        yield tried(f"attack: another row on another's ({other})", there, mia,
                    lambda: attack(ask, row(unseen), WEAK[other]))  # fmt: skip
        yield tried("attack: the strong client shows it as Eve's", NOT_THERE, mia,
                    lambda: THERE if attack(ask, row(unseen), clean) == THERE else NOT_THERE, twin=mine)  # fmt: skip
    yield predicted("prediction: whether end-to-end encryption stops such a text", "no", hand_in, mine)
    ordinary = "defence: ordinary texts of ten scripts stay as they are"
    with hand_in.loaded("defence") as ask:
        yield tried(ordinary, "all of them", "README.md, step 4", lambda: _survive(Cleaning(ask())), idle=True)
        yield tried("defence: a text of two lines keeps them", "two lines", SEEN_BY_DEFENCE,
                    lambda: _lines(Cleaning(ask())), twin=ordinary, idle=True)  # fmt: skip
        for kind, texts in HOSTILE.items():
            yield tried(f"defence: {kind}", "harmless", SEEN_BY_DEFENCE,
                        lambda texts=texts: _all_harmless(texts, Cleaning(ask())), twin=ordinary)  # type: ignore[misc]  # fmt: skip


def _survive(by: Clean) -> str:
    lost = [text for text in ORDINARY if by(text) != text]
    return f"not {lost[0]!a:.60}" if lost else "all of them"


def _lines(by: Clean) -> str:
    shown = by("one\ntwo")
    return "two lines" if shown == "one\ntwo" else f"{shown!a:.40}"


def _all_harmless(texts: tuple[str, ...], by: Clean) -> str:
    harm = [text for text in texts if not harmless(text, by)]
    return f"harm by {harm[0]!a:.40}" if harm else "harmless"


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    return {"row": row(seed), "variant": variant(seed)}


def _witness(build: str, seed: Seed) -> list[dict[str, Any]]:
    """Let honest and hostile texts be shown by a build's cleaner; see CHECK."""
    by = clean if build == STRONG else WEAK[build]
    texts = ["one\ntwo", *(each for each in ORDINARY if seed.part("honest", each).below(2))]
    texts += [f"{each.replace('XX', '')}{seed.part(each).word(4)}" for each in _REVIEWED]
    return [
        {"said": each, "shown": by(each), "rows": screen([_message(each)], "eve", by, NOW)[:ROWS]}
        for each in sorted(texts, key=lambda each: seed.part("order", each).text)
    ]


ROWS: Final = 6
"""Rows of the screen in which something can be."""
_REVIEWED: Final = (
    "hi\rXX", "hi\x1b[2AXX", "hi\x1b[1;1HXX", "hi\x9b2AXX", "hi\x9b1EXX", "hi\u202eXX", "hi\u200bXX", "hi\x1b[31mXX",
)  # fmt: skip


def _stays(*signs: str) -> Callable[[list[dict[str, Any]]], bool]:
    """Whether none of these comes through to the terminal."""
    return lambda seen: not any(sign in each["shown"] for each in seen for sign in signs)


_AS_TEXT: Final = "is text: no control characters, nothing that nobody sees or that turns the direction of writing"

REVIEW: Final = Review(
    weak=tuple(WEAK),
    witness=_witness,
    mine=variant,
    about=lambda seed: f"Mia's client, `{variant(seed)}`",
    claims=(
        Claim("No text can go back to the beginning of its line by a carriage return.", _AS_TEXT, _stays("\r")),
        Claim("No text can give a command to the terminal that begins with the escape character.", _AS_TEXT,
              _stays("\x1b")),
        Claim("No text can give a command to the terminal, however that begins.", _AS_TEXT,
              _stays("\x1b", "\x9b", "\r")),
        Claim("No text can turn the direction of writing.", _AS_TEXT, _stays("\u202e")),
        Claim("What somebody says in an ordinary text is shown as it was said.", "What is shown",
              lambda seen: all(each["shown"] == each["said"] for each in seen if each["said"] in ORDINARY)),
        Claim("Nobody can have a name that looks like another one's, in any script.",
              "What the data lacks it does not see", None),
        Claim("Nobody can annoy others with what they say.", "send, join open rooms, be annoying", None),
    ),
    check=CHECK,
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "07", check, facts, review=REVIEW, words=("yes", "no"))
