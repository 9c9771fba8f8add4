"""The network's own: pooling, classes, image channels, dropout, what follows the classifier, which variant it is."""

from __future__ import annotations

from mobilenets.auditing.rules.case import Case, Item
from mobilenets.auditing.rules.finding import Claim, Severity
from mobilenets.auditing.rules.wording import claim, name_of, note, paper_of, plain

IMAGENET_CLASSES = 1000


def pooling(case: Case) -> list[Claim]:
    """How the last map becomes a vector."""
    items = case.own("pooling")
    if not items:
        return []
    found = case.found.pooling
    pooled = [item for item in case.items("pooled") if item.both]
    where = (found.path or "the pool in forward",)
    words = {
        "fixed": f"a window of {found.map_size}x{found.map_size} fixed in the code",
        "flatten": f"none: the classifier has a weight for every place of the {found.map_size}x{found.map_size} map",
        "max": "a maximum over the map",
    }
    fixed = found.kind == "fixed"
    one = claim(
        case,
        "pooling-fixed" if fixed else "pooling",
        items,
        follows=[] if fixed else pooled,
        severity=Severity.NOTE if fixed and case.is_file else Severity.ERROR,
        expected="a global average pool",
        found=words.get(found.kind, found.kind),
        source=paper_of(case),
        effect="images of another size fail, or are pooled in pieces" if fixed else "published weights don't fit",
        mend="use nn.AdaptiveAvgPool2d(1), or x.mean((2, 3))",
    )
    return [_at(one, where)]


def no_classifier(case: Case) -> list[Claim]:
    """A network that ends with its features: a backbone, with or without the pool."""
    behind = [item for item in case.items("layer") if item.slot and item.slot.found is None]
    behind = [item for item in behind if item.part in ("head", "penultimate", "classifier")]
    if case.found.num_classes is not None or not any(item.part == "classifier" for item in behind):
        return []
    pooled = case.found.pooling.kind != "other"
    return [
        note(
            case,
            "no-classifier",
            behind,
            follows=[*([] if pooled else case.own("pooling")), *case.own("dropout")],
            expected="a global average pool and a classifier",
            found=f"the answer is the last features{', pooled' if pooled else ''}: "
            f"{case.found.layers[-1].out_channels:,} channels",
            source=paper_of(case),
            mend="nothing for a backbone; a classifier needs the published head",
        )
    ]


def _at(one: Claim, where: tuple[str, ...]) -> Claim:
    from dataclasses import replace

    return replace(one, where=where)


def classes(case: Case) -> list[Claim]:
    """Another number of outputs; 1001 have the background in front."""
    items = [item for item in case.items("out_channels") if item.both and item.part == "classifier"]
    count = case.found.num_classes
    if count is None:
        return []
    if count == IMAGENET_CLASSES + 1:
        return [
            note(
                case,
                "classes-1001",
                items,
                expected="1,000 classes of ImageNet",
                found="1,001 outputs: index 0 is the background, every class is one further",
                source="TF-slim's released ImageNet networks",
                effect="with 1,000-class label files every answer is off by one",
                mend="drop output 0, or use labels with the background in front",
            )
        ]
    if not items and count == IMAGENET_CLASSES:
        return []
    return [
        note(
            case,
            "classes",
            items,
            expected="1,000",
            found=f"{count:,}",
            source=paper_of(case),
            mend="nothing; the published count is taken with as many",
        )
    ]


def small_things(case: Case) -> list[Claim]:
    """Image channels, dropout and stochastic depth: choices, not mistakes."""
    words = {
        "in_channels": ("image-channels", "image channels", "nothing, if your images have as many"),
        "dropout": ("dropout", "rate", "nothing; it acts in training only"),
        "drop_path": ("drop-path", "rate", "nothing; it acts in training only"),
    }
    claims = []
    for item in case.own(*words):
        rule, what, mend = words[item.difference.attribute]
        claims.append(
            note(
                case,
                rule,
                [item],
                expected=f"{what} {_number(item.difference.expected)}",
                found=f"{what} {_number(item.difference.found)}",
                source=paper_of(case) if rule == "image-channels" else "the authors' training code",
                mend=mend,
            )
        )
    return claims


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else plain(value)


def final(case: Case) -> list[Claim]:
    """A function behind the classifier: right in a file that answers in probabilities, wrong in a module to train."""
    items = case.own("final")
    return [_final(case, item) for item in items]


def _final(case: Case, item: Item) -> Claim:
    if item.difference.found == "log_softmax":
        return note(
            case,
            "final-activation",
            [item],
            expected="logits",
            found="log softmax",
            source=paper_of(case),
            effect="right for NLLLoss; a cross-entropy loss on top changes nothing",
            mend="nothing; the order of the classes is the same",
        )
    return claim(
        case,
        "final-activation",
        [item],
        severity=Severity.NOTE if case.is_file else Severity.ERROR,
        expected="logits",
        found=name_of(item.difference.found),
        source=paper_of(case),
        effect="" if case.is_file else "cross-entropy losses take logits: an activation here squashes them twice",
        mend="nothing; it answers in probabilities" if case.is_file else "return the logits",
    )


def variant(case: Case) -> list[Claim]:
    """Which legitimate variant it is, when it is one."""
    if not case.reference.variant_note:
        return []
    return [
        note(
            case,
            "variant",
            [],
            expected="",
            found=f"{case.reference.name}: {case.reference.variant_note}",
            source=paper_of(case),
            mend="nothing",
        )
    ]
