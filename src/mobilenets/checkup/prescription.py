"""Which images to leave out of training, and why: what `--fix` writes down. Nothing is touched."""

from __future__ import annotations

from mobilenets.checkup.inventory import TEST
from mobilenets.checkup.judgement import Case


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
