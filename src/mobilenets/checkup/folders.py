"""Checks of files and folders: what is no image, and how images are spread over classes and splits."""

from __future__ import annotations

from collections.abc import Iterator

from mobilenets.checkup.context import CheckContext, class_counts
from mobilenets.checkup.registry import Family, check, issue, rule
from mobilenets.checkup.results import DataIssue, Example
from mobilenets.image_folders import is_heic_name
from mobilenets.install import install_line

TINY_CLASS = 20
"""Training images below which a class is learnt from luck."""
UNEVEN, VERY_UNEVEN = 3.0, 10.0
"""How many times the images of the smallest class the largest has."""

LAYOUT = "load_dataset, which reads a folder for each class"


@check(Family.FILES)
@rule(
    "unreadable",
    "error",
    "images that can't be read",
    source="Pillow, which reads the images",
    effect="training stops at the first of them",
    fix="repair or remove them, or leave them out with --exclude",
)
def unreadable(context: CheckContext) -> Iterator[DataIssue]:
    """Images that can't be decoded."""
    bad = sorted(context.examination.bad.items())
    yield from issue("unreadable", [Example((context.entries[place].name,), image.reason) for place, image in bad])


@check(Family.FILES)
@rule(
    "heic-files",
    "warning",
    "HEIC images, which are left out without pillow-heif",
    source="Pillow, which reads HEIC by a plug-in",
    effect="training does not see them",
    fix="install pillow-heif, or convert them to JPEG",
)
@rule(
    "other-files",
    "note",
    "files that are no images by their extension, and are ignored",
    source=LAYOUT,
    effect="training does not see them",
    fix="convert images among them to JPEG",
)
@rule(
    "not-files",
    "warning",
    "pipes, sockets and devices, which are never opened",
    source=LAYOUT,
    effect="opening one could wait for ever",
    fix="remove them",
)
def no_images(context: CheckContext) -> Iterator[DataIssue]:
    """Files that no image is made of: images of a format left out, others, and what is no file at all."""
    inventory = context.inventory
    files = [name for name in inventory.ignored if name not in inventory.special]
    yield from issue(
        "heic-files",
        [Example((name,)) for name in files if is_heic_name(name)],
        advice=f"{install_line('heic')}, or convert them to JPEG",
    )
    yield from issue(
        "other-files",
        [Example((name,)) for name in files if not is_heic_name(name)],
        advice=f"convert images among them to JPEG ({inventory.left_out})",
    )
    yield from issue("not-files", [Example((name,), what) for name, what in inventory.special.items()])


@check(Family.FILES)
@rule(
    "in-no-class",
    "warning",
    "images in no class folder, which are ignored",
    source=LAYOUT,
    effect="training does not see them",
    fix="move them into the folder of their class",
)
@rule(
    "not-read",
    "note",
    "folders beside the splits, which are not read",
    source=LAYOUT,
    effect="training does not see their images",
    fix="move what belongs to a split into it",
)
def unused_images(context: CheckContext) -> Iterator[DataIssue]:
    """Images in places that are not read."""
    yield from issue("in-no-class", [Example((name,)) for name in context.inventory.loose])
    yield from issue("not-read", [Example((name,)) for name in context.inventory.unread])


@check(Family.FOLDERS)
@rule(
    "classes-differ",
    "error",
    "class folders missing in one of the splits",
    source=LAYOUT,
    effect="the same label would stand for two classes",
    fix="give both the same class folders: training refuses them as they are",
)
@rule(
    "empty-class",
    "error",
    "class folders without an image",
    source=LAYOUT,
    effect="the class can't be learnt, or not be tested",
    fix="add images or remove the folders",
)
@rule(
    "refused",
    "error",
    "training refuses these folders as they are",
    source=LAYOUT,
    effect="training does not begin",
    fix="see the message of training",
)
def class_folders(context: CheckContext) -> Iterator[DataIssue]:
    """Class folders that keep training from beginning."""
    inventory = context.inventory
    missing = [
        Example((label,), f"not in {split}")
        for label in inventory.classes
        for split in inventory.splits
        if label not in inventory.labels[split]
    ]
    yield from issue("classes-differ", missing)
    empty = [
        Example((f"{split}/{count.name}" if len(inventory.splits) > 1 else count.name,))
        for count in class_counts(inventory)
        for split, images in zip(inventory.splits, count.images, strict=True)
        if not images and count.name in inventory.labels[split]
    ]
    yield from issue("empty-class", empty)
    if inventory.refused is not None and not missing and not empty:
        yield from issue("refused", (), advice=inventory.refused, count=1)


@check(Family.CLASSES)
@rule(
    "tiny-class",
    "warning",
    f"classes of fewer than {TINY_CLASS} images",
    source="few-shot practice: start from pretrained weights",
    effect="what is learnt of the class depends on which images were taken",
    fix="add images, or start from weights: train --weights imagenet --head-only",
)
@rule(
    "imbalance",
    "warning",
    f"classes of uneven size, {UNEVEN:g} times and more; a note below {VERY_UNEVEN:g} times",
    source="M. Buda et al., 'A systematic study of the class imbalance problem', 2018, arXiv 1710.05381",
    effect="accuracy is mostly that of the large classes",
    fix="look at macro averages, and try train --balance sampling",
)
@rule(
    "class-order",
    "note",
    "numbered classes in the order of their letters: 1, 10, 2",
    source=LAYOUT,
    effect="an output's index is not the number in the folder's name",
    fix="an answer's index is the place in that order; pad the numbers with zeros if they must agree",
)
def class_sizes(context: CheckContext) -> Iterator[DataIssue]:
    """Classes of few images, of very different numbers of them, and in an order that surprises."""
    inventory = context.inventory
    sizes = {count.name: count.images[0] for count in class_counts(inventory) if count.images[0]}
    tiny = [Example((name,), f"{size} image{'s' * (size != 1)}") for name, size in sizes.items() if size < TINY_CLASS]
    split = " to train on" if inventory.splits[0] == "train" else ""
    yield from issue("tiny-class", tiny, title=f"classes of fewer than {TINY_CLASS} images{split}")
    if sizes and (ratio := max(sizes.values()) / min(sizes.values())) >= UNEVEN:
        most, least = max(sizes, key=lambda name: sizes[name]), min(sizes, key=lambda name: sizes[name])
        yield from issue(
            "imbalance",
            (),
            title=f"classes are uneven: {most} has {ratio:.1f} times the images of {least}",
            severity="warning" if ratio >= VERY_UNEVEN else "note",
            count=len(sizes),
        )
    numbered = [name for name in inventory.classes if name.isdecimal()]
    if sorted(numbered, key=int) != numbered:
        yield from issue(
            "class-order",
            (),
            title=f"classes are in the order of their letters, not of their numbers: {', '.join(numbered[:4])}, ...",
            count=len(numbered),
        )
