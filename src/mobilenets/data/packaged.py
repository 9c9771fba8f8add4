"""Data sets that a package delivers: scikit-learn's digits and torchvision's CIFAR-10."""

from __future__ import annotations

import os
import pickle
import tarfile
import warnings
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from mobilenets.data.sources import ArraySource, ImageSplit
from mobilenets.errors import DataError
from mobilenets.machine import user_cache

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

# torchvision and scikit-learn take seconds to load: each is imported only when its data set is asked for.
DATA_VARIABLE: Final = "MOBILENETS_DATA"
DIGITS_NOTE: Final = "digits have a handedness: train them without flip (the quick recipe does)"

CIFAR10_FOLDER: Final = "cifar-10-batches-py"
"""What torchvision unpacks CIFAR-10 into."""
_DIGITS_TOP: Final = 16  # the scans' grey values go from 0 to 16


def default_data_root() -> Path:
    """Return where downloads are kept: `$MOBILENETS_DATA`, or `mobilenets` in the user's cache folder."""
    chosen = os.environ.get(DATA_VARIABLE)
    return Path(chosen).expanduser() if chosen else user_cache() / "mobilenets"


def read_digits() -> tuple[tuple[str, ...], ImageSplit]:
    """Return the classes and the 1,797 scans (8x8, grey, dark background) of scikit-learn's digits, unsplit."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255.0 / _DIGITS_TOP)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    pairs = enumerate(zip(images, labels, strict=True))
    sources = [ArraySource(f"{label}/{index:04d}", image) for index, (image, label) in pairs]
    return tuple(str(name) for name in bunch.target_names), ImageSplit(sources, labels)


def read_cifar10(root: Path) -> tuple[tuple[str, ...], ImageSplit, ImageSplit]:
    """Return classes, train and test images of the copy in `root`, checked against the published checksums.

    Raises:
        DataError: it is incomplete or damaged.
    """
    try:
        train, test = _open_cifar10(root, train=True), _open_cifar10(root, train=False)
    except (RuntimeError, OSError, pickle.UnpicklingError) as error:
        folder = root / CIFAR10_FOLDER
        raise DataError(
            f"{folder} is damaged or incomplete ({error}): remove it, then get {_archive_address()} anew"
        ) from error
    return tuple(train.classes), _cifar_split("train", train), _cifar_split("test", test)


def fetch_cifar10(root: Path) -> tuple[tuple[str, ...], ImageSplit, ImageSplit]:
    """Return CIFAR-10 from `root`; download and unpack it there (170 MB) unless it, or its archive, is there already.

    Raises:
        DataError: it can't be downloaded, or arrives damaged; the message says what to put where.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        _open_cifar10(root, download=True)
    except RuntimeError as error:  # how torchvision reports a wrong checksum
        raise DataError(f"cifar10 arrived damaged (its checksum differs): try again, or {_by_hand(root)}") from error
    except (OSError, HTTPException, EOFError, tarfile.TarError) as error:
        reason = getattr(error, "reason", None) or error  # urllib wraps what went wrong
        raise DataError(f"cifar10 can't be downloaded ({reason}): {_by_hand(root)}") from error
    return read_cifar10(root)


def _open_cifar10(root: Path, *, train: bool = True, download: bool = False) -> CIFAR10:
    from torchvision.datasets import CIFAR10

    with warnings.catch_warnings():
        # The published files are Python 2 pickles, which NumPy 2.4 reads with a warning; torchvision
        # does not suppress it.
        warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
        return CIFAR10(str(root), train=train, download=download)


def _archive_address() -> str:
    from torchvision.datasets import CIFAR10

    address: str = CIFAR10.url
    return address


def _by_hand(root: Path) -> str:
    return f"put {_archive_address()} into {root}, or set {DATA_VARIABLE} to a folder that has it"


def _cifar_split(part: str, data: CIFAR10) -> ImageSplit:
    images: NDArray[np.uint8] = data.data
    labels = np.asarray(data.targets, dtype=np.int64)
    names = (f"{part}/{data.classes[label]}/{index:05d}" for index, label in enumerate(labels))
    return ImageSplit([ArraySource(name, image) for name, image in zip(names, images, strict=True)], labels)
