"""The list of conversations on the screen: each drawn once, and again where it has changed."""

from collections.abc import Sequence

from securechat.ui.terminal.blocks import Block, Blocks
from securechat.ui.terminal.drawing import draw_item
from securechat.ui.terminal.themes import LOOKS
from securechat.ui.view.rows import Item


class ListView(Blocks):
    """Conversations, that in which something was said last first."""

    def __init__(self, *, id: str) -> None:  # noqa: A002  # Textual's name
        super().__init__(id=id)
        self._drawn: dict[bytes, tuple[Item, bool, Block]] = {}
        self._drawn_for = (0, "")  # how wide, in which theme
        self._here = b""

    def show(self, items: Sequence[Item], here: bytes, theme: str) -> None:
        """Show these conversations. `here`: where one is, which is chosen, unless somebody chooses now."""
        drawn_for = (self.columns, theme)
        kept = self._drawn if drawn_for == self._drawn_for else {}
        drawn: dict[bytes, tuple[Item, bool, Block]] = {}
        for item in items:
            is_here, have = item.id == here, kept.get(item.id)
            if have is None or have[0] is not item or have[1] != is_here:
                strips = draw_item(item, self.columns, LOOKS[theme], here=is_here)
                have = item, is_here, Block(item.id.hex(), strips)
            drawn[item.id] = have
        blocks = [block for _, _, block in drawn.values()]
        if len(blocks) != len(self.blocks) or any(map(_differ, blocks, self.blocks)):
            self.put(blocks)
        if here != self._here or not self.has_focus:
            self.choose(here.hex())
        self._drawn, self._drawn_for, self._here = drawn, drawn_for, here


def _differ(one: Block, other: Block) -> bool:
    return one is not other
