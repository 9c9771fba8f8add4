"""Findings about pictures that are there more than once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from mobilenets.checkup.case import Case, finding
from mobilenets.checkup.inventory import VALIDATION
from mobilenets.checkup.results import Example, Finding


def of_same(case: Case) -> Iterator[Finding]:
    """Pictures that are there more than once, pixel for pixel."""
    across, torn, within = [], [], []
    for group in case.same:
        splits = {case.entries[place].split for place in group}
        labels = {case.entries[place].label for place in group}
        if len(splits) > 1:
            across.append(group)
        if len(labels) > 1:
            torn.append(group)
        if len(splits) == len(labels) == 1:
            within.append(group)
    yield from finding(
        "same-across-splits",
        "error",
        f"pictures in {'both the training and the test split' if _plain(case) else 'two splits at once'}{_drawn(case)}",
        [_group(case, group) for group in across],
        "remove one of each: the test would ask what training has told",
    )
    yield from finding(
        "same-two-classes",
        "error",
        "pictures in two classes at once",
        [_group(case, group) for group in torn],
        "decide for one class: at least one label is wrong",
    )
    yield from finding(
        "same",
        "warning",
        "pictures that are there more than once",
        [_group(case, group) for group in within],
        "keep one of each: the others only weigh more",
    )


def of_alike(case: Case) -> Iterator[Finding]:
    """Pictures that are there once more, but not pixel for pixel."""
    entries = case.entries
    leaks: dict[int, list[int]] = defaultdict(list)
    rest, torn = [], []
    for one, other in case.near:
        if entries[one].split != entries[other].split:
            leaks[max(one, other, key=case.rank)] += [one, other]
        if entries[one].label != entries[other].label:
            torn.append((one, other))
        elif entries[one].split == entries[other].split:
            rest.append((one, other))
    what = (
        "test images that look like training images" if _plain(case) else "images that look like those of other splits"
    )
    yield from finding(
        "alike-across-splits",
        "warning",
        f"{what}{_drawn(case)}",
        [_group(case, list(dict.fromkeys((held, *alike)))) for held, alike in sorted(leaks.items())],
        "remove all but the first of each: accuracy is flattered by them",
    )
    yield from finding(
        "alike-two-classes",
        "warning",
        "pairs that look alike and are in two classes",
        [_group(case, pair) for pair in torn],
        "look at their labels",
    )
    yield from finding(
        "alike",
        "note",
        "pairs that look alike",
        [_group(case, pair) for pair in rest],
        "keep one of each if they are the same shot",
    )


def _plain(case: Case) -> bool:
    return VALIDATION not in case.inventory.splits


def _drawn(case: Case) -> str:
    return ", as training splits them" if case.inventory.drawn else ""


def _group(case: Case, places: Sequence[int]) -> Example:
    # The one that stays first: a test image, if there is one.
    entries = [case.entries[place] for place in sorted(places, key=case.rank, reverse=True)]
    labels = list(dict.fromkeys(case.entries[place].label for place in places))
    splits = [split for split in case.inventory.splits if any(case.entries[place].split == split for place in places)]
    remark = ", ".join(labels) + (f" ({' and '.join(splits)})" if len(splits) > 1 else "")
    return Example(tuple(entry.name for entry in entries), remark)
