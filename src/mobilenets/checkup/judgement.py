"""From what was seen to findings: each check looks at all facts and says at most one thing a kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mobilenets.checkup.duplicates import Pair
from mobilenets.checkup.examination import Examination
from mobilenets.checkup.facts import FLAT, Facts
from mobilenets.checkup.inventory import TEST, Entry, Inventory
from mobilenets.checkup.results import ClassCount, Example, Finding, Severity

TINY_CLASS = 20
"""Training images below which a class is learnt from luck."""
UNEVEN, VERY_UNEVEN = 3.0, 10.0
"""How many times the images of the smallest class the largest has."""
LONG = 3.0
"""Length over width from which a centre crop loses more than half of a picture's longer side."""
HUGE_PIXELS = 20_000_000
SMALL_SHARE = 0.5
"""Of the data's usual shorter side: smaller pictures are enlarged to something others are not."""


@dataclass(frozen=True, eq=False)
class Case:
    """All there is to judge by."""

    inventory: Inventory
    examination: Examination
    same: Sequence[tuple[int, ...]]
    near: Sequence[Pair]

    @property
    def entries(self) -> Sequence[Entry]:
        """The images."""
        return self.inventory.entries

    def seen(self) -> Iterator[tuple[Entry, Facts]]:
        """Images that could be read, with their facts."""
        for entry, facts in zip(self.entries, self.examination.facts, strict=True):
            if facts is not None:
                yield entry, facts


def class_counts(inventory: Inventory) -> tuple[ClassCount, ...]:
    """How many images each class has in each split."""
    counts = {(split, label): 0 for split in inventory.splits for label in inventory.classes}
    for entry in inventory.entries:
        counts[entry.split, entry.label] += 1
    return tuple(
        ClassCount(label, tuple(counts[split, label] for split in inventory.splits)) for label in inventory.classes
    )


def of_files(case: Case) -> Iterator[Finding]:
    """What is no image, or can't be read as one."""
    bad = case.examination.bad
    yield from _finding(
        "unreadable",
        "error",
        "images that can't be read",
        [Example((case.entries[place].name,), image.reason) for place, image in sorted(bad.items())],
        "mend or remove them, or leave them out with --exclude",
    )
    yield from _finding(
        "other-files",
        "note",
        "files that are no images by their extension, and are ignored",
        [Example((name,)) for name in case.inventory.ignored],
        "convert pictures among them to JPEG",
    )
    yield from _finding(
        "in-no-class",
        "warning",
        "images in no class folder, which are ignored",
        [Example((name,)) for name in case.inventory.loose],
        "move them into the folder of their class",
    )


def of_classes(case: Case) -> Iterator[Finding]:
    """Folders that differ, and classes with few images."""
    inventory, counts = case.inventory, class_counts(case.inventory)
    first = inventory.splits[0]
    missing = [
        Example((label,), f"not in {split}")
        for label in inventory.classes
        for split in inventory.splits
        if label not in inventory.labels[split]
    ]
    yield from _finding(
        "classes-differ",
        "error",
        "class folders missing in one of the splits",
        missing,
        "give both the same class folders: training refuses them as they are",
    )
    empty = [
        Example((f"{split}/{count.name}" if len(inventory.splits) > 1 else count.name,))
        for count in counts
        for split, images in zip(inventory.splits, count.images, strict=True)
        if not images and count.name in inventory.labels[split]
    ]
    yield from _finding(
        "empty-class", "error", "class folders without an image", empty, "add images or remove the folders"
    )
    sizes = {count.name: count.images[0] for count in counts if count.images[0]}
    tiny = [Example((name,), f"{size} images") for name, size in sizes.items() if size < TINY_CLASS]
    where = "" if first == "all" else " to train on"
    yield from _finding(
        "tiny-class",
        "warning",
        f"classes of fewer than {TINY_CLASS} images{where}",
        tiny,
        "add images, or start from weights: train --weights imagenet --head-only",
    )
    if sizes and (ratio := max(sizes.values()) / min(sizes.values())) >= UNEVEN:
        most, least = max(sizes, key=lambda name: sizes[name]), min(sizes, key=lambda name: sizes[name])
        yield Finding(
            "imbalance",
            "warning" if ratio >= VERY_UNEVEN else "note",
            f"classes are uneven: {most} has {ratio:.1f} times the images of {least}",
            len(sizes),
            "look at macro averages, and try train --balance sampling",
        )
    numbered = [name for name in inventory.classes if name.isdecimal()]
    if sorted(numbered, key=int) != numbered:
        yield Finding(
            "class-order",
            "note",
            f"classes are in the order of their letters, not of their numbers: {', '.join(numbered[:4])}, ...",
            len(numbered),
            "an answer's index is the place in that order; pad the numbers with zeros if they must agree",
        )


