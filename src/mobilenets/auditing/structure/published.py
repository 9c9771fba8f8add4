"""The published networks as references: the chain each folds into, and the table row of every layer."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from mobilenets.auditing.structure.layers import Chain, ChainLayer, Pooling, Reference, TablePlace
from mobilenets.auditing.structure.network_chain import PlacedLayer, placed_layers
from mobilenets.auditing.structure.variants import VARIANTS, apply_variant, catalogue, counted
from mobilenets.errors import AuditError
from mobilenets.models import mobilenet_v1, mobilenet_v2, mobilenet_v3, mobilenet_v4_tables
from mobilenets.models.config import OptionValue
from mobilenets.models.network import MobileNet
from mobilenets.models.registry import create_model, list_models

# Which row of which table of the papers a layer comes from, in words.


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


IMAGENET_SIZE = 224
SMALL_SIZE = 32
"""Side of the images of CIFAR, for which the first two strides of 2 become 1."""

_Options = tuple[tuple[str, OptionValue], ...]


def reference(
    name: str,
    *,
    width_mult: float = 1.0,
    image_size: int = IMAGENET_SIZE,
    num_classes: int = 1000,
    in_channels: int = 3,
    imagenet_strides: bool | None = None,
    **options: OptionValue,
) -> Reference:
    """A published network, or a known variant, as a chain of layers with their places.

    Args:
        name: a registered name, or one of `variants.VARIANTS`.
        width_mult: factor on the channels.
        image_size: side of the images in pixels.
        num_classes: outputs of the classifier.
        in_channels: channels of the images.
        imagenet_strides: the table's strides whatever the images (True), those for small images (False), or what
            `create_model` plans for this size (None).
        **options: of `create_model` that only this network has; `dropout` too.

    Raises:
        AuditError: there is no network of that name; the message suggests one.
        ModelError: an argument is not valid.
    """
    plan_size = _plan_size(image_size, imagenet_strides)
    return _reference(
        name, float(width_mult), image_size, num_classes, in_channels, plan_size, tuple(sorted(options.items()))
    )


def without_paths(chain: Chain) -> Chain:
    """The chain with every path empty: what two networks have in common, however their code is cut into modules."""
    bare: Chain = _bare(chain)
    return bare


def _bare(value: Any) -> Any:
    """A record with its `path` emptied, and those within it."""
    if isinstance(value, tuple):
        return tuple(_bare(item) for item in value)
    if not hasattr(value, "__dataclass_fields__"):
        return value
    fields = {key: _bare(getattr(value, key)) for key in value.__dataclass_fields__}
    if "path" in fields:
        fields["path"] = ""
    return type(value)(**fields)


def _plan_size(image_size: int, imagenet_strides: bool | None) -> int:
    if imagenet_strides is None:
        return image_size
    return max(IMAGENET_SIZE, image_size) if imagenet_strides else min(SMALL_SIZE, image_size)


@lru_cache(maxsize=1024)
def _reference(
    name: str,
    width_mult: float,
    image_size: int,
    num_classes: int,
    in_channels: int,
    plan_size: int,
    options: _Options,
) -> Reference:
    variant = VARIANTS.get(name)
    if variant is not None:
        base = _reference(variant.base, width_mult, image_size, num_classes, in_channels, plan_size, options)
        return apply_variant(name, variant, base)
    if name not in list_models():
        raise AuditError(_unknown(name))
    model = _model(name, width_mult, in_channels, plan_size, options)
    placed = placed_layers(model, image_size)
    layers = (*(one.layer for one in placed[:-1]), _with_classes(placed[-1].layer, num_classes))
    return Reference(
        name=name,
        width_mult=width_mult,
        options=options,
        small_input=math.prod(layer.stride for layer in layers) < _reduction(name),
        chain=_chain(layers, model, in_channels, image_size),
        places=_places(name, placed),
    )


def _with_classes(classifier: ChainLayer, num_classes: int) -> ChainLayer:
    return ChainLayer(num_classes, bias=classifier.bias, pooled=True)


def _chain(layers: Sequence[ChainLayer], model: MobileNet, in_channels: int, image_size: int) -> Chain:
    """The chain, with the multiply-adds at this size and the network's own parameters at this number of classes."""
    map_size = image_size
    for layer in layers:
        map_size = map_size if layer.pooled else -(-map_size // layer.stride)
    chain = Chain(
        layers=tuple(layers),
        in_channels=in_channels,
        image_size=image_size,
        pooling=Pooling("global", map_size),
        dropout=model.dropout.p,
        drop_path=0.0,
        final="none",
        parameters=0,
        macs=0,
    )
    return counted(chain)


def _places(name: str, placed: Sequence[PlacedLayer]) -> tuple[TablePlace, ...]:
    table = paper(name)
    if table is None:
        return tuple(TablePlace(one.block, one.part, f"the network {name}", one.in_channels) for one in placed)
    return tuple(
        TablePlace(
            one.block, one.part, table.source(one.block, one.part), one.in_channels, table.expand_ratio(one.block)
        )
        for one in placed
    )


@lru_cache(maxsize=256)
def _model(name: str, width_mult: float, in_channels: int, plan_size: int, options: _Options) -> MobileNet:
    """The network without weights: its classifier's outputs are replaced later, so that one serves all class counts."""
    given: dict[str, Any] = dict(options)
    with _WithoutWeights():
        model: MobileNet = create_model(
            name, width_mult=width_mult, in_channels=in_channels, image_size=plan_size, **given
        )
    return model


class _WithoutWeights(TorchFunctionMode):
    """Builds modules on PyTorch's meta device and leaves out their initialisation, most of the time building takes."""

    _factories = (torch.empty, torch.ones, torch.zeros, torch.tensor)

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Make new tensors on the meta device; let functions that fill a tensor in place do nothing."""
        given = kwargs or {}
        if func in self._factories:
            return func(*args, **{**given, "device": "meta"})
        name: str = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):
            return args[0] if args else given["tensor"]
        return func(*args, **given)


@lru_cache(maxsize=64)
def _reduction(name: str) -> int:
    """How much smaller than the image the table's last map is, on each side."""
    model = _model(name, 1.0, 3, IMAGENET_SIZE, ())
    return math.prod(placed.layer.stride for placed in placed_layers(model, IMAGENET_SIZE))


def _unknown(name: str) -> str:
    names = tuple(catalogue())
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(names)}"
    return f"there is no published network {name!r}: {hint}"
