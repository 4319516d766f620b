"""Where one writes: several lines if need be, with completion, and what was written before."""

import tkinter as tk
from collections.abc import Callable, Sequence
from typing import Final

from securechat.ui.view.completion import Candidate
from securechat.ui.window.files import selected
from securechat.ui.window.letters import STAND_INS, Apart, drawable
from securechat.ui.window.looks import Letters

MAX_KEPT: Final = 200
"""Texts written before that the arrow keys bring back."""

MAX_ROWS: Final = 7
"""Lines that are seen at once."""

MAX_WRITTEN: Final = 70_000
"""Characters that are taken: more than one message may have."""


class Composer(tk.Text):
    """What is being written. Enter sends it; Shift-Enter or Ctrl-J begins a new line."""

    def __init__(
        self, master: tk.Misc, complete: Callable[[str], Sequence[Candidate]], letters: Letters,
        picture: Callable[[str, int], tk.PhotoImage | None],
    ) -> None:  # fmt: skip
        """`complete`: what a line up to the cursor may end in. `picture`: of an emoji, in a size."""
        super().__init__(master, height=1, wrap="word", relief="flat", borderwidth=0, highlightthickness=0,
                         font=letters.fonts["text"], width=10)  # fmt: skip
        self._complete, self._letters, self._picture = complete, letters, picture
        self._stand_ins: dict[str, str] = {}  # characters, and what is written with them, which Tk must not draw
        self._images: dict[str, tuple[str, tk.PhotoImage]] = {}  # names in the text, emoji and their pictures
        self.sent: Callable[[str], object] = lambda _text: None
        self.offered: Callable[[Sequence[Candidate]], object] = lambda _candidates: None
        """Called with what the last word may become; nothing: no more is offered."""
        self.changed: Callable[[str], object] = lambda _text: None
        self._kept: list[str] = []
        self._at = 0  # in what was kept; its length: what is being written
        self._draft = ""
        self._offers: Sequence[Candidate] = ()
        self._place = -1
        self._begun = ""  # the line before the word that is completed
        for sequence in ("<Return>", "<KP_Enter>"):
            self.bind(sequence, lambda _: self._send())
        for sequence in ("<Shift-Return>", "<Alt-Return>", "<Control-j>"):
            self.bind(sequence, lambda _: self._break())
        self.bind("<Tab>", lambda _: self._offer(1))
        self.bind("<Shift-Tab>", lambda _: self._offer(-1))
        self.bind("<Up>", lambda _: self._bring(-1))
        self.bind("<Down>", lambda _: self._bring(1))
        self.bind("<KeyPress>", self._pressed, add=True)
        self.bind("<<Modified>>", lambda _: self._modified())
        self.bind("<<Paste>>", lambda _: self._paste("CLIPBOARD"))
        self.bind("<<PasteSelection>>", lambda _: self._paste("PRIMARY"))
        for sequence in ("<<Copy>>", "<<Cut>>"):
            self.bind(sequence, lambda _, cuts=sequence == "<<Cut>>": self._copy(cuts=cuts))  # type: ignore[misc]
        self.bind("<Configure>", lambda _: self._fit(), add=True)

    @property
    def text(self) -> str:
        """What stands in it."""
        return self._between("1.0", "end-1c")

    def _between(self, start: str, end: str) -> str:
        parts = []
        for kind, what, _ in self.dump(start, end, text=True, image=True):
            if kind == "text":
                parts.append("".join(self._stand_ins.get(each, each) for each in what))
            else:
                parts.append(self._images.get(what, ("", None))[0])
        return "".join(parts)

    def write(self, text: str) -> None:
        """Put a text in place of what is there, with the cursor behind it."""
        self.delete("1.0", "end")
        self._images.clear()
        self._stand_ins.clear()
        self.mark_set("insert", "1.0")
        self.put(text[:MAX_WRITTEN])

    def put(self, text: str) -> None:
        """Write a text where the cursor is. What Tk must not draw becomes a picture, or a stand-in."""
        text = text.replace("\0", "")
        if self._letters.draws_all:
            self.insert("insert", text)
        else:
            apart = Apart(text)
            start = 0
            for place, each in enumerate(apart.text):
                if each in apart.emoji:
                    self.insert("insert", self._safe(apart.text[start:place]))
                    self._put_emoji(apart.emoji[each])
                    start = place + 1
            self.insert("insert", self._safe(apart.text[start:]))
        self.see("insert")

    def _safe(self, text: str) -> str:
        """Return a text in which stand-ins are for what Tk must not draw."""
        if text.isascii():
            return text
        return "".join(
            each if drawable(each, self._letters.family_for) == each else self._stand_in(each) for each in text
        )

    def _put_emoji(self, emoji: str) -> None:
        image = self._picture(emoji, self._letters.heights["text"] * 5 // 6)
        if image is None:
            self.insert("insert", self._stand_in(emoji))
        else:
            self._images[self.image_create("insert", image=image, align="center")] = emoji, image

    def _stand_in(self, what: str) -> str:
        known = next((each for each, meant in self._stand_ins.items() if meant == what), "")
        if not known:
            known = chr(STAND_INS[len(self._stand_ins) % len(STAND_INS)])
            self._stand_ins[known] = what
        return known

    def _pressed(self, event: "tk.Event[tk.Misc]") -> str | None:
        self._forget()
        if event.char.isascii() or self._letters.draws_all:
            return None
        self.put(event.char)
        return "break"

    def _copy(self, *, cuts: bool) -> str:
        if self.tag_ranges("sel"):
            self.clipboard_clear()
            self.clipboard_append(self._between("sel.first", "sel.last"))
            if cuts:
                self.delete("sel.first", "sel.last")
        return "break"

    def _modified(self) -> None:
        if self.edit_modified():
            self.edit_modified(arg=False)
            self._fit()
            self.changed(self.text)

    def _fit(self) -> None:
        """Be as high as what is written, to a point."""
        rows = 1
        if int(self.index("end-1c").split(".")[0]) > MAX_ROWS or len(self.text) > 4000:
            rows = MAX_ROWS
        else:
            found = self.tk.call(self._w, "count", "-displaylines", "1.0", "end-1c")  # type: ignore[attr-defined]  # every widget has its name
            rows = int(found[0] if isinstance(found, tuple) else found or 0) + 1
        wanted = min(max(rows, 1), MAX_ROWS)
        if int(self.cget("height")) != wanted:
            self.configure(height=wanted)

    def _paste(self, selection: str) -> str:
        """Take no more than can be said: Tk takes long over what is longer."""
        try:
            text = selected(self, selection)
        except tk.TclError:  # there is no text in it
            return "break"
        if self.tag_ranges("sel"):
            self.delete("sel.first", "sel.last")
        self.put(text[: max(0, MAX_WRITTEN - len(self.text))])
        return "break"

    def _break(self) -> str:
        self.insert("insert", "\n")
        self.see("insert")
        return "break"

    def _send(self) -> str:
        text = self.text
        if text.strip():
            self._kept = [*(each for each in self._kept if each != text), text][-MAX_KEPT:]
        self._at, self._draft = len(self._kept), ""
        self._forget()
        self.write("")
        self.sent(text)
        return "break"

    def _bring(self, by: int) -> str | None:
        line, last = (int(self.index(each).split(".")[0]) for each in ("insert", "end-1c"))
        if not self._kept or (by < 0 and line > 1) or (by > 0 and (line < last or self._at >= len(self._kept))):
            return None  # the cursor moves
        if self._at >= len(self._kept):
            self._at, self._draft = len(self._kept), self.text
        self._at = min(max(self._at + by, 0), len(self._kept))
        self.write(self._kept[self._at] if self._at < len(self._kept) else self._draft)
        return "break"

    def _forget(self) -> None:
        if self._offers:
            self._offers = ()
            self.offered(())

    def _offer(self, by: int) -> str | None:
        """Complete the last word as far as it goes, or go on to the next that it may be."""
        if not self.text.startswith("/"):
            return None  # to the next widget
        if not self._offers:
            typed = self.get("1.0", "insert")
            found = self._complete(typed) if "\n" not in typed else ()
            if not found:
                return "break"
            self._begun = typed[: typed.rfind(" ") + 1]
            if len(found) == 1:
                self.write(f"{self._begun}{found[0].text} ")
                return "break"
            self._offers, self._place = found, -1
        self._place = (self._place + by) % len(self._offers)
        self.write(self._begun + self._offers[self._place].text)
        self.offered([*self._offers[self._place :], *self._offers[: self._place]])
        return "break"
