"""Published variants as the terminal's tables: a network each, our counts beside what every source prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from string import ascii_lowercase

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mobilenets.catalogue.figures import PrintedFigure, PublishedRow
from mobilenets.catalogue.variants import IMAGENET_CLASSES, UNEXPLAINED, Publication, TableVariant, Verdict
from mobilenets.formatting import multiply_adds
from mobilenets.report.layout import plain_table

WIDE = 120
"""Columns of the terminal that fit a variant and its first source in one line."""
AGREES_MARK = "✓"
WEIGHTS_MARK = "↓"
_IMAGENET = "ImageNet"
_SOURCE_WIDTH = 14  # columns: of the longest word, indented, so that none is cut

_Extras = dict[str, Callable[[PublishedRow], str]]
"""Headings of columns only some networks need, and what fills them."""


def variants_view(variants: Sequence[TableVariant], *, columns: int = WIDE) -> Group:
    """Build the tables that `Console.print` shows, a network each.

    A figure that is the network's has a tick; another has a letter, explained below its table. Networks of others that
    are not built here come last.

    Args:
        variants: as `published_variants` gives them.
        columns: of the terminal. Below `WIDE`, a variant has a line of its own above its sources; 80 are enough.
    """
    parts: list[RenderableType] = [_how_to_read(variants)]
    built = [variant for variant in variants if variant.built_here]
    for network, members in groupby(built, key=lambda variant: variant.network):
        parts += [Text(), *_network(network, list(members), wide=columns >= WIDE)]
    foreign = [variant for variant in variants if not variant.built_here]
    if foreign:
        parts += [Text(), _foreign_table(foreign, wide=columns >= WIDE)]
    return Group(*parts)


def sources_view(variants: Sequence[TableVariant]) -> Group:
    """Every source of these variants, what it is and its address; print it with `crop=False`: addresses stay whole."""
    sources = {
        publication.row.source: publication.source for variant in variants for publication in variant.publications
    }
    parts: list[RenderableType] = [Text("Sources:", style="bold")]
    for source in sources.values():
        parts.append(Padding(Text(f"{source.name}: {source.about}"), (0, 0, 0, 2)))
        parts.append(Text(f"    {source.address}", no_wrap=True, overflow="ignore"))
    return Group(*parts)


def _how_to_read(variants: Sequence[TableVariant]) -> Group:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text(f"  {AGREES_MARK}", style="green"), "the count here, rounded to the digits printed")
    other = "another figure: below the table stands the way of counting that gives it, or that none is known"
    grid.add_row(Text("  a", style="yellow"), other)
    if any(variant.weights for variant in variants):
        grid.add_row(Text(f"  {WEIGHTS_MARK}", style="cyan"), "published weights, which --weights imagenet fetches")
    about = "Published MobileNets: parameters and multiply-adds of one image, counted here and as sources print them."
    return Group(Text(about), grid)


class _Notes:
    """Letters for reasons, in the order they are first needed."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def letter(self, verdict: Verdict) -> str:
        """The letter of this verdict's reason."""
        reason = f"unexplained: {verdict.reason}" if verdict.key == UNEXPLAINED else verdict.reason
        return self._letters.setdefault(reason, ascii_lowercase[len(self._letters)])

    def add_to(self, grid: Table) -> None:
        """A line a reason, the longer ones indented."""
        for reason, letter in self._letters.items():
            grid.add_row(Text(f"  {letter}", style="yellow"), Text(reason))


def _network(network: str, variants: Sequence[TableVariant], *, wide: bool) -> list[RenderableType]:
    notes = _Notes()
    extras = _extras([publication.row for variant in variants for publication in variant.publications])
    table = _wide_table(network) if wide else plain_table(network)
    table.add_column("source" if wide else "width, size\n  source", min_width=_SOURCE_WIDTH)
    said = ("parameters\nprinted", "mult-adds\nprinted") if wide else ("\nparameters", "\nmult-adds")
    for heading in (*said, "top-1 (top-5)\n%", *extras):
        table.add_column(heading, justify="right", no_wrap=True)
    add = _add_wide if wide else _add_narrow
    for _, members in groupby(variants, key=_section):
        table.add_section()
        for variant in members:
            add(table, variant, [_cells(publication, extras, notes) for publication in variant.publications])
    below = Table.grid(padding=(0, 1))
    _add_weights(below, variants)
    notes.add_to(below)
    return [table, below] if below.rows else [table]


