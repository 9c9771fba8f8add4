"""Which row of which table of the papers a layer comes from, in words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mobilenets.models import mobilenet_v1, mobilenet_v2, mobilenet_v3, mobilenet_v4_tables


@dataclass(frozen=True)
class TableRow:
    """A block's row in words, and the ratio it widens by: the table's t, exp size over input; 0 where none is."""

    words: str
    expand_ratio: float


@dataclass(frozen=True)
class Paper:
    """A network's table: `name` for people, a row for each block in order, and the rows around the blocks."""

    name: str
    rows: tuple[TableRow, ...]
    stem: str
    head: str
    penultimate: str
    classifier: str

    def source(self, block: int, part: str) -> str:
        """The table and row of a layer, e.g. `arXiv 1801.04381, table 2: t=6, c=24, n=2, s=2`."""
        around = {
            "stem": self.stem,
            "head": self.head,
            "penultimate": self.penultimate,
            "classifier": self.classifier,
        }
        words = self.rows[block - 1].words if 0 < block <= len(self.rows) else around.get(part, "")
        return f"{self.name}: {words}" if words else self.name

    def expand_ratio(self, block: int) -> float:
        """The row's ratio; 0 outside the blocks."""
        return self.rows[block - 1].expand_ratio if 0 < block <= len(self.rows) else 0.0


def paper(name: str) -> Paper | None:
    """The table of a registered network; None for one that is not from the papers."""
    return _PAPERS.get(name)


def _v1() -> Paper:
    rows = [
        TableRow(
            f"Conv dw / s{row.stride}, 3x3x{row.in_channels}; Conv / s1, 1x1x{row.in_channels}x{row.out_channels}", 0.0
        )
        for row in mobilenet_v1.ROWS
    ]
    rows[-1] = replace(rows[-1], words=f"{rows[-1].words} (printed s2, a misprint: the next row's input is 7x7)")
    stem = f"Conv / s{mobilenet_v1.STEM_STRIDE}, 3x3x3x{mobilenet_v1.STEM_CHANNELS}"
    return Paper("arXiv 1704.04861, table 1", tuple(rows), stem, "", "", "FC / s1")


def _v2() -> Paper:
    rows = [
        TableRow(f"t={row.expand_ratio}, c={row.out_channels}, n={row.repeats}, s={row.stride}", row.expand_ratio)
        for row in mobilenet_v2.ROWS
        for _ in range(row.repeats)
    ]
    stem = f"conv2d, c={mobilenet_v2.STEM_CHANNELS}, s={mobilenet_v2.STEM_STRIDE}"
    head = f"conv2d 1x1, c={mobilenet_v2.HEAD_CHANNELS}"
    return Paper("arXiv 1801.04381, table 2", tuple(rows), stem, head, "", "conv2d 1x1, c=k")


def _v3(table: mobilenet_v3.V3Table, number: int, note: str) -> Paper:
    rows = [_bneck(row) for row in table.rows]
    nonlinearity = _nonlinearity(table.activation)
    return Paper(
        f"arXiv 1905.02244, table {number}{note}",
        tuple(rows),
        f"conv2d 3x3, #out {table.rows[0].in_channels}, {nonlinearity}, s={mobilenet_v3.STEM_STRIDE}",
        f"conv2d 1x1, #out {table.head_channels}, {nonlinearity}",
        f"conv2d 1x1, NBN, #out {table.penultimate_channels}, {nonlinearity}",
        "conv2d 1x1, NBN, #out k",
    )


def _bneck(row: mobilenet_v3.BneckRow) -> TableRow:
    squeeze = ", SE" if row.squeeze_excite else ""
    words = (
        f"bneck {row.kernel}x{row.kernel}, exp size {row.expansion}, #out {row.out_channels}{squeeze}, "
        f"{_nonlinearity(row.activation)}, s={row.stride}"
    )
    return TableRow(words, row.expansion / row.in_channels)


def _nonlinearity(activation: object) -> str:
    return "HS" if activation is mobilenet_v3.HS else "RE"


def _v4(table: mobilenet_v4_tables.V4Table) -> Paper:
    return Paper(
        f"arXiv 2404.10518, appendix, {table.name.removeprefix('mobilenet_v4_')} table",
        tuple(_v4_row(row) for row in table.rows),
        f"Conv2D 3x3, {table.rows[0].in_channels}, s=2",
        "Conv2D 1x1, 960",
        "Conv2D 1x1 after the pool, 1280",
        "Conv2D 1x1, classes",
    )


def _v4_row(row: mobilenet_v4_tables.V4Row) -> TableRow:
    match row:
        case mobilenet_v4_tables.ConvRow():
            return TableRow(f"Conv2D {row.kernel}x{row.kernel}, {row.out_channels}, s={row.stride}", 0.0)
        case mobilenet_v4_tables.FusedIBRow():
            sizes = f"expanded {row.hidden_channels}, {row.out_channels}, s={row.stride}"
            return TableRow(f"FusedIB {row.kernel}x{row.kernel}, {sizes}", row.hidden_channels / row.in_channels)
        case mobilenet_v4_tables.MobileMQARow():
            return TableRow(f"Mobile-MQA, {row.heads} heads of {row.head_channels}, {row.out_channels}", 0.0)
    kernels = ", ".join(
        f"DW K{place} {kernel}x{kernel}"
        for place, kernel in ((1, row.start_kernel), (2, row.middle_kernel))
        if kernel is not None
    )
    words = f"{row.block}, {kernels or 'no DW'}, expanded {row.hidden_channels}, {row.out_channels}, s={row.stride}"
    return TableRow(words, row.hidden_channels / row.in_channels)


_MINIMALISTIC = " without SE, h-swish and 5x5 (the authors' minimalistic form)"
_PAPERS = {
    "mobilenet_v1": _v1(),
    "mobilenet_v2": _v2(),
    mobilenet_v3.LARGE.name: _v3(mobilenet_v3.LARGE, 1, ""),
    mobilenet_v3.SMALL.name: _v3(mobilenet_v3.SMALL, 2, ""),
    mobilenet_v3.LARGE_MINIMALISTIC.name: _v3(mobilenet_v3.LARGE_MINIMALISTIC, 1, _MINIMALISTIC),
    mobilenet_v3.SMALL_MINIMALISTIC.name: _v3(mobilenet_v3.SMALL_MINIMALISTIC, 2, _MINIMALISTIC),
    **{
        table.name: _v4(table)
        for table in (
            mobilenet_v4_tables.CONV_SMALL,
            mobilenet_v4_tables.CONV_MEDIUM,
            mobilenet_v4_tables.CONV_LARGE,
            mobilenet_v4_tables.HYBRID_MEDIUM,
            mobilenet_v4_tables.HYBRID_LARGE,
        )
    },
}
