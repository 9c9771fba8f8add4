"""The network's own: pooling, classes, image channels, dropout, what follows the classifier, which variant it is."""

from __future__ import annotations

from mobilenets.auditing.rules.context import Diagnostic, Item, RuleContext
from mobilenets.auditing.rules.registry import (
    ERROR,
    LOADS,
    NOTE,
    OTHER_SHAPES,
    PAPER,
    Aspect,
    check,
    diagnostic,
    name_of,
    plain,
    rule,
)
from mobilenets.models.network import MIN_FEATURE_SIZE

IMAGENET_CLASSES = 1000
POOLING_EFFECTS = {
    "flatten": OTHER_SHAPES,
    "max": LOADS + "the classifier was trained on means",
}


@check(Aspect.POOLING, reads=("pooling",))
@rule(
    "pooling-fixed",
    ERROR,
    "a pool over a window of fixed size; a note in a file",
    source=PAPER,
    effect="images of another size fail, or are pooled in pieces",
    fix="use nn.AdaptiveAvgPool2d(1), or x.mean((2, 3))",
)
@rule(
    "pooling",
    ERROR,
    "another pool than the mean of the last map, or none",
    source=PAPER,
    effect="the classifier was trained on means",
    fix="use nn.AdaptiveAvgPool2d(1), or x.mean((2, 3))",
)
def pooling(context: RuleContext) -> list[Diagnostic]:
    """How the last map becomes a vector."""
    items = context.own("pooling")
    if not items:
        return []
    found = context.found.pooling
    pooled = [item for item in context.items("pooled") if item.both]
    where = (found.path or "the pool in forward",)
    words = {
        "fixed": f"a window of {found.map_size}x{found.map_size} fixed in the code",
        "flatten": f"none: the classifier has a weight for every place of the {found.map_size}x{found.map_size} map",
        "max": "a maximum over the map",
    }
    fixed = found.kind == "fixed"
    return [
        diagnostic(
            context,
            "pooling-fixed" if fixed else "pooling",
            items,
            follows=[] if fixed else pooled,
            severity=NOTE if fixed and context.is_file else None,
            expected="a global average pool",
            found=words.get(found.kind, found.kind),
            effect=POOLING_EFFECTS.get(found.kind),
            where=where,
        )
    ]


@check(Aspect.CLASSIFIER, reads=("layer",))
@rule(
    "no-classifier",
    NOTE,
    "a network that ends with its features: a backbone",
    source=PAPER,
    effect="there are no class scores",
    fix="nothing for a backbone; a classifier needs the published head",
)
def no_classifier(context: RuleContext) -> list[Diagnostic]:
    """A network that ends with its features: a backbone, with or without the pool."""
    behind = [item for item in context.items("layer") if item.slot and item.slot.found is None]
    behind = [item for item in behind if item.part in ("head", "penultimate", "classifier")]
    if context.found.num_classes is not None or not any(item.part == "classifier" for item in behind):
        return []
    pooled = context.found.pooling.kind != "other"
    return [
        diagnostic(
            context,
            "no-classifier",
            behind,
            follows=[*([] if pooled else context.own("pooling")), *context.own("dropout")],
            expected="a global average pool and a classifier",
            found=f"the answer is the last features{', pooled' if pooled else ''}: "
            f"{context.found.layers[-1].out_channels:,} channels",
        )
    ]


@check(Aspect.CLASSIFIER)
@rule(
    "classes-1001",
    NOTE,
    "1,001 outputs: ImageNet's classes behind one for the background",
    source="TF-slim's released ImageNet networks",
    effect="with 1,000-class label files every answer is off by one",
    fix="drop output 0, or use labels with the background in front",
)
@rule(
    "classes",
    NOTE,
    "another number of classes than ImageNet's 1,000",
    source=PAPER,
    effect="the published classifier does not fit; the other layers do",
    fix="nothing; the published count is taken with as many",
)
def classes(context: RuleContext) -> list[Diagnostic]:
    """Another number of outputs; 1001 have the background in front."""
    items = [item for item in context.items("out_channels") if item.both and item.part == "classifier"]
    count = context.found.num_classes
    if count is None:
        return []
    if count == IMAGENET_CLASSES + 1:
        return [
            diagnostic(
                context,
                "classes-1001",
                items,
                expected="1,000 classes of ImageNet",
                found="1,001 outputs: index 0 is the background, every class is one further",
            )
        ]
    if not items and count == IMAGENET_CLASSES:
        return []
    return [
        diagnostic(
            context,
            "classes",
            items,
            expected="1,000",
            found=f"{count:,}",
        )
    ]


@check(Aspect.OUTPUT, reads=("in_channels", "dropout", "drop_path"))
@rule(
    "image-channels",
    NOTE,
    "images of another number of channels than three",
    source=PAPER,
    effect="the published stem does not fit",
    fix="nothing, if your images have as many",
)
@rule(
    "dropout",
    NOTE,
    "another dropout rate, or dropout at another place",
    source="the authors' training code",
    effect="it changes training only",
    fix="nothing; it acts in training only",
)
@rule(
    "drop-path",
    NOTE,
    "another rate of stochastic depth",
    source="the authors' training code",
    effect="it changes training only",
    fix="nothing; it acts in training only",
)
def small_things(context: RuleContext) -> list[Diagnostic]:
    """Image channels, dropout and stochastic depth: choices, not mistakes."""
    rules = {
        "in_channels": ("image-channels", "image channels"),
        "dropout": ("dropout", "rate"),
        "drop_path": ("drop-path", "rate"),
    }
    diagnostics = []
    for item in context.own(*rules):
        name, what = rules[item.difference.attribute]
        diagnostics.append(
            diagnostic(
                context,
                name,
                [item],
                expected=f"{what} {_number(item.difference.expected)}",
                found=f"{what} {_number(item.difference.found)}",
            )
        )
    return diagnostics


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else plain(value)


