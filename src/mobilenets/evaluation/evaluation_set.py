"""The images that networks and files are scored on, and which of them choices are made by.

Every verb that scores asks an `EvaluationSet` through a predict function, and so counts top-1 in one way. Choices are
made by the validation images of the training. Where these can't be known, the test images select: all of them where
files are only checked and ranked, one stratified half where many attempts are scored until one is good enough. In the
first case the test images stay in a `SealedTestSet` until everything is chosen, and the run's ledger records that they
were used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from mobilenets.data.datasets import Dataset
from mobilenets.data.loader import Indices, PreparedImages
from mobilenets.data.splits import halves
from mobilenets.errors import BadImage, DataError, ModelError, RunError
from mobilenets.evaluation.predictions import Predict, top1_accuracy
from mobilenets.evaluation.results import LedgerEntry
from mobilenets.limits import check_json, read_text
from mobilenets.progress import Update
from mobilenets.run_folder import DESCRIPTION, WEIGHTS

BATCH: Final = 64
MIN_SELECTING: Final = 2
"""Fewer images than this can't select anything."""
Positions = NDArray[np.intp]


class Images(Protocol):
    """Images by position: `PreparedImages` reads them from a data set, `ArrayImages` holds an array."""

    @property
    def names(self) -> Sequence[str]:
        """Their names, N of them."""

    @property
    def skipped(self) -> tuple[BadImage, ...]:
        """Those that could not be read and were left out on request."""

    def __len__(self) -> int:
        """N."""

    def batch(self, indices: Indices) -> NDArray[np.uint8]:
        """Those at `indices`, in that order: uint8 `[B, H, W, C]`."""

    def batches(self, batch_size: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """All in order with their labels, uint8 `[B, H, W, C]` and int64 `[B]`; the last batch holds the rest."""


class ArrayImages:
    """Images that lie in memory, uint8 `[N, H, W, C]`, with labels `[N]`; all 0 where there are none."""

    skipped: tuple[BadImage, ...] = ()

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64] | None = None) -> None:
        self._pixels = pixels
        self._labels = np.zeros(len(pixels), np.int64) if labels is None else labels
        self.names = tuple(f"image {number}" for number in range(len(pixels)))

    def __len__(self) -> int:
        return len(self._pixels)

    def batch(self, indices: Indices) -> NDArray[np.uint8]:
        """See `Images`."""
        return self._pixels[np.asarray(indices, dtype=np.int64)]

    def batches(self, batch_size: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """See `Images`."""
        for start in range(0, len(self), batch_size):
            rows = slice(start, start + batch_size)
            yield self._pixels[rows], self._labels[rows]


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Images to score predict functions on: everything that is asked them is scored the same way.

    Attributes:
        what: the images in words, e.g. `360 test images of digits`.
        images: the images by position.
        labels: true class of each, `[N]`; None for synthetic images.
        split: `validation`, `test`, or empty for images of no split.
        class_count: outputs that a predict function must have; None where any number is fine.
        notes: what the user should know of them, a sentence each.
        digest: of the data set they are of; empty for synthetic images.
        seed: cuts the test images in two halves where they select.
    """

    what: str
    images: Images
    labels: NDArray[np.int64] | None
    split: str = ""
    class_count: int | None = None
    notes: tuple[str, ...] = ()
    digest: str = ""
    seed: int = 0

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> Sequence[str]:
        """The images' names within the data set, N of them."""
        return self.images.names

    @property
    def skipped(self) -> tuple[BadImage, ...]:
        """The images that could not be read and were left out on request."""
        return self.images.skipped

    @property
    def truth(self) -> NDArray[np.int64]:
        """The labels `[N]` of images that have some.

        Raises:
            DataError: these are synthetic images.
        """
        if self.labels is None:
            raise DataError(f"{self.what} have no labels: accuracy needs images of a data set")
        return self.labels

    def batch(self, positions: Indices) -> NDArray[np.uint8]:
        """The images at `positions`, in that order: uint8 `[B, H, W, C]`."""
        return self.images.batch(positions)

    def batches(self, batch_size: int = BATCH) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """All images in order with their labels, as `evaluate_predictions` takes them."""
        return self.images.batches(batch_size)

    def predict(self, predict: Predict, what: str, progress: Update) -> NDArray[np.float32]:
        """A predict function's answers to all images, logits `[N, K]`, in the images' order.

        Args:
            predict: images uint8 `[B, H, W, C]` to logits `[B, K]`.
            what: names the work to `progress`, e.g. `scoring model.onnx`.
            progress: told of the images done.

        Raises:
            ModelError: the logits are not one row an image, or not of `class_count` classes.
        """
        answered: list[NDArray[np.float32]] = []
        done = 0
        for pixels, _ in self.batches():
            logits = predict(pixels)
            classes = logits.shape[-1] if self.class_count is None else self.class_count
            if logits.shape != (len(pixels), classes):
                raise ModelError(f"{len(pixels)} images were answered with logits {list(logits.shape)}: export again")
            answered.append(logits)
            done += len(pixels)
            progress(what, done, len(self))
        return np.concatenate(answered)

    def top1(self, logits: NDArray[np.float32], positions: Positions | None = None) -> float:
        """Accuracy of answers `[N, K]` in percent, of all images or those at `positions`.

        Raises:
            DataError: the images have no labels.
        """
        if positions is None:
            return top1_accuracy(self.truth, logits)
        return top1_accuracy(self.truth[positions], logits[positions])

    @property
    def validated(self) -> bool:
        """Whether they are validation images, all of which select; none is left to report on."""
        return self.split == "validation"

    @property
    def selection(self) -> Positions:
        """Positions of the images that select among many attempts: see `selecting_images`."""
        return self._cut[0]

    @property
    def report(self) -> Positions:
        """Positions of the others, which say what the selected attempt is worth."""
        return self._cut[1]

    @cached_property
    def _cut(self) -> tuple[Positions, Positions]:
        return selecting_images(self.truth, validated=self.validated, seed=self.seed)


def selecting_images(labels: NDArray[np.int64], *, validated: bool, seed: int) -> tuple[Positions, Positions]:
    """Which images select, and which are left to report on: positions, ascending.

    All validation images select. Of test images one half does, so that the other half can tell whether the selection
    holds on images that had no part in it.

    Args:
        labels: class index of each image, `[N]`.
        validated: whether they are validation images.
        seed: cuts the halves.
    """
    if validated:
        everything = np.arange(len(labels))
        return everything, everything[:0]
    return halves(labels, seed)


def labelled_set(
    prepared: PreparedImages, dataset: Dataset, split: str, *, seed: int = 0, class_count: int | None = None
) -> EvaluationSet:
    """The evaluation set of images that are read already; arguments as `EvaluationSet` and `evaluation_set` have them.

    Its notes are those of the data set, and a sentence on each image that was left out.
    """
    left_out = tuple(f"left out: {image.name}: {image.reason}" for image in prepared.skipped)
    return EvaluationSet(
        what=f"{len(prepared):,} {split} images of {dataset.name}",
        images=prepared,
        labels=prepared.labels,
        split=split,
        class_count=class_count,
        notes=(*dataset.notes, *left_out),
        digest=dataset.digest,
        seed=seed,
    )


class SealedTestSet:
    """Test images by which nothing may be chosen: decoded early, so that an unreadable one is known early.

    All that can be known of them before they are opened is how many there are.
    """

    def __init__(self, images: EvaluationSet) -> None:
        self._images = images
        self._until: str | None = None

    def __len__(self) -> int:
        return len(self._images)

    @property
    def skipped(self) -> tuple[BadImage, ...]:
        """The images that could not be read and were left out on request."""
        return self._images.skipped

    def keep_until(self, what: str | None) -> None:
        """Refuse to be opened until something has happened, e.g. `a network is chosen`; None ends that."""
        self._until = what

    def open(self, run: Path | None, command: str, *, repeats: bool = False) -> EvaluationSet:
        """Hand the images out to score a network, and record that in the ledger of its run folder.

        Args:
            run: the run folder; None for a network in memory or of a weight file, which has no ledger.
            command: the verb that scores it.
            repeats: whether an earlier reading was stopped before it left scores.

        Raises:
            RunError: training has not ended, something has yet to happen first, or the reading can't be recorded.
        """
        self._check_open()
        if run is not None:
            missing = [name for name in (WEIGHTS, DESCRIPTION) if not (run / name).exists()]
            if missing:
                raise RunError(
                    f"the test images are sealed until training has ended: {run} has no {missing[0]}; "
                    "continue it with `resume=True`"
                )
            record_reading(run, command, len(self), self._images.digest, repeats=repeats)
        return self._images

    def seen(self) -> EvaluationSet:
        """The images of runs that have been scored, to show which they got wrong; this is no new reading.

        Raises:
            RunError: something has yet to happen first.
        """
        self._check_open()
        return self._images

    def _check_open(self) -> None:
        if self._until is not None:
            raise RunError(f"the test images are sealed until {self._until}: nothing may be chosen by them")


LEDGER = "test_reads.jsonl"
_READING = TypeAdapter(LedgerEntry)


def record_reading(
    run: Path, command: str, images: int, digest: str, *, repeats: bool = False
) -> tuple[LedgerEntry, ...]:
    """Write down that test images are about to be read, and return the earlier readings of the same data.

    Args:
        run: the run folder of the network that is scored.
        command: the verb that scores it.
        images: how many.
        digest: of the data set they are of.
        repeats: whether an earlier reading was stopped before it left scores.

    Raises:
        RunError: the ledger can't be read or written: an unrecorded reading is none.
    """
    before = readings(run)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps(asdict(LedgerEntry(now, command, images, digest, repeats))) + "\n"
    path = run / LEDGER
    try:
        torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        with path.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + line)
    except OSError as error:
        raise RunError(
            f"{path} can't be written ({error.strerror or error}), so that this reading of the test images would go "
            "unrecorded; make the folder writable, or score a copy of it"
        ) from error
    return tuple(reading for reading in before if reading.digest == digest)


def record_for(run: object, command: str, images: int, digest: str) -> None:
    """Record a reading where the network is that of a run folder; one in memory or of a weight file has no ledger.

    Raises:
        RunError: as `record_reading`.
    """
    folder = ledger_folder(run)
    if folder is not None:
        record_reading(folder, command, images, digest)


def ledger_folder(run: object) -> Path | None:
    """The run folder whose ledger records readings; None for a network in memory or of a weight file."""
    if isinstance(run, str | Path) and (Path(run) / DESCRIPTION).is_file():
        return Path(run)
    return None


def readings(run: Path) -> tuple[LedgerEntry, ...]:
    """All readings recorded in a run folder, the first first; none where nothing was.

    Raises:
        RunError: the ledger can't be read, or a line of it is damaged. A torn last line (a process killed while
            writing) is left out: its images were not handed out yet.
    """
    path = run / LEDGER
    try:
        lines = read_text(path).split("\n")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}, which says when test images were read, can't be read: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                found.append(_READING.validate_json(check_json(line)))
        except ValueError as error:  # also pydantic's ValidationError
            if number < len(lines) and not _torn(line):
                raise RunError(f"{path}, line {number} is damaged: fix it, or remove the line") from error
    return tuple(found)


def _torn(line: str) -> bool:
    """Whether a line is only the beginning of one."""
    return line.startswith("{") and not line.endswith("}")
