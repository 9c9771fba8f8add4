"""Rich's console, made safe for text from outside."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from mobilenets.quoting import several_lines


class PlainConsole(Console):
    """A console on which names are only shown: what is not printable in a text is escaped.

    Rich adds its own colours and cursor movements to the segments made here, so these stay.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Turn something into segments of text, see rich's `Console.render`."""
        for segment in super().render(renderable, options):
            plain = segment.control or segment.text == "\n" or segment.text.isprintable()
            yield segment if plain else Segment(several_lines(segment.text), segment.style)