def of_duplicates(case: Case) -> Iterator[Finding]:
    """Pictures that are there more than once."""
    entries = case.entries
    across = [group for group in case.same if len({entries[place].split for place in group}) > 1]
    torn = [group for group in case.same if len({entries[place].label for place in group}) > 1]
    within = [group for group in case.same if group not in across and group not in torn]
    yield from _finding(
        "same-across-splits",
        "error",
        "pictures in both the training and the test split",
        [_group(case, group) for group in across],
        "remove one of each: the test would ask what training has told",
    )
    yield from _finding(
        "same-two-classes",
        "error",
        "pictures in two classes at once",
        [_group(case, group) for group in torn],
        "decide for one class: at least one label is wrong",
    )
    yield from _finding(
        "same",
        "warning",
        "pictures that are there more than once",
        [_group(case, group) for group in within],
        "keep one of each: the others only weigh more",
    )
    near_across = [pair for pair in case.near if entries[pair[0]].split != entries[pair[1]].split]
    near_torn = [pair for pair in case.near if entries[pair[0]].label != entries[pair[1]].label]
    rest = sorted(set(case.near) - set(near_across) - set(near_torn))
    yield from _finding(
        "alike-across-splits",
        "warning",
        "pairs of a training and a test image that look alike",
        [_group(case, pair) for pair in near_across],
        "remove the training image of each: test accuracy is flattered by them",
    )
    yield from _finding(
        "alike-two-classes",
        "warning",
        "pairs that look alike and are in two classes",
        [_group(case, pair) for pair in near_torn],
        "look at their labels",
    )
    yield from _finding(
        "alike",
        "note",
        "pairs that look alike",
        [_group(case, pair) for pair in rest],
        "keep one of each if they are the same shot",
    )


def of_pictures(case: Case) -> Iterator[Finding]:
    """Shapes, colours and other things about readable pictures."""
    seen = list(case.seen())
    sides = sorted(min(facts.header.width, facts.header.height) for _, facts in seen)
    usual = sides[len(sides) // 2] if sides else 0
    checks: list[tuple[str, Severity, str, str, list[Example]]] = [
        (
            "rotated",
            "note",
            "images stored turned, which their EXIF shows upright",
            "nothing: they are read upright",
            [Example((e.name,), f"orientation {f.header.orientation}") for e, f in seen if f.header.orientation > 1],
        ),
        (
            "one-colour",
            "warning",
            "images of one colour, which show next to nothing",
            "look whether they belong to their class",
            [Example((e.name,)) for e, f in seen if f.contrast < FLAT],
        ),
        (
            "long",
            "warning",
            "images more than three times as long as wide, which lose most of it to the centre crop",
            "cut them to what matters",
            [Example((e.name,), _size(f)) for e, f in seen if _length(f) > LONG],
        ),
        (
            "small",
            "note",
            f"images less than half as large as usual ({usual} pixels), which are enlarged",
            "use larger ones",
            [
                Example((e.name,), _size(f))
                for e, f in seen
                if min(f.header.width, f.header.height) < SMALL_SHARE * usual
            ],
        ),
        (
            "huge",
            "note",
            "images of more than 20 million pixels, which take long to read",
            "shrink them once",
            [Example((e.name,), _size(f)) for e, f in seen if f.header.width * f.header.height > HUGE_PIXELS],
        ),
        (
            "animated",
            "note",
            "images that move, of which only the first frame is used",
            "choose the frames yourself",
            [Example((e.name,)) for e, f in seen if f.header.animated],
        ),
    ]
    for kind, severity, title, advice, examples in checks:
        yield from _finding(kind, severity, title, examples, advice)
    modes: dict[str, list[Example]] = {}
    for entry, facts in seen:
        modes.setdefault(_mode(facts), []).append(Example((entry.name,), facts.header.mode))
    usual_mode = max(modes, key=lambda mode: len(modes[mode]), default="")
    for mode, examples in modes.items():
        if mode != usual_mode:
            title = f"{mode} images, where most are {usual_mode}"
            yield from _finding(f"mode-{mode.split()[0]}", "note", title, examples, "nothing: all are read as RGB")


def _finding(kind: str, severity: Severity, title: str, examples: Sequence[Example], advice: str) -> Iterator[Finding]:
    if examples:
        yield Finding(kind, severity, title, len(examples), advice, tuple(examples))


def _group(case: Case, places: Sequence[int]) -> Example:
    entries = [case.entries[place] for place in places]
    labels = list(dict.fromkeys(entry.label for entry in entries))
    splits = list(dict.fromkeys(entry.split for entry in entries))
    # The test image first, as the one that stays.
    entries.sort(key=lambda entry: entry.split != TEST)
    remark = ", ".join(labels) + (f" ({' and '.join(splits)})" if len(splits) > 1 else "")
    return Example(tuple(entry.name for entry in entries), remark)


def _length(facts: Facts) -> float:
    width, height = facts.header.width, facts.header.height
    return max(width, height) / min(width, height)


def _size(facts: Facts) -> str:
    return f"{facts.header.width}x{facts.header.height}"


def _mode(facts: Facts) -> str:
    mode = facts.header.mode
    if mode in ("L", "1"):
        return "grey"
    if mode.startswith("I") or mode == "F":
        return "deep grey (more than 8 bits)"
    return {"CMYK": "CMYK", "RGBA": "transparent", "LA": "transparent", "PA": "transparent", "P": "palette"}.get(
        mode, "colour"
    )
