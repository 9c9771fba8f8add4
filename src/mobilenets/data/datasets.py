"""One door to labelled images: `load_dataset` takes a name, a folder or a zip and returns classes and two splits."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mobilenets.data.archives import read_zip
from mobilenets.data.exclusion import read_exclusions
from mobilenets.data.folders import read_folder
from mobilenets.data.layout import Layout, find_layout, is_junk
from mobilenets.data.packaged import (
    DIGITS_NOTE,
    default_data_root,
    fetch_cifar10,
    find_cifar10,
    read_cifar10,
    read_digits,
)
from mobilenets.data.shards.location import names_shards
from mobilenets.data.sources import ImageSource, ImageSplit
from mobilenets.data.splits import Cut, stratified_split
from mobilenets.errors import BadImage, BadImagesError, DataError
from mobilenets.limits import require_regular
from mobilenets.quoting import decodable, printable

if TYPE_CHECKING:
    from mobilenets.data.shards.shard_set import ShardSet

__all__ = ["Dataset", "ImageSource", "ImageSplit", "check_classes", "load_dataset", "natural_image_size"]

IMAGE_SIZES: Final = (32, 64, 96, 128, 160, 192, 224)
"""The input sizes in pixels offered when the user names none: CIFAR-10's, 64, and those the papers train at."""

_WANTED: Final = (
    "give digits, cifar10, a folder of class folders, one with train/ and test/, a zip of either, or shards"
)
_SIZE_SAMPLE: Final = 200


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in two splits, or in three.

    Attributes:
        name: `digits`, `cifar10`, or the folder's or zip's name without extension.
        classes: class names; a label is an index into them.
        train: images to train on.
        test: images to score on, once everything is chosen.
        notes: what a user should know about how the data was read, one sentence each.
        digest: SHA-256 over class names, image names, sizes in bytes and labels of all splits as read, as 64 hex
            digits. Cheap, for no image is opened: it notices other data and another split, but not an edit that keeps
            the size. Cutting validation images from the training images leaves it as it is.
        validation: images to choose by: a folder's own, or cut from the training images (see `data.validation`).
        cut: how they were cut; None where they came with the data, or there are none.
        shards: all training images, where they are streamed from WebDataset shards; `train` is a sample of them then.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSplit
    test: ImageSplit
    notes: tuple[str, ...]
    digest: str
    validation: ImageSplit | None = None
    cut: Cut | None = None
    shards: ShardSet | None = None


