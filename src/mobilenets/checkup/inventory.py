"""Which images there are, before any is opened: by split and class, with what can't be told apart from faults later.

`load_dataset` refuses a folder that is not as it should be. Here nothing is refused that can be said instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobilenets.data.archives import read_zip
from mobilenets.data.datasets import Dataset, find_data, load_dataset
from mobilenets.data.folders import read_folder
from mobilenets.data.layout import ImageTree, Parts, parts_of, unwrapped
from mobilenets.data.packaged import find_cifar10
from mobilenets.data.shards.location import names_shards
from mobilenets.data.sources import ImageSource
from mobilenets.errors import DataError

TRAIN, TEST, ALL = "train", "test", "all"


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
        splits: `("train", "test")`, or `("all",)`.
        entries: its images, split by split, class by class.
        labels: class folders of each split, empty ones too, in the order of labels.
        ignored: paths of files that are no images by their extension.
        loose: images in no class folder.
    """

    name: str
    splits: tuple[str, ...]
    entries: Sequence[Entry]
    labels: dict[str, tuple[str, ...]]
    ignored: Sequence[str] = ()
    loose: Sequence[str] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names, in the order of labels."""
        return tuple(sorted({label for split in self.splits for label in self.labels[split]}))


def take_inventory(data: str | Path | Dataset, *, data_root: Path | None = None) -> Inventory:
    """List the images of what `load_dataset` takes.

    Raises:
        DataError: there is no such data, or no image in it.
    """
    if isinstance(data, Dataset) or data in ("digits", "cifar10"):
        return _of_dataset(load_dataset(data, data_root=data_root))
    if names_shards(data):
        raise DataError(f"{data} is shards: give the images they were made of; 'shard' looks at each of them, too")
    path = find_data(data)
    if path.is_dir() and find_cifar10(path) is not None:
        return _of_dataset(load_dataset(path))
    tree = unwrapped(read_folder(path) if path.is_dir() else read_zip(path))
    if not tree.files:
        raise DataError(f"{tree.root} holds no images: give a folder with one folder of images for each class")
    name = path.resolve().name if path.is_dir() else path.stem
    found = parts_of(tree)
    parts = {TRAIN: tree.child(found[0]), TEST: tree.child(found[1])} if found is not None else {ALL: tree}
    inside = [part for split in parts.values() for part in _loose(split)]
    outside = _loose(tree) if found is not None else []
    return Inventory(
        name=name,
        splits=tuple(parts),
        entries=[entry for split, part in parts.items() for entry in _entries(split, part)],
        labels={split: tuple(part.children()) for split, part in parts.items()},
        ignored=["/".join(path) for path in tree.ignored],
        loose=[*outside, *inside],
    )


def _entries(split: str, tree: ImageTree) -> list[Entry]:
    def order(item: tuple[Parts, ImageSource]) -> Parts:
        return item[0]

    return [Entry(split, parts[0], source) for parts, source in sorted(tree.files, key=order) if len(parts) > 1]


def _loose(tree: ImageTree) -> list[str]:
    return [source.name for parts, source in tree.files if len(parts) == 1]


def _of_dataset(dataset: Dataset) -> Inventory:
    """A data set that is split by its maker, or by `load_dataset`: then the cut is not part of it."""
    parts = {TRAIN: dataset.train, TEST: dataset.test}
    entries = [
        Entry(split, dataset.classes[label], source)
        for split, part in parts.items()
        for source, label in zip(part.sources, part.labels, strict=True)
    ]
    return Inventory(dataset.name, tuple(parts), entries, dict.fromkeys(parts, dataset.classes))
