"""What every result of a verb offers: a dictionary, a short text, a table for notebooks, and rows for pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mobilenets.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas

ROWS_SHOWN = 50
"""Rows of a table in a notebook; the rest is counted. All of them are in `to_frame()` and `to_dict()`."""


class Result:
    """Base of the dataclasses that the verbs return.

    A subclass is declared with `@dataclass(repr=False)`, since the dataclass's own representation lists every field
    of every part, which floods a notebook. It says in `_headline` what it is in one line, and in `_rows` what its
    table holds.
    """

    def to_dict(self) -> dict[str, Any]:
        """Everything, as what JSON can hold: what the command prints with `--json`."""
        raise NotImplementedError(f"{type(self).__name__} has to say what its JSON holds")

    def _headline(self) -> str:
        """One line without markup, e.g. `mobilenet_v2: 1 error, 2 warnings`."""
        raise NotImplementedError(f"{type(self).__name__} has to say its result in one line")

    def _rows(self) -> Sequence[Mapping[str, object]]:
        """The rows of the table, all with the same keys; none where a table makes no sense."""
        return ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._headline()}>"

    def _repr_html_(self) -> str:
        """The headline and the table, for notebooks."""
        import html

        rows = self._rows()
        caption = html.escape(self._headline())
        if not rows:
            return f"<p>{caption}</p>"
        shown = rows[:ROWS_SHOWN]
        head = "".join(f"<th>{html.escape(str(name))}</th>" for name in shown[0])
        body = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in shown)
        left = f"<p>and {len(rows) - len(shown)} more</p>" if len(rows) > len(shown) else ""
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{body}</table>{left}"

    def to_frame(self) -> pandas.DataFrame:
        """The rows as a pandas frame, numbers as numbers.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise MissingExtraError("to_frame() needs pandas. Run: pip install pandas") from error
        return pandas.DataFrame([dict(row) for row in self._rows()])


def _cell(value: object) -> str:
    import html

    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"<td>{html.escape(text)}</td>"
