"""Which images there are, before any is opened: by split and class, with what can't be told apart from faults later.

`load_dataset` refuses a folder that is not as it should be. Here nothing is refused that can be said instead.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mobilenets.data.archives import read_zip
from mobilenets.data.datasets import Dataset, find_cifar10, find_data, load_dataset
from mobilenets.data.layout import ImageTree, Parts, find_layout, parts_of, read_folder, unwrapped
from mobilenets.data.shards.index import names_shards
from mobilenets.data.sources import ImageSource
from mobilenets.data.splits import content_split, image_digests
from mobilenets.errors import DataError
from mobilenets.formatting import decodable
from mobilenets.image_folders import LeftOut
from mobilenets.image_formats import MAX_PIXELS, check_max_pixels

ALL, TRAIN, VALIDATION, TEST = "all", "train", "validation", "test"
RANKS = {ALL: 0, TRAIN: 0, VALIDATION: 1, TEST: 2}
"""Of the same image in two splits, that of the higher rank stays: what scores must not change with what is scored."""
HELD_OUT, SEED = 0.2, 0
"""How `load_dataset` splits a folder that is not."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An image that is there: its split, its class, and where it comes from."""

    split: str
    label: str
    source: ImageSource

    @property
    def name(self) -> str:
        """Its name within the data set."""
        return self.source.name


@dataclass(frozen=True, eq=False)
class Inventory:
    """What a data set holds.

    Attributes:
        name: of the data set.
        splits: those of `train`, `validation` and `test` that are there, in this order, or `("all",)` where training
            could not split.
        entries: its images, split by split, class by class.
        labels: class folders of each split, empty ones too, in the order of labels.
        drawn: whether training draws the split itself.
        ignored: paths of files that are no images by their extension, and of what is no file.
        special: what those are that are no file, by their path.
        left_out: the same counted by extension and class.
        loose: images in no class folder.
        unread: folders beside those of the splits, which are not read.
        refused: why training refuses the data as it is, in its words; None where it does not.
    """

    name: str
    splits: tuple[str, ...]
    entries: Sequence[Entry]
    labels: dict[str, tuple[str, ...]]
    drawn: bool = False
    ignored: Sequence[str] = ()
    special: Mapping[str, str] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)
    loose: Sequence[str] = ()
    unread: Sequence[str] = ()
    refused: str | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names, in the order of labels."""
        found = [self.labels[split] for split in self.splits]
        return found[0] if len(set(found)) == 1 else tuple(sorted({label for labels in found for label in labels}))


def take_inventory(
    data: str | Path | Dataset, *, data_root: str | Path | None = None, max_pixels: int = MAX_PIXELS
) -> Inventory:
    """List the images of what `load_dataset` takes.

    Raises:
        DataError: there is no such data, or no image in it.
    """
    check_max_pixels(max_pixels)
    if isinstance(data, Dataset) or data in ("digits", "cifar10"):
        return _of_dataset(load_dataset(data, data_root=data_root, max_pixels=max_pixels))
    if names_shards(data):
        raise DataError(f"{data} is shards: give the images they were made of; 'shard' looks at each of them, too")
    path = find_data(data)
    if find_cifar10(path) is not None if path.is_dir() else not zipfile.is_zipfile(path):
        return _of_dataset(
            load_dataset(path, max_pixels=max_pixels)
        )  # what is neither a folder nor a zip is named by it
    tree = read_folder(path, max_pixels) if path.is_dir() else read_zip(path, max_pixels)
    try:
        find_layout(tree)
        refused = None
    except DataError as error:
        if not tree.files:
            raise
        refused = str(error)
    return _of_tree(decodable(path.resolve().name if path.is_dir() else path.stem), unwrapped(tree), refused)


def _of_tree(name: str, tree: ImageTree, refused: str | None) -> Inventory:
    folders = parts_of(tree)
    parts = {split: tree.child(folder) for split, folder in folders.items()} or {ALL: tree}
    top = tree.loose_names() if folders else []
    entries = [entry for split, part in parts.items() for entry in _entries(split, part)]
    found = Inventory(
        name=name,
        splits=tuple(parts),
        entries=entries,
        labels={split: tuple(part.children()) for split, part in parts.items()},
        ignored=["/".join(path) for path in tree.ignored],
        special={"/".join(path): what for path, what in tree.special.items()},
        left_out=tree.left_out(),
        loose=[*top, *(name for part in parts.values() for name in part.loose_names())],
        unread=[child for child in tree.children() if folders and child not in folders.values()],
        refused=refused,
    )
    if refused is not None or folders:
        return found
    try:
        return _drawn(found)
    except DataError as error:
        return replace(found, refused=str(error))


def _drawn(found: Inventory) -> Inventory:
    """Split as training will, so that what leaks from one side to the other is seen before."""
    classes = found.classes
    index = {label: place for place, label in enumerate(classes)}
    labels = np.array([index[entry.label] for entry in found.entries], np.int64)
    digests = image_digests([entry.source for entry in found.entries])
    train, test = content_split(labels, digests, classes=classes, test_fraction=HELD_OUT, seed=SEED)
    drawn = {TRAIN: train, TEST: test}
    entries = [replace(found.entries[place], split=split) for split, places in drawn.items() for place in places]
    return replace(found, splits=tuple(drawn), entries=entries, labels=dict.fromkeys(drawn, classes), drawn=True)


def _entries(split: str, tree: ImageTree) -> list[Entry]:
    def order(item: tuple[Parts, ImageSource]) -> Parts:
        return item[0]

    return [Entry(split, parts[0], source) for parts, source in sorted(tree.files, key=order) if len(parts) > 1]


def _of_dataset(dataset: Dataset) -> Inventory:
    """A data set that is split by its maker, or by `load_dataset`: then the cut is not part of it."""
    own = {} if dataset.validation is None else {VALIDATION: dataset.validation}
    parts = {TRAIN: dataset.train, **own, TEST: dataset.test}
    entries = [
        Entry(split, dataset.classes[label], source)
        for split, part in parts.items()
        for source, label in zip(part.sources, part.labels, strict=True)
    ]
    return Inventory(dataset.name, tuple(parts), entries, dict.fromkeys(parts, dataset.classes))
