"""Findings about files and folders: what is no image, and how images are spread over classes and splits."""

from __future__ import annotations

from collections.abc import Iterator

from mobilenets.checkup.case import Case, class_counts, finding
from mobilenets.checkup.inventory import Inventory
from mobilenets.checkup.results import Example, Finding
from mobilenets.image_folders import is_heic_name
from mobilenets.install import install_line

TINY_CLASS = 20
"""Training images below which a class is learnt from luck."""
UNEVEN, VERY_UNEVEN = 3.0, 10.0
"""How many times the images of the smallest class the largest has."""


def of_files(case: Case) -> Iterator[Finding]:
    """What is no image, can't be read as one, or lies where nobody reads it."""
    inventory, bad = case.inventory, case.examination.bad
    yield from finding(
        "unreadable",
        "error",
        "images that can't be read",
        [Example((case.entries[place].name,), image.reason) for place, image in sorted(bad.items())],
        "mend or remove them, or leave them out with --exclude",
    )
    yield from _left_out(inventory)
    yield from finding(
        "in-no-class",
        "warning",
        "images in no class folder, which are ignored",
        [Example((name,)) for name in inventory.loose],
        "move them into the folder of their class",
    )
    yield from finding(
        "not-read",
        "note",
        "folders beside the splits, which are not read",
        [Example((name,)) for name in inventory.unread],
        "move what belongs to a split into it",
    )


def _left_out(inventory: Inventory) -> Iterator[Finding]:
    """Files that no image is made of: pictures that could be read, others, and what is no file at all."""
    files = [name for name in inventory.ignored if name not in inventory.special]
    yield from finding(
        "heic-files",
        "warning",
        "HEIC pictures, which are left out without pillow-heif",
        [Example((name,)) for name in files if is_heic_name(name)],
        f"{install_line('heic')}, or convert them to JPEG",
    )
    yield from finding(
        "other-files",
        "note",
        "files that are no images by their extension, and are ignored",
        [Example((name,)) for name in files if not is_heic_name(name)],
        f"convert pictures among them to JPEG ({inventory.left_out})",
    )
    yield from finding(
        "not-files",
        "warning",
        "pipes, sockets and devices, which are never opened",
        [Example((name,), what) for name, what in inventory.special.items()],
        "remove them",
    )


def of_folders(case: Case) -> Iterator[Finding]:
    """Class folders that keep training from beginning."""
    inventory = case.inventory
    missing = [
        Example((label,), f"not in {split}")
        for label in inventory.classes
        for split in inventory.splits
        if label not in inventory.labels[split]
    ]
    yield from finding(
        "classes-differ",
        "error",
        "class folders missing in one of the splits",
        missing,
        "give both the same class folders: training refuses them as they are",
    )
    empty = [
        Example((f"{split}/{count.name}" if len(inventory.splits) > 1 else count.name,))
        for count in class_counts(inventory)
        for split, images in zip(inventory.splits, count.images, strict=True)
        if not images and count.name in inventory.labels[split]
    ]
    yield from finding(
        "empty-class", "error", "class folders without an image", empty, "add images or remove the folders"
    )
    if inventory.refused is not None and not missing and not empty:
        yield Finding("refused", "error", "training refuses these folders as they are", 1, inventory.refused)


def of_classes(case: Case) -> Iterator[Finding]:
    """Classes of few images, of very different numbers of them, and in an order that surprises."""
    inventory = case.inventory
    sizes = {count.name: count.images[0] for count in class_counts(inventory) if count.images[0]}
    tiny = [Example((name,), f"{size} image{'s' * (size != 1)}") for name, size in sizes.items() if size < TINY_CLASS]
    yield from finding(
        "tiny-class",
        "warning",
        f"classes of fewer than {TINY_CLASS} images{' to train on' if inventory.splits[0] == 'train' else ''}",
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
