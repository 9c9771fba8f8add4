"""The network's own: pooling, classes, image channels, dropout, what follows the classifier, which variant it is."""

from __future__ import annotations

from mobilenets.auditing.rules.case import Item, RuleContext
from mobilenets.auditing.rules.finding import Diagnostic, Severity
from mobilenets.auditing.rules.wording import LOADS, OTHER_SHAPES, diagnostic, name_of, note, paper_of, plain

IMAGENET_CLASSES = 1000
POOLING_EFFECTS = {
    "fixed": "images of another size fail, or are pooled in pieces",
    "flatten": OTHER_SHAPES,
    "max": LOADS + "the classifier was trained on means",
}


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
    one = diagnostic(
        context,
        "pooling-fixed" if fixed else "pooling",
        items,
        follows=[] if fixed else pooled,
        severity=Severity.NOTE if fixed and context.is_file else Severity.ERROR,
        expected="a global average pool",
        found=words.get(found.kind, found.kind),
        source=paper_of(context),
        effect=POOLING_EFFECTS.get(found.kind, ""),
        fix="use nn.AdaptiveAvgPool2d(1), or x.mean((2, 3))",
    )
    return [_at(one, where)]


def no_classifier(context: RuleContext) -> list[Diagnostic]:
    """A network that ends with its features: a backbone, with or without the pool."""
    behind = [item for item in context.items("layer") if item.slot and item.slot.found is None]
    behind = [item for item in behind if item.part in ("head", "penultimate", "classifier")]
    if context.found.num_classes is not None or not any(item.part == "classifier" for item in behind):
        return []
    pooled = context.found.pooling.kind != "other"
    return [
        note(
            context,
            "no-classifier",
            behind,
            follows=[*([] if pooled else context.own("pooling")), *context.own("dropout")],
            expected="a global average pool and a classifier",
            found=f"the answer is the last features{', pooled' if pooled else ''}: "
            f"{context.found.layers[-1].out_channels:,} channels",
            source=paper_of(context),
            fix="nothing for a backbone; a classifier needs the published head",
        )
    ]


def _at(one: Diagnostic, where: tuple[str, ...]) -> Diagnostic:
    from dataclasses import replace

    return replace(one, where=where)


def classes(context: RuleContext) -> list[Diagnostic]:
    """Another number of outputs; 1001 have the background in front."""
    items = [item for item in context.items("out_channels") if item.both and item.part == "classifier"]
    count = context.found.num_classes
    if count is None:
        return []
    if count == IMAGENET_CLASSES + 1:
        return [
            note(
                context,
                "classes-1001",
                items,
                expected="1,000 classes of ImageNet",
                found="1,001 outputs: index 0 is the background, every class is one further",
                source="TF-slim's released ImageNet networks",
                effect="with 1,000-class label files every answer is off by one",
                fix="drop output 0, or use labels with the background in front",
            )
        ]
    if not items and count == IMAGENET_CLASSES:
        return []
    return [
        note(
            context,
            "classes",
            items,
            expected="1,000",
            found=f"{count:,}",
            source=paper_of(context),
            fix="nothing; the published count is taken with as many",
        )
    ]


def small_things(context: RuleContext) -> list[Diagnostic]:
    """Image channels, dropout and stochastic depth: choices, not mistakes."""
    words = {
        "in_channels": ("image-channels", "image channels", "nothing, if your images have as many"),
        "dropout": ("dropout", "rate", "nothing; it acts in training only"),
        "drop_path": ("drop-path", "rate", "nothing; it acts in training only"),
    }
    diagnostics = []
    for item in context.own(*words):
        rule, what, fix = words[item.difference.attribute]
        diagnostics.append(
            note(
                context,
                rule,
                [item],
                expected=f"{what} {_number(item.difference.expected)}",
                found=f"{what} {_number(item.difference.found)}",
                source=paper_of(context) if rule == "image-channels" else "the authors' training code",
                fix=fix,
            )
        )
    return diagnostics


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else plain(value)


def final(context: RuleContext) -> list[Diagnostic]:
    """A function behind the classifier: right in a file that answers in probabilities, wrong in a module to train."""
    items = context.own("final")
    return [_final(context, item) for item in items]


def _final(context: RuleContext, item: Item) -> Diagnostic:
    if item.difference.found == "log_softmax":
        return note(
            context,
            "final-activation",
            [item],
            expected="logits",
            found="log softmax",
            source=paper_of(context),
            effect="right for NLLLoss; a cross-entropy loss on top changes nothing",
            fix="nothing; the order of the classes is the same",
        )
    return diagnostic(
        context,
        "final-activation",
        [item],
        severity=Severity.NOTE if context.is_file else Severity.ERROR,
        expected="logits",
        found=name_of(item.difference.found),
        source=paper_of(context),
        effect="" if context.is_file else "cross-entropy losses take logits: an activation here squashes them twice",
        fix="nothing; it answers in probabilities" if context.is_file else "return the logits",
    )


def variant(context: RuleContext) -> list[Diagnostic]:
    """Which legitimate variant it is, when it is one."""
    if not context.reference.variant_note:
        return []
    return [
        note(
            context,
            "variant",
            [],
            expected="",
            found=f"{context.reference.name}: {context.reference.variant_note}",
            source=paper_of(context),
            fix="nothing",
        )
    ]
