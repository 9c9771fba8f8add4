"""Which images to leave out of training, and why: what `--fix` writes down. Nothing is touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from mobilenets.checkup.case import Case, finding
from mobilenets.checkup.inventory import TEST
from mobilenets.checkup.results import Example, Finding


def prescribe(case: Case) -> dict[str, str]:
    """Names of images to leave out, with reasons, in the order of the data.

    Unreadable ones; of the same picture all but one, the test split's if it has it; all prints of a picture that stands
    in two classes, but the test split's; and training images that look like one of the test split.
    """
    entries = case.entries
    reasons: dict[int, str] = {place: image.reason for place, image in case.examination.bad.items()}
    for group in case.same:
        tested = [place for place in group if entries[place].split == TEST]
        torn = len({entries[place].label for place in group}) > 1
        kept = tested[:1] or ([] if torn else [group[0]])
        for place in group:
            if place in kept or (torn and place in tested):
                continue
            other = next((entries[one].name for one in group if one != place), "")
            why = "the same picture, in another class, as" if torn else "the same picture as"
            reasons.setdefault(place, f"{why} {entries[kept[0]].name if kept else other}")
    for first, second in case.near:
        pair = sorted((first, second), key=lambda place: entries[place].split == TEST)
        if entries[pair[0]].split != TEST and entries[pair[1]].split == TEST:
            reasons.setdefault(pair[0], f"looks like {entries[pair[1]].name}, which tests")
    return {entries[place].name: reason for place, reason in sorted(reasons.items())}


def of_exclusion(case: Case, excluded: Collection[str]) -> Iterator[Finding]:
    """Classes that lose their last image with those to leave out: training would refuse the list."""
    there = Counter((entry.split, entry.label) for entry in case.entries)
    left = Counter((entry.split, entry.label) for entry in case.entries if entry.name not in excluded)
    yield from finding(
        "class-emptied",
        "error",
        "classes without a good image",
        [Example((label,), f"in {split}") for split, label in there if not left[split, label]],
        "add images, or remove their folders: a list can't mend that",
    )