def _wide_table(network: str) -> Table:
    table = plain_table(network)
    for heading in ("width", "size\npx", "parameters\nhere", "mult-adds\nhere"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _add_wide(table: Table, variant: TableVariant, publications: Sequence[Sequence[Text]]) -> None:
    width = Text.assemble(_mark(variant), f" {variant.width_mult:g}")
    own: list[Text | str] = [width, f"{variant.image_size}", *_counts(variant)]
    for cells in publications:
        table.add_row(*own, *cells)
        own = [""] * len(own)  # once is enough


def _add_narrow(table: Table, variant: TableVariant, publications: Sequence[Sequence[Text]]) -> None:
    what = Text.assemble(f"{variant.width_mult:g}, {variant.image_size} px ", _mark(variant))
    table.add_row(what, *_counts(variant), style="bold")
    for cells in publications:
        table.add_row(Padding(cells[0], (0, 0, 0, 2)), *cells[1:])


def _section(variant: TableVariant) -> tuple[int, float]:
    """What stands together: the image sizes of a width, and of other data than ImageNet's the widths too."""
    return variant.num_classes, variant.width_mult if variant.num_classes == IMAGENET_CLASSES else 0


def _mark(variant: TableVariant) -> Text:
    return Text(WEIGHTS_MARK if variant.weights else "", style="cyan")


def _counts(variant: TableVariant) -> tuple[str, str]:
    return f"{variant.parameters:,}", "" if variant.macs is None else multiply_adds(variant.macs)


def _cells(publication: Publication, extras: _Extras, notes: _Notes) -> list[Text]:
    row = publication.row
    return [
        Text(_origin(publication)),
        _figure(row.parameters, publication.parameters, notes),
        _figure(row.macs, publication.macs, notes),
        Text(_accuracy(row)),
        *(Text(cell(row)) for cell in extras.values()),
    ]


def _figure(printed: PrintedFigure | None, verdict: Verdict | None, notes: _Notes) -> Text:
    if printed is None or verdict is None:
        return Text()
    if verdict.agrees:
        return Text.assemble(str(printed), (f" {AGREES_MARK}", "green"))
    return Text.assemble(str(printed), (f" {notes.letter(verdict)}", "yellow"))


def _origin(publication: Publication) -> str:
    row = publication.row
    other_data = "" if row.dataset == _IMAGENET else f"on {row.dataset}"
    return ", ".join(part for part in (publication.source.name, row.label, other_data) if part)


def _accuracy(row: PublishedRow) -> str:
    return f"{row.top1} ({row.top5})" if row.top5 else row.top1


def _extras(rows: Sequence[PublishedRow]) -> _Extras:
    """The columns that any of these rows fills: one of blanks says nothing."""
    extras: _Extras = {}
    if any(row.int8_top1 for row in rows):
        extras["8-bit\ntop-1 %"] = lambda row: row.int8_top1
    devices = Counter(row.latency_on for row in rows if row.latency_on)
    if devices:
        ((usual, _),) = devices.most_common(1)
        extras[f"ms on\n{usual}"] = lambda row: _latency(row, usual)
    return extras


def _latency(row: PublishedRow, usual: str) -> str:
    """Milliseconds, with the device where it is not the one that heads the column."""
    return row.latency_ms if row.latency_on == usual else f"{row.latency_ms} {row.latency_on}".strip()


def _add_weights(grid: Table, variants: Sequence[TableVariant]) -> None:
    """A line naming the file behind each mark."""
    for variant in variants:
        if variant.weights:
            words = f"--weights imagenet at width {variant.width_mult:g}: {variant.weights.file}"
            grid.add_row(Text(f"  {WEIGHTS_MARK}", style="cyan"), Text(words))


def _foreign_table(variants: Sequence[TableVariant], *, wide: bool) -> Table:
    """What each is has a column of its own, or in a narrow terminal a line below the name."""
    table = plain_table("published by others, not built here")
    for heading in ("network", "source"):
        table.add_column(heading)
    for heading in ("size px", "parameters", "mult-adds", "top-1 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    if wide:
        table.add_column("what it is")
    for variant in variants:
        for publication in variant.publications:
            row = publication.row
            figures = [Text("" if figure is None else str(figure)) for figure in (row.parameters, row.macs)]
            cells = [Text(_origin(publication)), Text(f"{variant.image_size}"), *figures, Text(_accuracy(row))]
            if wide:
                table.add_row(Text(variant.name), *cells, Text(row.note))
            else:
                table.add_row(Group(Text(variant.name), Padding(Text(row.note), (0, 0, 0, 2))), *cells)
    return table