def load_dataset(
    data: str | Path | Dataset,
    *,
    seed: int = 0,
    test_fraction: float = 0.2,
    data_root: Path | None = None,
    exclude: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Dataset:
    """Find labelled images; none is decoded yet.

    Args:
        data: `digits` (scikit-learn's 1,797 scans), `cifar10` (torchvision's, downloaded if need be), or the path of a
            folder or zip: one folder of images for each class, either at the top or below `train/` and `test/` (or
            `val/`; where there are both, `val/` holds the validation images); or of a folder that is or holds
            `cifar-10-batches-py`. A folder called `digits` is `./digits`. A data set in memory is returned as it is, so
            that everything that loads images takes one as well. WebDataset
            shards are named by their folder, a pattern such as `shards/train-{000..099}.tar`, or the URL of either.
        seed: chooses the held-out images where the data comes unsplit.
        test_fraction: share of each class held out, where the data comes unsplit.
        data_root: where downloads are kept; by default `$MOBILENETS_DATA`, else the user's cache folder.
        exclude: a list of images to leave out of training and scoring, as `doctor --fix` writes it.
        progress: told of what takes long: what, how much is done, how much there is.

    Raises:
        DataError: anything that keeps the data from being used; the message names the folder or file.
    """
    if not isinstance(data, Dataset) and names_shards(data):
        if exclude is not None:
            raise DataError(f"{data} is shards, which are read whole: give {exclude} to 'mobilenets shard' instead")
        return _from_shards(data, seed, test_fraction, progress)
    dataset = _load(data, seed, test_fraction, data_root)
    return dataset if exclude is None else _without(dataset, read_exclusions(exclude), exclude)


def _load(data: str | Path | Dataset, seed: int, test_fraction: float, data_root: Path | None) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if data == "digits":
        classes, images = read_digits()
        layout = Layout(classes, images, None, (DIGITS_NOTE,))
        return _build("digits", layout, seed, test_fraction)
    if data == "cifar10":
        return _build("cifar10", _cifar10(data_root or default_data_root()), seed, test_fraction)
    path = find_data(data)
    if path.is_dir():
        local = find_cifar10(path)
        if local is not None:
            return _build("cifar10", Layout(*read_cifar10(local), ()), seed, test_fraction)
        return _build(path.resolve().name, find_layout(read_folder(path)), seed, test_fraction)
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        raise DataError(f"{printable(path)} is neither a folder nor a zip: {_WANTED}")
    return _build(path.stem, find_layout(read_zip(path)), seed, test_fraction)


def check_classes(
    dataset: Dataset, data: str | Path | Dataset, classes: tuple[str, ...], *, answered_by: str = "the network"
) -> None:
    """Refuse images of other classes than a network names: its answers would be scored against the wrong truth.

    Args:
        dataset: the images.
        data: what the user called them; a data set in memory goes by its name.
        classes: the network's, in the order of its outputs.
        answered_by: what the user called the network.

    Raises:
        DataError: they differ; the message names some of both.
    """
    if dataset.classes != classes:
        called = data.name if isinstance(data, Dataset) else data
        raise DataError(
            f"{called} has classes {_some(dataset.classes)}; {answered_by} answers {_some(classes)}. They must be the "
            "same, in the same order"
        )


def natural_image_size(dataset: Dataset) -> int:
    """Return the input size in pixels to train at when the user names none.

    The median shorter side of up to 200 training images (headers only), snapped down to one of `IMAGE_SIZES`:
    enlarging costs compute and adds nothing. 32 for `digits` (8x8) and `cifar10`.

    Raises:
        BadImagesError: none of the sampled images has a readable header.
    """
    count = len(dataset.train)
    sample = np.unique(np.linspace(0, count - 1, min(count, _SIZE_SAMPLE)).astype(np.int64))
    sides: list[int] = []
    bad: list[BadImage] = []
    for index in sample:
        try:
            sides.append(min(dataset.train.sources[index].read_size()))
        except BadImagesError as error:
            bad.extend(error.bad)  # `prepare` looks at every image and reports these; here one of many is missed
    if not sides:
        raise BadImagesError(bad)
    median = float(np.median(sides))
    return max((size for size in IMAGE_SIZES if size <= median), default=IMAGE_SIZES[0])


def _some(classes: tuple[str, ...]) -> str:
    return f"{', '.join(classes[:5])}{', ...' * (len(classes) > 5)} ({len(classes)})"


def _cifar10(root: Path) -> Layout:
    local = find_cifar10(root)
    return Layout(*(read_cifar10(local) if local is not None else fetch_cifar10(root)), ())


def _from_shards(
    data: str | Path, seed: int, test_fraction: float, progress: Callable[[str, int, int], None] | None
) -> Dataset:
    from mobilenets.data.shards.opening import open_shards  # loads webdataset, which takes seconds

    found = open_shards(data, seed=seed, test_fraction=test_fraction, progress=progress)
    return Dataset(found.name, found.classes, found.sample, found.test, found.notes, found.digest, shards=found.train)


def _build(name: str, layout: Layout, seed: int, test_fraction: float) -> Dataset:
    train, test, notes = layout.train, layout.test, layout.notes
    if test is None:
        train_indices, test_indices = stratified_split(train.labels, test_fraction=test_fraction, seed=seed)
        notes = (*notes, f"{test_fraction:.0%} of each class held out for testing, chosen with seed {seed}")
        train, test = train.take(train_indices), train.take(test_indices)
    own = layout.validation
    parts = (train, test) if own is None else (train, test, own)
    return Dataset(decodable(name), layout.classes, train, test, notes, _digest(layout.classes, parts), own)


def _without(dataset: Dataset, excluded: Mapping[str, str], listed_in: str | Path) -> Dataset:
    """The data set less some of its images, in the split it had with them."""
    parts = {"train on": dataset.train, "test on": dataset.test}
    if dataset.validation is not None:
        parts["choose by"] = dataset.validation
    there = {source.name for split in parts.values() for source in split.sources}
    if missing := [name for name in excluded if name not in there]:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise DataError(
            f"{listed_in} lists {missing[0]}{more}, not among the images of {dataset.name}: "
            "it was made for other images; run 'mobilenets doctor --fix' again"
        )
    splits: list[ImageSplit] = []
    for what, split in parts.items():
        kept = split.take(np.flatnonzero([source.name not in excluded for source in split.sources]))
        if len(empty := np.setdiff1d(split.labels, kept.labels)):
            name = dataset.classes[int(empty[0])]
            raise DataError(f"without the images in {listed_in}, class {name} has none to {what}: add good ones to it")
        splits.append(kept)
    note = f"{len(excluded):,} image{'s' * (len(excluded) != 1)} left out, as {Path(listed_in).name} lists them"
    train, test, *own = splits
    return replace(
        dataset,
        train=train,
        test=test,
        validation=own[0] if own else None,
        notes=(*dataset.notes, note),
        digest=_digest(dataset.classes, splits),
    )


def _digest(classes: tuple[str, ...], parts: Sequence[ImageSplit]) -> str:
    # Zero bytes part the fields and empty names the lists: no file name holds a zero byte or is empty.
    digest = hashlib.sha256("\0".join((*classes, "")).encode("utf-8", "surrogateescape"))
    for split in parts:
        for source, label in zip(split.sources, split.labels, strict=True):
            digest.update(f"\0{source.name}\0{source.size}\0{label}".encode("utf-8", "surrogateescape"))
        digest.update(b"\0\0")
    return digest.hexdigest()


def find_data(data: str | Path) -> Path:
    """Return the path a user named, which is there.

    Raises:
        DataError: it is not; the message suggests what may have been meant.
    """
    if not str(data).strip():
        raise DataError(f"no data named: {_WANTED}")
    try:
        path = Path(data).expanduser()
        if not path.is_dir():
            require_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"there is no {str(data)!r}{_near(path)}: {_WANTED}") from error
    except (OSError, RuntimeError, ValueError) as error:  # no permission, too long a name, no such user's home, ...
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{str(data)!r} can't be opened ({reason}): {_WANTED}") from error
    return path


def _near(path: Path) -> str:
    """Suggest what a mistyped name may have meant."""
    known = ["digits", "cifar10"]
    with contextlib.suppress(OSError):  # a folder that can't be listed just offers no names
        beside = [entry for entry in path.parent.iterdir() if not is_junk(entry.name)]
        known += [decodable(entry.name) for entry in beside if entry.is_dir() or entry.suffix.lower() == ".zip"]
    matches = difflib.get_close_matches(path.name, known, n=3, cutoff=0.6)
    return f" (is it {' or '.join(matches)}?)" if matches else ""
