"""Labelled images: `load_dataset` takes a name, a folder, a zip or shards and returns classes and two splits."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mobilenets.data.archives import read_zip
from mobilenets.data.layout import ImageTree, Layout, find_layout, read_folder
from mobilenets.data.packaged import (
    CIFAR10_FOLDER,
    DIGITS_NOTE,
    default_data_root,
    fetch_cifar10,
    read_cifar10,
    read_digits,
)
from mobilenets.data.shards.index import names_shards
from mobilenets.data.sources import ImageSource, ImageSplit, read_exclusions
from mobilenets.data.splits import Cut, content_split, image_digest, stratified_split, with_digests
from mobilenets.errors import BadImage, BadImagesError, DataError
from mobilenets.formatting import decodable, printable
from mobilenets.image_folders import is_junk
from mobilenets.image_formats import MAX_PIXELS, check_max_pixels
from mobilenets.limits import check_seed, require_regular
from mobilenets.progress import Progress, Update

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
        validation: images to choose by: a folder's own, or cut from the training images (see `data.held_out`).
        cut: how they were cut; None where they came with the data, or there are none.
        packaged: whether a package delivers them: they never change, and are split as has been published.
        excluded: names of images that were left out on request, with their content digests.
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
    packaged: bool = False
    excluded: Mapping[str, int] = field(default_factory=dict)


def load_dataset(
    data: str | Path | Dataset,
    *,
    seed: int = 0,
    test_fraction: float = 0.2,
    data_root: str | Path | None = None,
    exclude: str | Path | None = None,
    classes: Sequence[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Dataset:
    """Find labelled images; none is decoded yet.

    Args:
        data: `digits` (scikit-learn's 1,797 scans), `cifar10` (torchvision's, downloaded if need be), or the path of a
            folder or zip: one folder of images for each class, either at the top or below `train/` and `test/` (or
            `val/`; where there are both, `val/` holds the validation images); or of a folder that is or holds
            `cifar-10-batches-py`. A folder called `digits` is `./digits`. A data set in memory is returned as it is, so
            that everything that loads images takes one as well. WebDataset shards are named by their folder, a pattern
            such as `shards/train-{000..099}.tar`, or the URL of either.
        seed: chooses the held-out images where the data comes unsplit.
        test_fraction: share of each class held out, where the data comes unsplit.
        data_root: where downloads are kept; by default `$MOBILENETS_DATA`, else the user's cache folder.
        exclude: a list of images to leave out of training and scoring, as `doctor --fix` writes it.
        classes: those of a network that is to be scored on the images, in the order of its outputs. Class folders are
            then matched with them by name; classes, parts and splits may be missing or hold few images.
        max_pixels: the most pixels an image may have: one of more is refused by its header, so that no small file
            takes all memory. Not looked at for a data set in memory.
        progress: receives what takes long.

    Raises:
        DataError: anything that keeps the data from being used; the message names the folder or file.
    """
    check_max_pixels(max_pixels)
    if fault := check_seed(seed):
        raise DataError(fault)
    update = None if progress is None else progress.update
    if not isinstance(data, Dataset) and names_shards(data):
        if exclude is not None:
            raise DataError(f"{data} is shards, which are read whole: give {exclude} to 'mobilenets shard' instead")
        found = _from_shards(data, seed, test_fraction, max_pixels, update)
        return found if classes is None else matched(found, tuple(classes))
    known = None if classes is None else tuple(classes)
    dataset = _load(data, seed, test_fraction, data_root, max_pixels, update, known)
    if known is not None:
        dataset = matched(dataset, known)
    return dataset if exclude is None else without_listed(dataset, read_exclusions(exclude), exclude)


def _load(
    data: str | Path | Dataset,
    seed: int,
    test_fraction: float,
    data_root: str | Path | None,
    max_pixels: int,
    progress: Update | None,
    known: tuple[str, ...] | None,
) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if data == "digits":
        return _digits(test_fraction, seed)
    if data == "cifar10":
        return _cifar10(None if data_root is None else Path(data_root))
    path = find_data(data)
    if path.is_dir() and find_cifar10(path) is not None:
        return _cifar10(path)
    name, tree = read_tree(path, max_pixels)
    return _build(name, find_layout(tree, known), seed, test_fraction, progress, strict=known is None)


def matched(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """The data set with a network's classes, matched by their names; those without images stay empty.

    Raises:
        DataError: it has images of a class that is none of these; the message names them.
    """
    if dataset.classes == classes:
        return dataset
    places = {name: place for place, name in enumerate(classes)}
    if unknown := [name for name in dataset.classes if name not in places]:
        raise DataError(
            f"{printable(dataset.name)} has classes that the network does not know: {_some(tuple(unknown))}. "
            f"It answers {_some(classes)}: give images of these as `data`"
        )
    moved = np.array([places[name] for name in dataset.classes], dtype=np.int64)

    def relabelled(split: ImageSplit) -> ImageSplit:
        return replace(split, labels=moved[split.labels])

    own, shards = dataset.validation, dataset.shards
    if shards is not None:
        labels = {label: int(moved[place]) for label, place in shards.labels.items()}
        shards = replace(shards, labels=labels, class_counts=())
    return replace(
        dataset,
        classes=classes,
        train=relabelled(dataset.train),
        test=relabelled(dataset.test),
        validation=None if own is None else relabelled(own),
        shards=shards,
    )


def read_tree(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[str, ImageTree]:
    """What a folder or a zip is called, and the images in it.

    Raises:
        DataError: it is neither, or can't be read.
    """
    if path.is_dir():
        return path.resolve().name, read_folder(path, max_pixels)
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        raise DataError(f"{printable(path)} is neither a folder nor a zip: {_WANTED}")
    return path.stem, read_zip(path, max_pixels)


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


def find_cifar10(folder: Path) -> Path | None:
    """The folder to give torchvision if `folder` is or holds `cifar-10-batches-py`, else None."""
    if folder.name == CIFAR10_FOLDER and folder.is_dir():
        return folder.parent
    return folder if (folder / CIFAR10_FOLDER).is_dir() else None


def _cifar10(folder: Path | None) -> Dataset:
    root = folder or default_data_root()
    local = find_cifar10(root)
    return _packaged("cifar10", *(fetch_cifar10(root) if local is None else read_cifar10(local)))


def _digits(test_fraction: float, seed: int) -> Dataset:
    classes, images = read_digits()
    train, test = stratified_split(images.labels, test_fraction=test_fraction, seed=seed)
    drawn = f"{test_fraction:.0%} of each class held out for testing, chosen with seed {seed}"
    return _packaged("digits", classes, images.take(train), images.take(test), (DIGITS_NOTE, drawn))


def _packaged(
    name: str, classes: tuple[str, ...], train: ImageSplit, test: ImageSplit, notes: tuple[str, ...] = ()
) -> Dataset:
    return Dataset(name, classes, train, test, notes, _digest(classes, (train, test)), packaged=True)


def _from_shards(
    data: str | Path, seed: int, test_fraction: float, max_pixels: int, progress: Update | None
) -> Dataset:
    from mobilenets.data.shards.opening import open_shards  # loads webdataset, which takes seconds

    found = open_shards(data, seed=seed, test_fraction=test_fraction, max_pixels=max_pixels, progress=progress)
    return Dataset(found.name, found.classes, found.sample, found.test, found.notes, found.digest, shards=found.train)


def _build(
    name: str, layout: Layout, seed: int, test_fraction: float, progress: Update | None, *, strict: bool
) -> Dataset:
    train, test, notes = layout.train, layout.test, layout.notes
    if test is None:
        known = with_digests(train, progress)
        assert known.digests is not None
        names = layout.classes if strict else None
        places = content_split(known.labels, known.digests, classes=names, test_fraction=test_fraction, seed=seed)
        train, test = (known.take(part) for part in places)
        drawn = f"about {test_fraction:.0%} of each class is held out for testing ({len(test):,} images)"
        notes = (*notes, f"{drawn}, by the images' content and seed {seed}")
    own = layout.validation
    parts = (train, test) if own is None else (train, test, own)
    return Dataset(decodable(name), layout.classes, train, test, notes, _digest(layout.classes, parts), own)


def without_listed(dataset: Dataset, excluded: Mapping[str, str], listed_in: str | Path) -> Dataset:
    """The data set less the images that a list names, in the split it had with them.

    Raises:
        DataError: it lists images that are not there, or a class has none left.
    """
    there = {source.name for split in _parts(dataset).values() for source in split.sources}
    if missing := [name for name in excluded if name not in there]:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise DataError(
            f"{listed_in} lists {missing[0]}{more}, not among the images of {dataset.name}: "
            "it was made for other images; run 'mobilenets doctor --fix' again"
        )
    return without(dataset, excluded, f"{Path(listed_in).name} lists them", where=f"the images in {listed_in}")


def without(dataset: Dataset, names: Collection[str], why: str, *, where: str = "the images left out") -> Dataset:
    """The data set less some of its images, in the split it had with them.

    Args:
        dataset: the images.
        names: of those to leave out; names of none of them are ignored.
        why: ends the note on it: `12 images left out, as {why}`.
        where: what the message calls them.

    Raises:
        DataError: a class has none left in a part.
    """
    splits: dict[str, ImageSplit] = {}
    digests = dict(dataset.excluded)
    for what, split in _parts(dataset).items():
        out = np.array([source.name in names for source in split.sources], dtype=np.bool_)
        digests |= {source.name: image_digest(source) for source in split.take(np.flatnonzero(out)).sources}
        kept = split.take(np.flatnonzero(~out))
        if len(empty := np.setdiff1d(split.labels, kept.labels)):
            name = dataset.classes[int(empty[0])]
            raise DataError(f"without {where}, class {name} has none to {what}: add good ones to it")
        splits[what] = kept
    count = len(digests) - len(dataset.excluded)
    train, test, *own = splits.values()
    return replace(
        dataset,
        train=train,
        test=test,
        validation=own[0] if own else None,
        notes=(*dataset.notes, f"{count:,} image{'s' * (count != 1)} left out, as {why}"),
        digest=_digest(dataset.classes, [*splits.values()]),
        excluded=digests,
    )


def _parts(dataset: Dataset) -> dict[str, ImageSplit]:
    own = {} if dataset.validation is None else {"choose by": dataset.validation}
    return {"train on": dataset.train, "test on": dataset.test, **own}


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
