"""A `NetworkCount` as plain text: layers by block, totals, and what separable convolutions save."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from mobilenets.auditing.count import LayerCount, NetworkCount, SeparablePair
from mobilenets.formatting import mebibytes, multiply_adds

Row = tuple[str, ...]

_KIB = 1024
_LAYER_HEADER: Row = ("layer", "output shape", "parameters", "multiply-adds", "activation KiB")
_PAIR_HEADER: Row = ("separable pair", "kernel", "channels", "multiply-adds", "standard", "times cheaper")


def summary_text(count: NetworkCount, title: str, notes: Sequence[str] = ()) -> str:
    """The whole summary, lines separated by newlines, none at the end.

    Args:
        count: what to show.
        title: the first line, e.g. the network's name and width.
        notes: sentences to go below it.
    """
    sections = [title, *(f"note: {note}" for note in notes), "", *_layer_table(count), "", *_totals(count)]
    if count.separable_pairs:
        sections += ["", *_pair_table(count), "", *_standard(count)]
    return "\n".join(sections)


def _layer_table(count: NetworkCount) -> list[str]:
    rows: list[Row] = []
    for block, members in groupby(count.layers, key=lambda layer: _block(layer.path)):
        layers = list(members)
        if [layer.path for layer in layers] == [block]:
            rows.append(_layer_row(layers[0], block or "(the network)"))
            continue
        rows.append((block,))
        rows += [_layer_row(layer, "  " + (layer.path[len(block) + 1 :] or "(itself)")) for layer in layers]
    total = ("total", "", f"{count.parameters:,}", f"{count.macs:,}", _kib(count.activation_bytes))
    return _table(_LAYER_HEADER, rows, total, left=2)


def _block(path: str) -> str:
    """The part of a dotted path that names its block: `blocks.3` of `blocks.3.expand.conv`, `stem` of `stem.conv`.

    Names of a file's operators and tensors, which hold slashes, name none but themselves.
    """
    if "/" in path:
        return path
    parts = path.split(".")
    depth = 2 if len(parts) > 1 and parts[1].isdigit() else 1
    return ".".join(parts[:depth])


def _layer_row(layer: LayerCount, label: str) -> Row:
    shape = " x ".join(map(str, layer.output_shape[1:])) if layer.calls else "not run"
    times = f" ({layer.calls} runs)" if layer.calls > 1 else ""
    numbers = (f"{layer.parameters:,}", f"{layer.macs:,}", _kib(layer.activation_bytes))
    return (label, shape + times, *numbers)


def _totals(count: NetworkCount) -> list[str]:
    where = f" (at {count.peak_layer})" if count.peak_layer else ""
    return [
        f"input              {' x '.join(map(str, count.input_shape))}, float32",
        f"parameters         {count.parameters:,} ({mebibytes(4 * count.parameters)} in float32)",
        f"multiply-adds      {multiply_adds(count.macs)}",
        f"activations        {mebibytes(count.activation_bytes)} filled in all",
        f"peak activations   {mebibytes(count.peak_activation_bytes)} at once{where}",
    ]


def _pair_table(count: NetworkCount) -> list[str]:
    return _table(_PAIR_HEADER, [_pair_row(pair) for pair in count.separable_pairs], None, left=1)


def _pair_row(pair: SeparablePair) -> Row:
    return (
        _common_path(pair.depthwise, pair.pointwise),
        " x ".join(map(str, pair.kernel)),
        f"{pair.in_channels:,} -> {pair.out_channels:,}",
        f"{pair.macs:,}",
        f"{pair.standard_macs:,}",
        f"{1 / pair.ratio:.1f}",
    )


def _common_path(first: str, second: str) -> str:
    """The block two layers share, or both their paths."""
    shared = []
    for one, other in zip(first.split("."), second.split("."), strict=False):
        if one != other:
            break
        shared.append(one)
    return ".".join(shared) or f"{first}, {second}"


def _standard(count: NetworkCount) -> list[str]:
    cheaper = count.standard_macs / count.macs
    smaller = count.standard_parameters / count.parameters
    return [
        f"with standard convolutions: {count.standard_parameters:,} parameters, {multiply_adds(count.standard_macs)} "
        "multiply-adds",
        f"as it is: {cheaper:.1f} times fewer multiply-adds, {smaller:.1f} times fewer parameters",
    ]


def _table(header: Row, rows: Sequence[Row], total: Row | None, *, left: int) -> list[str]:
    """Align rows under their header: the first `left` columns to the left, the others to the right.

    A row with fewer cells than the header (a block's name) leaves the rest blank.
    """
    everything = [header, *rows, *([total] if total else [])]
    widths = [
        max((len(row[column]) for row in everything if column < len(row)), default=0) for column in range(len(header))
    ]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    body = [_line(row, widths, left) for row in rows]
    return [_line(header, widths, left), rule, *body, *([rule, _line(total, widths, left)] if total else [])]


def _line(row: Row, widths: Iterable[int], left: int) -> str:
    cells = [
        cell.ljust(width) if column < left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=False))
    ]
    return "  ".join(cells).rstrip()


def _kib(size: int) -> str:
    return f"{size / _KIB:,.1f}"
