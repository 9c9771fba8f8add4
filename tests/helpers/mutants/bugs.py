"""The silent mistakes: here those in what hangs on a layer and in behaviour; `structure_bugs` has the others.

An edit changes a recipe (what the programmer decided) or a plan (what the layers became). `touches` names what a bug
works on, so that several can be put into one network without undoing each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .bug import ALL, BOTTLENECKS, V1, V2, V3, Bug, every, layers_where, linear, spatial
from .plan import Block, Conv, Plan, Squeeze, edit_blocks, edit_layers
from .structure_bugs import channel_bugs, pixel_bugs, shortcut_bugs, truncate


def squeeze_edit(plan: Plan, change: Callable[[Squeeze], Squeeze | None]) -> Plan:
    def edit(layer: Conv, block: Block) -> Conv:
        return layer if layer.squeeze is None else replace(layer, squeeze=change(layer.squeeze))

    return edit_layers(plan, edit)


def squeeze_on_project(plan: Plan) -> Plan:
    """Attention on the block's output instead of on the filter's."""

    def move(block: Block) -> Block:
        squeezes = [layer.squeeze for layer in block.layers if layer.squeeze]
        if not squeezes:
            return block
        bare = [replace(layer, squeeze=None) for layer in block.layers]
        return replace(block, layers=(*bare[:-1], replace(bare[-1], squeeze=squeezes[0])))

    return edit_blocks(plan, move)


def activation_bugs() -> Iterator[Bug]:
    """Functions of one value, and attention."""

    def swap(before: str, after: str) -> Callable[[Plan], Plan]:
        def top(plan: Plan) -> Plan:
            return replace(plan, top=tuple(replace(one, act=after) if one.act == before else one for one in plan.top))

        change = layers_where(lambda layer: replace(layer, act=after), lambda layer, block: layer.act == before)
        return lambda plan: top(change(plan))

    def gate(name: str) -> Callable[[Plan], Plan]:
        return lambda plan: squeeze_edit(plan, lambda squeeze: replace(squeeze, gate=name))

    def act(name: str) -> Callable[[Conv], Conv]:
        return lambda layer: replace(layer, act=name)

    yield Bug(
        "bottleneck not linear",
        ("bottleneck-activation",),
        (V2,),
        ("bottleneck",),
        plan=layers_where(act("relu6"), linear),
    )
    yield Bug(
        "bottleneck not linear", ("bottleneck-activation",), V3, ("bottleneck",), plan=layers_where(act("relu"), linear)
    )
    yield Bug(
        "no activation behind the filter",
        ("activation-missing",),
        ALL,
        # With it gone, neither "before it" nor "where there is none" means anything.
        ("act", "bottleneck", "squeeze"),
        plan=layers_where(act("none"), spatial),
    )
    yield Bug("ReLU for ReLU6", ("relu-for-relu6",), (V2,), ("act",), plan=swap("relu6", "relu"))
    yield Bug("ReLU6 for ReLU", ("relu6-for-relu",), V3, ("act",), plan=swap("relu", "relu6"))
    yield Bug("V1 with ReLU6", ("v1-relu6",), (V1,), ("act",), plan=swap("relu", "relu6"), note=True)
    yield Bug("swish for h-swish", ("hard-swish-variant", "activation"), V3, ("act",), plan=swap("hard_swish", "swish"))
    yield Bug(
        "ReLU for h-swish",
        ("hard-swish-variant", "activation"),
        V3,
        ("act", "minimal"),
        plan=swap("hard_swish", "relu"),
    )
    yield Bug("sigmoid gate", ("hard-sigmoid-variant",), V3, ("gate",), plan=gate("sigmoid"))
    yield Bug("(x+1)/2 gate", ("hard-sigmoid-variant",), V3, ("gate",), plan=gate("hard_sigmoid_half"))
    yield Bug(
        "no SE",
        ("se-missing",),
        V3,
        ("squeeze", "gate", "minimal"),
        plan=lambda p: squeeze_edit(p, lambda squeeze: None),
    )
    yield Bug(
        "SE before the activation",
        ("se-place",),
        V3,
        ("squeeze",),
        plan=lambda p: squeeze_edit(p, lambda squeeze: replace(squeeze, place="before")),
    )
    yield Bug(
        "SE behind the projection",
        ("se-place",),
        V3,
        ("squeeze",),
        plan=squeeze_on_project,
        also=("se-width", "se-missing", "se-extra"),
    )
    yield Bug(
        "SE unrounded",
        ("se-rounding",),
        V3,
        ("squeeze", "width"),
        recipe=lambda r: replace(r, squeeze_rounding=truncate),
    )
    yield Bug(
        "SE from the block's input",
        ("se-width",),
        V3,
        ("squeeze", "width"),
        recipe=lambda r: replace(r, squeeze_from="input"),
    )


def norm_bugs() -> Iterator[Bug]:
    """Batch norm and bias."""

    def bottleneck_conv(layer: Conv, block: Block) -> bool:
        return block.role == "block"

    yield Bug(
        "bias beside norm",
        ("bias-with-norm",),
        ALL,
        ("bias",),
        fusible=False,
        plan=every(lambda c: replace(c, bias=True)),
    )
    yield Bug(
        "bias beside one norm",
        ("bias-with-norm",),
        ALL,
        ("bias",),
        fusible=False,
        plan=layers_where(lambda c: replace(c, bias=True), lambda layer, block: block.role == "stem"),
    )
    yield Bug(
        "norm missing behind the filter",
        ("norm-missing",),
        ALL,
        ("norms",),
        fusible=False,
        plan=layers_where(lambda c: replace(c, norms=0), spatial),
    )
    yield Bug(
        "norm doubled",
        ("norm-doubled",),
        ALL,
        ("norms",),
        fusible=False,
        plan=layers_where(
            lambda c: replace(c, norms=2), lambda layer, block: layer.kernel == 1 and bottleneck_conv(layer, block)
        ),
    )
    yield Bug(
        "norm behind V3's linear",
        ("norm-extra", "norm-doubled"),
        V3,
        ("top",),
        fusible=False,
        plan=lambda p: replace(p, top=(replace(p.top[0], norms=1), *p.top[1:])),
        also=("bias-with-norm",),
    )
    yield Bug("eps 0.1", ("norm-eps",), ALL, ("eps",), fusible=False, recipe=lambda r: replace(r, eps=0.1))
    yield Bug(
        "eps of another paper",
        ("norm-eps",),
        (V1, V2),
        ("eps",),
        fusible=False,
        note=True,
        recipe=lambda r: replace(r, eps=1e-3),
    )
    yield Bug(
        "momentum 0.99",
        ("norm-momentum",),
        ALL,
        ("momentum",),
        fusible=False,
        recipe=lambda r: replace(r, momentum=0.99),
    )
    yield Bug(
        "momentum 0",
        ("norm-momentum", "frozen-norms"),
        ALL,
        ("momentum",),
        fusible=False,
        recipe=lambda r: replace(r, momentum=0.0),
        also=("frozen-norms", "norm-momentum"),
    )


def behaviour_bugs() -> Iterator[Bug]:
    """What only running it shows, and what belongs to no layer."""
    runs = ("varies", "depends-on-batch", "left-in-training")
    yield Bug(
        "eval() ignored",
        ("left-in-training",),
        ALL,
        ("mode",),
        fusible=False,
        also=runs,
        plan=lambda p: replace(p, stuck_in_training=True),
    )
    yield Bug(
        "dropout always on",
        ("left-in-training", "varies"),
        BOTTLENECKS,
        ("mode", "dropout"),
        also=runs,
        plan=lambda p: replace(p, dropout=0.5, dropout_always=True),
    )
    yield Bug(
        "batch statistics in use",
        ("depends-on-batch", "left-in-training"),
        ALL,
        ("mode", "momentum"),
        fusible=False,
        also=(*runs, "frozen-norms"),
        plan=lambda p: replace(p, batch_statistics=True),
    )
    yield Bug(
        "another dropout", ("dropout",), BOTTLENECKS, ("dropout",), note=True, plan=lambda p: replace(p, dropout=0.5)
    )
    yield Bug("unused parameters", ("unused-parameters",), ALL, ("unused",), plan=lambda p: replace(p, unused=64))
    yield Bug(
        "softmax in the network", ("final-activation",), ALL, ("final",), plan=lambda p: replace(p, final="softmax")
    )


BUGS = (*pixel_bugs(), *channel_bugs(), *shortcut_bugs(), *activation_bugs(), *norm_bugs(), *behaviour_bugs())
