"""Hold out part of a data set: for testing with every class on both sides, for validation as far as images reach.

Folders and zips may grow, and an image must not change sides when others come to it. So each image is decided on by
itself: it is held out where the hash of its content, the seed and the purpose, a number evenly spread from 0 to 1, is
below the share. Its name and place do not matter, and copies of it land on the same side. The price is that the share
is met on average only: of n images of a class, n * share are held out with a standard deviation of
sqrt(n * share * (1 - share)), for a fifth of 60 images 12 with 3.1.

A small class may have all its images on one side. There the rule gives way: with none below the share, the image of the
least number is held out; with all below it, the one of the largest stays. An image added to such a class can take that
place, and the former holder moves back: out of the test images in the first case, which harms nothing, into them in the
second. What a network was trained on is therefore remembered too (`mobilenets.image_record`).

Data sets that a package delivers never grow, and keep the exact shares they have been published with, drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.decoding import worker_count
from mobilenets.data.loader import WHOLE, Share, TrainingBatch, TrainingImages, epoch_batches
from mobilenets.data.sources import ArraySource, EncodedSource, FileSource, ImageSource, ImageSplit
from mobilenets.errors import BadImagesError, DataError
from mobilenets.formatting import printable
from mobilenets.image_record import Digests, digest_array, digest_of
from mobilenets.limits import open_regular
from mobilenets.progress import Update

VALIDATION_SEED: Final = 0
"""Of every validation cut: networks that are compared, and all seeds of their training, must be scored on the same."""
SPARING: Final = 4
"""A class of so many training images gives one for validation even where the share would round to none."""
_VALIDATION_STREAM: Final = 1  # so that the cut is not drawn by the very numbers a test split was drawn by


@dataclass(frozen=True)
class Cut:
    """How validation images were cut from the training images.

    Attributes:
        fraction: share of each class.
        seed: the same seed cuts the same.
        by_content: whether each image is decided on by its content, or an exact share is drawn at random.
    """

    fraction: float
    seed: int = VALIDATION_SEED
    by_content: bool = False


def stratified_split(
    labels: NDArray[np.int64], *, test_fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split image positions into train and test, both in ascending order.

    Of each class the nearest whole number to `test_fraction` of its images is held out, at least one image and never
    all. scikit-learn's own `stratify` is not used, since it can leave a small class out of the test set.

    Args:
        labels: class index of each image, `[N]`.
        test_fraction: share of the images to hold out, between 0 and 1.
        seed: the same seed gives the same split.

    Raises:
        DataError: `test_fraction` or `seed` is out of range, or a class has fewer than 2 images.
    """
    _check(test_fraction, seed, "test_fraction")
    found, counts = np.unique(labels, return_counts=True)
    for label, count in zip(found, counts, strict=True):
        if count < 2:
            raise DataError(f"class {label} has {count} image: at least 2 are needed, to train and to test on")
    return hold_out(
        labels, lambda count: min(max(1, round(test_fraction * count)), count - 1), np.random.default_rng(seed)
    )


