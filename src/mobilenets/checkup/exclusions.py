"""Which images to leave out of training, and why: what `--fix` writes down. Nothing is touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from mobilenets.checkup.case import Case, finding
from mobilenets.checkup.results import Example, Finding


def prescribe(case: Case) -> dict[str, str]:
    """Names of images to leave out, with reasons, in the order of the data.

    Unreadable ones; of the same picture all but one, the test split's if it has it; all prints of a picture that stands
    in two classes, but the test split's; and training images that look like one of the test split. Validation images
    stay before training images, and go before test images.
    """
    entries = case.entries
    reasons: dict[int, str] = {place: image.reason for place, image in case.examination.bad.items()}
    for group in case.same:
        torn = len({entries[place].label for place in group}) > 1
        best = max(case.rank(place) for place in group)
        ranking = [place for place in group if case.rank(place) == best]
        kept = ranking[:1] if not torn else (ranking if best else [])
        for place in group:
            if place not in kept:
                other = kept[0] if kept else next(one for one in group if one != place)
                why = "the same picture, in another class, as" if torn else "the same picture as"
                reasons.setdefault(place, f"{why} {entries[other].name}")
    for pair in case.near:
        lower, higher = sorted(pair, key=case.rank)
        if case.rank(lower) != case.rank(higher):
            reasons.setdefault(lower, f"looks like {entries[higher].name}, a {entries[higher].split} image")
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
