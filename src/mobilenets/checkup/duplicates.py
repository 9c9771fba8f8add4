"""Images that are there more than once, and which of them to leave out of training."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from mobilenets.checkup.context import CheckContext
from mobilenets.checkup.inventory import VALIDATION
from mobilenets.checkup.registry import Family, check, issue, rule
from mobilenets.checkup.results import DataIssue, Example

LEAKS = "B. Barz, J. Denzler, 'Do we train on test data? Purging CIFAR of near-duplicates', 2020, arXiv 1902.00423"
LABELS = "C. Northcutt et al., 'Pervasive label errors in test sets', 2021, arXiv 2103.14749"


@check(Family.DUPLICATES)
@rule(
    "duplicates-across-splits",
    "error",
    "images in two splits at once",
    source=LEAKS,
    effect="the test accuracy counts images that the network was trained on",
    fix="remove one of each: the test would ask what training has told",
)
@rule(
    "duplicates-across-classes",
    "error",
    "images in two classes at once",
    source=LABELS,
    effect="no answer can be correct for both",
    fix="decide for one class: at least one label is wrong",
)
@rule(
    "duplicates",
    "warning",
    "images that are there more than once",
    source=LEAKS,
    effect="they weigh more than others in training",
    fix="keep one of each: the others only weigh more",
)
def exact_duplicates(context: CheckContext) -> Iterator[DataIssue]:
    """Images that are there more than once, pixel for pixel."""
    across, in_two_classes, within = [], [], []
    for group in context.same:
        splits = {context.entries[place].split for place in group}
        labels = {context.entries[place].label for place in group}
        if len(splits) > 1:
            across.append(group)
        if len(labels) > 1:
            in_two_classes.append(group)
        if len(splits) == len(labels) == 1:
            within.append(group)
    where = "both the training and the test split" if _has_two_splits(context) else "two splits at once"
    yield from issue(
        "duplicates-across-splits",
        [_example(context, group) for group in across],
        title=f"images in {where}{_drawn(context)}",
    )
    yield from issue("duplicates-across-classes", [_example(context, group) for group in in_two_classes])
    yield from issue("duplicates", [_example(context, group) for group in within])


@check(Family.NEAR_DUPLICATES)
@rule(
    "near-duplicates-across-splits",
    "warning",
    "images that look like those of other splits",
    source=LEAKS,
    effect="the test accuracy counts images that training has nearly shown",
    fix="remove all but the first of each: accuracy is flattered by them",
)
@rule(
    "near-duplicates-across-classes",
    "warning",
    "pairs of near-duplicates in two classes",
    source=LABELS,
    effect="one of the two labels is probably wrong",
    fix="look at their labels",
)
@rule(
    "near-duplicates",
    "note",
    "pairs of near-duplicates",
    source=LEAKS,
    effect="they weigh more than others in training",
    fix="keep one of each if they are the same shot",
)
def near_duplicates(context: CheckContext) -> Iterator[DataIssue]:
    """Images that are there once more, but not pixel for pixel: compressed, resized, brightened, cropped a little."""
    entries = context.entries
    leaks: dict[int, list[int]] = defaultdict(list)
    rest, in_two_classes = [], []
    for one, other in context.near:
        if entries[one].split != entries[other].split:
            leaks[max(one, other, key=context.rank)] += [one, other]
        if entries[one].label != entries[other].label:
            in_two_classes.append((one, other))
        elif entries[one].split == entries[other].split:
            rest.append((one, other))
    title = "images that look like those of other splits"
    if _has_two_splits(context):
        title = "test images that look like training images"
    yield from issue(
        "near-duplicates-across-splits",
        [_example(context, list(dict.fromkeys((held, *similar)))) for held, similar in sorted(leaks.items())],
        title=f"{title}{_drawn(context)}",
    )
    yield from issue("near-duplicates-across-classes", [_example(context, pair) for pair in in_two_classes])
    yield from issue("near-duplicates", [_example(context, pair) for pair in rest])


def _has_two_splits(context: CheckContext) -> bool:
    return VALIDATION not in context.inventory.splits


def _drawn(context: CheckContext) -> str:
    return ", as training splits them" if context.inventory.drawn else ""


def _example(context: CheckContext, places: Sequence[int]) -> Example:
    # The one that stays first: a test image, if there is one.
    entries = [context.entries[place] for place in sorted(places, key=context.rank, reverse=True)]
    labels = list(dict.fromkeys(context.entries[place].label for place in places))
    present = {context.entries[place].split for place in places}
    splits = [split for split in context.inventory.splits if split in present]
    note = ", ".join(labels) + (f" ({' and '.join(splits)})" if len(splits) > 1 else "")
    return Example(tuple(entry.name for entry in entries), note)


# Which images to leave out of training, and why: what `--fix` writes down. Nothing is touched.


def exclusions(context: CheckContext) -> dict[str, str]:
    """Names of images to leave out, with reasons, in the order of the data.

    Unreadable ones; of equal images all but one, the test split's if it has it; all copies of an image that stands in
    two classes, but the test split's; and training images that are near-duplicates of one in the test split. Validation
    images stay before training images, and go before test images.
    """
    entries = context.entries
    reasons: dict[int, str] = {place: image.reason for place, image in context.examination.bad.items()}
    for group in context.same:
        in_two_classes = len({entries[place].label for place in group}) > 1
        best = max(context.rank(place) for place in group)
        ranking = [place for place in group if context.rank(place) == best]
        kept = ranking[:1] if not in_two_classes else (ranking if best else [])
        for place in group:
            if place not in kept:
                other = kept[0] if kept else next(one for one in group if one != place)
                why = "the same image, in another class, as" if in_two_classes else "the same image as"
                reasons.setdefault(place, f"{why} {entries[other].name}")
    for pair in context.near:
        lower, higher = sorted(pair, key=context.rank)
        if context.rank(lower) != context.rank(higher):
            reasons.setdefault(lower, f"looks like {entries[higher].name}, a {entries[higher].split} image")
    return {entries[place].name: reason for place, reason in sorted(reasons.items())}


@check(Family.EXCLUSIONS)
@rule(
    "class-emptied",
    "error",
    "classes without a good image",
    source="what `train --exclude` accepts",
    effect="training refuses a list that leaves a class empty",
    fix="add images, or remove their folders: a list can't fix that",
)
def emptied_classes(context: CheckContext) -> Iterator[DataIssue]:
    """Classes that lose their last image with those to leave out."""
    excluded = exclusions(context)
    there = Counter((entry.split, entry.label) for entry in context.entries)
    left = Counter((entry.split, entry.label) for entry in context.entries if entry.name not in excluded)
    yield from issue(
        "class-emptied", [Example((label,), f"in {split}") for split, label in there if not left[split, label]]
    )