def content_split(
    labels: NDArray[np.int64], digests: Digests, *, classes: Sequence[str] | None, test_fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split image positions into train and test by content, both in ascending order; see the module.

    Args:
        labels: class index of each image, `[N]`.
        digests: content digest of each image, `[N]`.
        classes: their names, for messages; None lets a class go without test images that has not two to be parted.
        test_fraction: share of the images to hold out, between 0 and 1.
        seed: another seed holds out others.

    Raises:
        DataError: `test_fraction` or `seed` is out of range, or a class has not two different images.
    """
    _check(test_fraction, seed, "test_fraction")
    for label, name in enumerate(classes or ()):
        members = digests[labels == label]
        if len(np.unique(members)) < 2:
            few = "1 image" if len(members) == 1 else f"{len(members)} copies of the same image"
            wanted = "at least 2 different ones are needed, to train and to test on"
            raise DataError(f"class {printable(name)} has {few}: {wanted}")
    return _parted(_below(labels, test_fraction, _numbers(digests, b"test", seed), least=2))


def validation_split(
    labels: NDArray[np.int64], cut: Cut, digests: Digests | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split positions of training images into those that stay and those for validation, both in ascending order.

    A class of 4 images or more gives at least one. At least one stays for training, so a class of fewer images may have
    none in validation. Drawn at random, it is the nearest whole number to the fraction.

    Args:
        labels: class index of each training image, `[N]`.
        cut: which share, the seed, and how.
        digests: content digest of each image, `[N]`, for a cut by content.

    Raises:
        DataError: fraction or seed is out of range.
    """
    _check(cut.fraction, cut.seed, "validation_fraction")
    if cut.by_content:
        assert digests is not None
        numbers = _numbers(digests, b"validation", cut.seed)
        return _parted(_below(labels, cut.fraction, numbers, least=SPARING))

    def share(count: int) -> int:
        return min(max(round(cut.fraction * count), int(count >= SPARING)), count - 1)

    return hold_out(labels, share, np.random.default_rng((cut.seed, _VALIDATION_STREAM)))


def _check(fraction: float, seed: int, name: str) -> None:
    if not 0.0 < fraction < 1.0:
        raise DataError(f"{name} must lie between 0 and 1, not {fraction}: 0.2 holds out a fifth")
    if not 0 <= seed < 2**32:
        raise DataError(f"seed must lie between 0 and {2**32 - 1}, not {seed}")


def _numbers(digests: Digests, purpose: bytes, seed: int) -> Digests:
    """A number of each image, evenly spread over 64 bits; another purpose or seed gives others."""
    salt = seed.to_bytes(8, "big")
    hashed = b"".join(
        blake2b(digest.tobytes(), digest_size=8, person=purpose, salt=salt).digest() for digest in digests.astype(">u8")
    )
    return np.frombuffer(hashed, ">u8").astype(np.uint64)


def _below(labels: NDArray[np.int64], share: float, numbers: Digests, *, least: int) -> NDArray[np.bool_]:
    """Which images are held out, `[N]`: at least one of a class that has `least` of them, and never all of a class."""
    held: NDArray[np.bool_] = numbers < np.uint64(min(int(share * 2.0**64), 2**64 - 1))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        own = numbers[members]
        if held[members].all():
            held[members] = own != own.max()
        elif len(members) >= least and not held[members].any() and own.min() != own.max():
            held[members] = own == own.min()
    return held


def _parted(held: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    positions = np.arange(len(held), dtype=np.int64)
    return positions[~held], positions[held]


_CHUNK: Final = 256
_READ_BYTES: Final = 2**20
_READING: Final = "reading images to tell them apart"


def image_digest(source: ImageSource) -> int:
    """The digest of one image's bytes as stored; of an image that can't be read, that of its name.

    Unreadable images are never trained on, so such a digest only has to be the same every time.
    """
    if isinstance(source, FileSource):
        return _file_digest(source)
    if isinstance(source, EncodedSource):
        try:
            return digest_of(source.encoded())
        except BadImagesError:
            return _of_name(source)
    if isinstance(source, ArraySource):
        return digest_of(repr(source.pixels.shape).encode() + source.pixels.tobytes())
    try:
        image = source.open()
    except BadImagesError:
        return _of_name(source)
    return digest_of(repr(image.size).encode() + image.tobytes())


def image_digests(sources: Sequence[ImageSource], progress: Update | None = None) -> Digests:
    """The digests of images, uint64 `[N]`, in their order; files are read by several threads where that is faster.

    Args:
        sources: the images.
        progress: told of it.
    """
    digests: list[int] = []
    with ThreadPoolExecutor(worker_count(sources), thread_name_prefix="digest") as pool:
        chunks = (sources[start : start + _CHUNK] for start in range(0, len(sources), _CHUNK))
        for found in pool.map(lambda chunk: [image_digest(one) for one in chunk], chunks):
            digests += found
            if progress is not None:
                progress(_READING, len(digests), len(sources))
    return digest_array(digests)


def with_digests(split: ImageSplit, progress: Update | None = None) -> ImageSplit:
    """The same images with their digests, which are computed unless they are known."""
    return split if split.digests is not None else replace(split, digests=image_digests(split.sources, progress))


def _file_digest(source: FileSource) -> int:
    digest = blake2b(digest_size=8)
    try:
        with open_regular(source.path) as file:  # a pipe or a device in a folder of images would be read for ever
            while chunk := file.read(_READ_BYTES):
                digest.update(chunk)
    except OSError:
        return _of_name(source)
    return int.from_bytes(digest.digest(), "big")


def _of_name(source: ImageSource) -> int:
    return digest_of(b"unreadable\0" + source.name.encode("utf-8", "surrogateescape"))


def hold_out(
    labels: NDArray[np.int64], share: Callable[[int], int], random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take `share` of each class's count out; returns the positions that stay and those held out."""
    # One stream for all classes: with a fresh one each, equally large classes would be cut in the same places.
    held_out: list[NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held_out.append(random.permutation(members)[: share(len(members))])
    held = np.sort(np.concatenate(held_out)).astype(np.int64) if held_out else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels), dtype=np.int64), held), held


ALONE: Final = -1


def fold_of(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Which fold each image is held out in, `[N]`: every class spread evenly, a class's only image in none (`ALONE`).

    Unlike scikit-learn's, it takes classes with fewer images than folds.
    """
    random = np.random.default_rng(seed)
    fold = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        # Another first fold for each class, or small classes would all be held out in the same.
        fold[members] = (np.arange(len(members)) + random.integers(folds)) % folds if len(members) > 1 else ALONE
    return fold


def halves(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions of two halves, ascending, each with half of every class as nearly as can be.

    `data.splits` would refuse a class of one image, of which some test sets have many.
    """
    shuffled = np.random.default_rng(seed).random(len(labels))
    by_class = np.lexsort((shuffled, labels))
    return np.sort(by_class[::2]), np.sort(by_class[1::2])


def stratified_sample(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Positions of `count` images, ascending, as many of each class as of any other while it has some left.

    Equal shares and not proportional ones: a rare class stretches ranges too.

    Args:
        labels: class index of each image, `[N]`.
        count: how many; all where there are no more.
        seed: the same seed draws the same images.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Each image's place within its class: all first ones are drawn before any second one.
    _, first, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(first, counts)
    tie = np.random.default_rng((seed, 1)).random(len(labels))
    drawn = by_class[np.lexsort((tie, rank))][:count]
    return np.sort(drawn).astype(np.int64)


@runtime_checkable
class LabelledImages(TrainingImages, Protocol):
    """Images to train on whose classes are known beforehand, and that can be had in any order."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class indices `[N]`."""

    def stream(self, index_batches: Iterator[NDArray[np.int64]]) -> Iterator[TrainingBatch]:
        """See `PreparedImages.stream`."""


class BalancedImages:
    """`TrainingImages` whose epochs hold every class equally often; images come from another's."""

    def __init__(self, images: LabelledImages) -> None:
        self.images = images
        self.preprocessing = images.preprocessing

    def __len__(self) -> int:
        return len(self.images)

    def epoch(self, seed: int, batch_size: int, *, first: int = 0, share: Share = WHOLE) -> Iterator[TrainingBatch]:
        """See `TrainingImages`: as many images as there are, each class its equal part, some more than once."""
        order = balanced_order(self.images.labels, seed)
        return self.images.stream(epoch_batches(order, batch_size, first=first, share=share))


def balanced_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Positions of an epoch's images, `[N]`: each class present has N / K of them, or one more.

    A large class shows a part of its images, another part each epoch; a small one shows all of them before any comes
    again. Drawing with weights, the usual way, would leave both to chance.

    Args:
        labels: class indices `[N]`.
        seed: the same seed gives the same order.
    """
    random = np.random.default_rng(seed)
    present = np.unique(labels)
    quotas = np.full(len(present), len(labels) // len(present))
    quotas[random.permutation(len(present))[: len(labels) % len(present)]] += 1
    drawn = [_repeated(np.flatnonzero(labels == one), int(n), random) for one, n in zip(present, quotas, strict=True)]
    order: NDArray[np.int64] = random.permutation(np.concatenate(drawn)).astype(np.int64)
    return order


def _repeated(members: NDArray[np.intp], count: int, random: np.random.Generator) -> NDArray[np.intp]:
    """`count` of the members in random order, none a time more than another."""
    rounds = [random.permutation(members) for _ in range(-(-count // len(members)))]
    return np.concatenate(rounds)[:count] if rounds else members[:0]


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """A weight for each class, `[K]`, inverse to its number of images: N / (K n).

    Over the images the weights have mean 1, so that the learning rate means what it did. A class without images
    gets 0: nothing is to be weighed.

    Args:
        labels: class indices `[N]`.
        classes: K.
    """
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    weights = np.zeros(classes, dtype=np.float32)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights
