"""Classifying files and folders of any number of images in bounded memory; no PyTorch here."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mobilenets.arguments import GivenPaths, check_counts, paths_of
from mobilenets.data.archives import MemberSource
from mobilenets.errors import BadImage, BadImagesError
from mobilenets.formatting import decodable
from mobilenets.image_folders import LeftOut
from mobilenets.machine import usable_cores
from mobilenets.runtime.classifier import Classifier, Prediction
from mobilenets.runtime.image_files import FoundImage, find_images

_BATCHES_AHEAD = 2

Prepared = tuple[str, NDArray[np.uint8]] | BadImage
"""An image ready for the network with its name, or why there is none."""


def predict_files(
    classifier: Classifier,
    paths: GivenPaths,
    *,
    batch_size: int = 16,
    top: int = 5,
    left_out: LeftOut | None = None,
) -> Iterator[Prediction | BadImage]:
    """Recognise the images in files and folders, going on past those that can't be read.

    Images are decoded by a thread a core ahead of the network, at most two batches of them; nothing is kept of what
    has been answered.

    Args:
        classifier: the loaded file.
        paths: a file, a folder or a zip, or several; the last two are searched as `find_images` does.
        batch_size: images a call of the network. 1 where answers matter one by one; more is faster for a folder.
        top: how many classes each answer lists, at most all there are.
        left_out: counts the files of folders that are no images, by extension and folder.

    Yields:
        For each image, in the order of the files, its answer or why it can't be read.

    Raises:
        DataError: a `batch_size` or `top` that can't be, or what is no path.
    """
    check_counts(batch_size=batch_size, top=top)
    return predict_found(classifier, find_images(paths_of(paths), left_out), batch_size, top, usable_cores())


def predict_found(
    classifier: Classifier, found: Iterator[FoundImage], batch_size: int, top: int, decoders: int
) -> Iterator[Prediction | BadImage]:
    """Recognise what `find_images` found, or a piece of it, as `predict_files` does, decoding in `decoders` threads."""
    prepared = _prepared(classifier, found, batch_size * _BATCHES_AHEAD, decoders)
    with closing(prepared):
        while batch := list(islice(prepared, batch_size)):
            yield from _answered(classifier, batch, top)


def _answered(classifier: Classifier, batch: list[Prepared], top: int) -> Iterator[Prediction | BadImage]:
    good = [item for item in batch if not isinstance(item, BadImage)]
    answers: Iterator[Prediction] = iter(())
    if good:
        names, images = zip(*good, strict=True)
        answers = iter(classifier.answer(np.stack(images), names, top=top))
    for item in batch:
        yield item if isinstance(item, BadImage) else next(answers)


def _prepared(classifier: Classifier, found: Iterator[FoundImage], ahead: int, decoders: int) -> Generator[Prepared]:
    """Decode in threads, `ahead` images before the one handed out, in the order found."""

    def prepare(item: FoundImage) -> Prepared:
        if isinstance(item, BadImage):
            return item
        try:
            if isinstance(item, MemberSource):
                return item.location, classifier.prepare(item.encoded(), item.location)
            name = decodable(str(item))
            return name, classifier.prepare(item, name)
        except BadImagesError as error:
            return error.bad[0]

    pool = ThreadPoolExecutor(decoders, thread_name_prefix="decode")
    try:
        waiting: deque[Future[Prepared]] = deque(pool.submit(prepare, item) for item in islice(found, ahead))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(prepare, item) for item in islice(found, 1))
    finally:
        pool.shutdown(cancel_futures=True)
