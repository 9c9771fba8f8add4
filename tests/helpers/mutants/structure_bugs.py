"""Mistakes in how many layers there are, how wide, how they are wired, and what the maps go through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .bug import ALL, BOTTLENECKS, LARGE, SMALL, V1, V2, V3, Bug, blocks_where, layers_where, spatial
from .plan import Block, Plan, Recipe, first_version_rows


def without_one_shortcut(plan: Plan) -> Plan:
    """The last shortcut taken out."""
    last = max(index for index, block in enumerate(plan.blocks) if block.shortcut == "identity")
    blocks = [replace(block, shortcut="none") if index == last else block for index, block in enumerate(plan.blocks)]
    return replace(plan, blocks=tuple(blocks))


def with_row(recipe: Recipe, index: int, **changes: int) -> Recipe:
    rows = list(recipe.rows)
    rows[index] = replace(rows[index], **changes)
    return replace(recipe, rows=tuple(rows))


def shift_stride(recipe: Recipe) -> Recipe:
    """The last stride-2 step but one made a stage later, as in several public V2s."""
    steps = [index for index, row in enumerate(recipe.rows) if row.stride == 2]
    index = steps[-2] if len(steps) > 1 else steps[-1]
    later = next(i for i in range(index + 1, len(recipe.rows)) if recipe.rows[i].out != recipe.rows[index].out)
    if recipe.rows[later].stride == 2:  # the next stage has its own step: half a stage later then
        later = index + 1
    return with_row(with_row(recipe, index, stride=1), later, stride=2)


def repeats(recipe: Recipe, extra: bool) -> Recipe:
    """A repeat of the widest stage of equal rows too many or too few."""
    equal = [i for i in range(1, len(recipe.rows)) if recipe.rows[i] == recipe.rows[i - 1]]
    index = equal[0]
    rows = list(recipe.rows)
    rows[index : index + 1] = [rows[index]] * 2 if extra else []
    return replace(recipe, rows=tuple(rows))


def expand_ratio(recipe: Recipe) -> Recipe:
    rows = [replace(row, hidden=row.wide_in * 4) if row.hidden > row.wide_in else row for row in recipe.rows]
    return replace(recipe, rows=tuple(rows))


def truncate(channels: float) -> int:
    return int(channels)


def nearest_without_ten_percent(channels: float) -> int:
    return max(8, int(channels + 4) // 8 * 8)


def pixel_bugs() -> Iterator[Bug]:
    """What the maps go through: strides, kernels, padding, pool."""
    yield Bug(
        "stride shifted",
        ("stride-shifted", "strides"),
        BOTTLENECKS,
        ("strides",),
        recipe=shift_stride,
        small=False,
        also=("shortcut-missing", "shortcut-extra"),
    )
    yield Bug(
        "last step doubled",
        ("strides", "stride-shifted"),
        (V1,),
        ("strides",),
        recipe=lambda r: with_row(r, len(r.rows) - 1, stride=2),
        small=False,
    )
    yield Bug(
        "1x1 last map",
        ("last-map-1x1",),
        ALL,
        ("strides", "size"),
        recipe=lambda r: replace(r, small=False),
        small=True,
        also=("shortcut-missing",),
    )
    yield Bug(
        "3x3 for 5x5",
        ("kernel",),
        V3,
        # Two of these in one network make it the authors' minimalistic form with a fault, rather than Large or Small.
        ("kernel", "minimal"),
        plan=layers_where(lambda layer: replace(layer, kernel=3), lambda layer, block: layer.kernel == 5),
    )
    yield Bug(
        "5x5 for 3x3",
        ("kernel",),
        (V1, V2),
        ("kernel",),
        plan=layers_where(lambda layer: replace(layer, kernel=5), spatial),
    )
    yield Bug(
        "SAME padding",
        ("same-padding",),
        ALL,
        ("padding",),
        note=True,
        fusible=True,
        plan=layers_where(
            lambda layer: replace(layer, padding="same"), lambda layer, block: layer.kernel > 1 and layer.stride > 1
        ),
    )
    yield Bug(
        "SAME in the stem only",
        ("padding", "same-padding"),
        ALL,
        ("padding",),
        small=False,
        plan=layers_where(lambda layer: replace(layer, padding="same"), lambda layer, block: block.role == "stem"),
    )
    yield Bug(
        "no padding in the stem",
        ("padding",),
        ALL,
        ("padding",),
        small=False,
        plan=layers_where(lambda layer: replace(layer, padding="valid"), lambda layer, block: block.role == "stem"),
    )
    yield Bug(
        "fixed pool", ("pooling-fixed",), ALL, ("pool",), plan=lambda p: replace(p, pool="fixed"), also=("fixed-size",)
    )
    yield Bug("max pool", ("pooling",), ALL, ("pool",), plan=lambda p: replace(p, pool="max"))
    yield Bug(
        "dense for depthwise",
        ("dense-for-depthwise",),
        ALL,
        ("grouping",),
        plan=layers_where(
            lambda layer: replace(layer, depthwise=False),
            lambda layer, block: spatial(layer, block) and layer.inputs < 200,
        ),
    )


def channel_bugs() -> Iterator[Bug]:
    """How wide and how many the layers are."""
    yield Bug(
        "expansion kept at t=1",
        ("expansion-kept",),
        BOTTLENECKS,
        ("first",),
        recipe=lambda r: replace(r, keep_expansion=True),
    )
    yield Bug("repeat missing", ("repeats",), ALL, ("rows",), recipe=lambda r: repeats(r, False))
    yield Bug("repeat too many", ("repeats",), ALL, ("rows",), recipe=lambda r: repeats(r, True))
    yield Bug(
        "channels truncated",
        ("rounding-missing",),
        BOTTLENECKS,
        ("width",),
        widths=(1.4, 0.75, 0.35),
        recipe=lambda r: replace(r, rounding=truncate),
        # Truncated, a width of the scaled table and one from the scaled input are the same number.
        also=("se-rounding", "se-width", "v3-scaled-table", "shortcut-missing", "shortcut-extra"),
    )
    yield Bug(
        "no 10 % rule",
        ("rounding-ten-percent",),
        (V2,),
        ("width",),
        widths=(0.35, 0.75),
        recipe=lambda r: replace(r, rounding=nearest_without_ten_percent),
        # Where two widths become equal, a shortcut comes.
        also=("shortcut-missing", "shortcut-extra"),
    )
    yield Bug(
        "hidden from output",
        ("hidden-from-output",),
        (V2,),
        ("hidden", "width"),
        recipe=lambda r: replace(r, hidden_from="output"),
    )
    yield Bug("ratio 4 for 6", ("expand-ratio",), (V2,), ("hidden", "width"), recipe=expand_ratio)
    yield Bug(
        "exp sizes scaled",
        ("v3-scaled-table",),
        V3,
        ("hidden", "width"),
        widths=(0.75,),
        recipe=lambda r: replace(r, hidden_from="table"),
        also=("se-width",),
    )
    yield Bug(
        "head scaled down",
        ("head-scaled",),
        BOTTLENECKS,
        ("head", "width"),
        widths=(0.75, 0.5, 0.35),
        recipe=lambda r: replace(r, head_scaling="always"),
    )
    yield Bug(
        "head not scaled up",
        ("head-not-scaled",),
        (V2,),
        ("head", "width"),
        widths=(1.4,),
        recipe=lambda r: replace(r, head_scaling="never"),
    )
    yield Bug("head 1280 in Small", ("head-width",), (SMALL,), ("head",), recipe=lambda r: replace(r, penultimate=1280))
    yield Bug(
        "rows of the first version",
        ("v3-first-version",),
        (LARGE,),
        ("rows", "strides"),
        widths=(1.0,),
        recipe=lambda r: replace(r, rows=first_version_rows()),
    )
    yield Bug(
        "1001 outputs", ("classes-1001",), ALL, ("classes",), note=True, recipe=lambda r: replace(r, classes=1001)
    )


def shortcut_bugs() -> Iterator[Bug]:
    """What is added, and where."""

    def as_kind(kind: str, wanted: Callable[[Block], bool]) -> Callable[[Plan], Plan]:
        return blocks_where(lambda block: replace(block, shortcut=kind), wanted)

    def has(block: Block) -> bool:
        return block.shortcut == "identity"

    def wider(block: Block) -> bool:
        return block.stride == 1 and block.outputs > block.inputs

    yield Bug("no shortcuts", ("shortcut-missing",), BOTTLENECKS, ("shortcut",), plan=as_kind("none", has))
    yield Bug("one shortcut missing", ("shortcut-missing",), BOTTLENECKS, ("shortcut",), plan=without_one_shortcut)
    yield Bug(
        "shortcut on stride alone",
        ("shortcut-projected",),
        BOTTLENECKS,
        ("shortcut",),
        plan=as_kind("projected", lambda block: block.stride == 1 and block.outputs != block.inputs),
    )
    yield Bug(
        "shortcut around stride 2",
        ("shortcut-downsampled", "shortcut-projected"),
        BOTTLENECKS,
        ("shortcut",),
        plan=as_kind("projected", lambda block: block.stride == 2),
    )
    yield Bug(
        "shortcut on channels alone",
        ("shortcut-downsampled",),
        (SMALL,),
        ("shortcut",),
        small=False,
        plan=as_kind("pooled", lambda block: block.stride == 2 and block.inputs == block.outputs),
    )
    yield Bug("shortcut padded", ("shortcut-padded",), BOTTLENECKS, ("shortcut",), plan=as_kind("padded", wider))
    yield Bug(
        "shortcut halved",
        ("shortcut-scaled", "dead-shortcut"),
        BOTTLENECKS,
        ("shortcut",),
        plan=as_kind("half", has),
        also=("dead-shortcut", "shortcut-scaled"),
    )
    yield Bug(
        "shortcut in V1",
        ("shortcut-extra",),
        (V1,),
        ("shortcut",),
        plan=as_kind("identity", lambda block: block.stride == 1 and block.inputs == block.outputs),
    )
    yield Bug(
        "activation after the sum",
        ("shortcut-activation", "bottleneck-activation"),
        BOTTLENECKS,
        ("shortcut", "bottleneck"),
        plan=blocks_where(lambda block: replace(block, act_after="relu"), has),
        also=("bottleneck-activation",),
    )