@check(Aspect.OUTPUT, reads=("final",))
@rule(
    "final-activation",
    ERROR,
    "a function behind the classifier; a note in a file, and where it is log softmax",
    source=PAPER,
    effect="cross-entropy losses take logits: an activation here squashes them twice",
    fix="return the logits",
)
def final(context: RuleContext) -> list[Diagnostic]:
    """A function behind the classifier: right in a file that answers in probabilities, wrong in a module to train."""
    items = context.own("final")
    return [_final(context, item) for item in items]


def _final(context: RuleContext, item: Item) -> Diagnostic:
    if item.difference.found == "log_softmax":
        return diagnostic(
            context,
            "final-activation",
            [item],
            severity=NOTE,
            expected="logits",
            found="log softmax",
            effect="right for NLLLoss; a cross-entropy loss on top changes nothing",
            fix="nothing; the order of the classes is the same",
        )
    return diagnostic(
        context,
        "final-activation",
        [item],
        severity=NOTE if context.is_file else None,
        expected="logits",
        found=name_of(item.difference.found),
        effect="" if context.is_file else None,
        fix="nothing; it answers in probabilities" if context.is_file else None,
    )


@check(Aspect.NETWORK)
@rule(
    "variant",
    NOTE,
    "a legitimate variant of a published network",
    source=PAPER,
    effect="it is counted as its maker publishes it",
    fix="nothing",
)
def variant(context: RuleContext) -> list[Diagnostic]:
    """Which legitimate variant it is, when it is one."""
    if not context.reference.variant_note:
        return []
    return [
        diagnostic(
            context,
            "variant",
            [],
            expected="",
            found=f"{context.reference.name}: {context.reference.variant_note}",
        )
    ]


@check(Aspect.OUTPUT, reads=("other",))
@rule(
    "image-shape",
    NOTE,
    "images that are not square",
    source=PAPER,
    effect="the published figures are those of square images",
    fix="nothing: the layers are the same",
)
@rule(
    "map-shape",
    ERROR,
    "maps that are not square though the images are",
    source=PAPER,
    effect="the maps behind have another size than the table's",
    fix="give the layer in which it begins the same stride and padding in both directions",
)
def maps(context: RuleContext) -> list[Diagnostic]:
    """Maps with two sides: of such images, a note; of square ones, strides or zeros that differ by direction."""
    items = [item for item in context.items("other") if item.both and item.difference.found[0] == 0]  # type: ignore[index]
    if not items:
        return []
    if context.found.oblong:
        return [
            diagnostic(
                context,
                "image-shape",
                items,
                expected=f"square images, of {context.found.image_size} pixels: the published figures are theirs",
                found="images that are not square, with maps of the same shape",
                # Maps of the same height may still be other maps than the chain says.
                follows=context.items("enters"),
            )
        ]
    return [
        diagnostic(
            context,
            "map-shape",
            items,
            follows=context.items("enters"),
            expected="square maps: strides and zeros the same in both directions",
            found="maps that are not square from here on",
        )
    ]


@check(Aspect.LAST_MAP, reports=("input-strides",))
def small_form(context: RuleContext) -> list[Diagnostic]:
    """The strides are those for small images although nothing differs: the reference was chosen so."""
    if not context.reference.small_input:
        return []
    size = context.found.pooling.map_size
    return [
        diagnostic(
            context,
            "input-strides",
            expected="the table's strides at 224 pixels",
            found=f"those for small images: a last map of {size}x{size} from {context.found.image_size} pixels",
            fix="nothing",
        )
    ]


@check(Aspect.LAST_MAP)
@rule(
    "last-map-1x1",
    ERROR,
    "a last map of one place",
    source="the network's strides shrink the image 32 times; they are for images from 65 pixels up",
    effect="a 3x3 filter on a 1x1 map sees its centre only, eight ninths of it are padding",
    fix="give the first stride-2 steps stride 1 for small images, or feed larger ones",
)
@rule(
    "last-map-small",
    NOTE,
    "a last map of 2x2",
    source=PAPER,
    effect="the last filters see mostly padding",
    fix="give the first stride-2 steps stride 1 for small images, or feed larger ones",
)
def last_map(context: RuleContext) -> list[Diagnostic]:
    """A last map of one place: the filters before it see padding, and pooling has nothing to do."""
    size = context.found.pooling.map_size
    if size >= MIN_FEATURE_SIZE or context.found.image_size < MIN_FEATURE_SIZE:
        return []
    path = context.found.pooling.path
    return [
        diagnostic(
            context,
            "last-map-1x1" if size == 1 else "last-map-small",
            expected=f"a last map of at least {MIN_FEATURE_SIZE}x{MIN_FEATURE_SIZE}",
            found=f"{size}x{size} from images of {context.found.image_size} pixels",
            where=(path,) if path and size == 1 else (),
        )
    ]
