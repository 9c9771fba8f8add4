"""`predict`: classify images with an exported file, in threads here or by Ray on many cores; no PyTorch here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mobilenets.arguments import GivenPaths, paths_of
from mobilenets.errors import BadImage, DataError
from mobilenets.formatting import printable
from mobilenets.image_folders import LeftOut
from mobilenets.image_formats import MAX_PIXELS
from mobilenets.result import Result
from mobilenets.runtime.classifier import Classifier, Prediction
from mobilenets.runtime.prediction_text import prediction_record
from mobilenets.runtime.streaming import predict_files

if TYPE_CHECKING:  # Ray's engine and the progress protocol: a single image needs neither
    from mobilenets.progress import Progress
    from mobilenets.runtime.bulk.predict_many import ManySummary

Engine = Literal["threads", "ray"]


@dataclass(frozen=True, repr=False)
class ClassifiedImages(Result):
    """Images and what each was recognised as.

    Attributes:
        artifact: the exported file.
        predictions: an answer for each image that can be read, in the order of the files.
        bad: the others, each with its reason.
        left_out: files of the folders given that are no images.
    """

    artifact: Path
    predictions: tuple[Prediction, ...]
    bad: tuple[BadImage, ...]
    left_out: LeftOut = field(compare=False)

    def to_dict(self) -> dict[str, Any]:
        """`images`, each as `--json` prints it on a line; and `bad`, each with `file` and `reason`."""
        return {
            "images": [prediction_record(prediction) for prediction in self.predictions],
            "bad": [{"file": image.name, "reason": image.reason} for image in self.bad],
        }

    def _headline(self) -> str:
        bad = f"; {len(self.bad):,} can't be read" if self.bad else ""
        return f"{len(self.predictions):,} images classified by {printable(self.artifact.name)}{bad}"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [{"file": one.name, "class": one.label, "confidence": one.probability} for one in self.predictions]


def predict(
    artifact: str | Path,
    files: GivenPaths,
    *,
    top: int = 5,
    threshold: float | None = None,
    batch_size: int = 16,
    engine: Engine = "threads",
    out: str | Path | None = None,
    format: Literal["csv", "jsonl"] | None = None,
    address: str | None = None,
    workers: int | None = None,
    part_size: int | None = None,
    max_pixels: int = MAX_PIXELS,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ClassifiedImages | ManySummary:
    """Classify images with an exported file, going on past those that can't be read.

    All answers are in the result; `predict_files` gives them one by one, in bounded memory, and so does
    `engine="ray"`, which writes them into a folder.

    Args:
        artifact: the exported file, OpenVINO's folder, or a comparison's for the network it recommends.
        files: an image, a folder or a zip of images, or several.
        top: classes an answer lists, at most all there are.
        threshold: below this probability the class is `unknown`, 0 always answers; None is the file's own.
        batch_size: images a call of the network.
        engine: `ray` for very many images: Ray Data on all cores here or of a cluster, into the folder `out`.
        out: with Ray: folder for `part-00000.jsonl` and on, and `bad.jsonl`. The same call goes on where one was
            killed.
        format: with Ray: of these files, `jsonl` by default.
        address: with Ray: `auto`, `HOST:PORT` or `ray://HOST:PORT` of a cluster; None is this machine.
        workers: with Ray: processes that classify; None takes one for each `threads` cores.
        part_size: with Ray: images a file of answers holds, 10,000 by default.
        max_pixels: pixels an image may have: one of more is refused by its header.
        backend: the runtime: `onnxruntime`, `openvino`, `litert` or `executorch`; None is the file's default.
        precision: arithmetic to compute in; None likewise.
        threads: threads an answer may use; None takes every core, and 1 for each of Ray's workers.
        progress: told how many images are done.

    Returns:
        `ClassifiedImages`; with Ray a `ManySummary`, whose answers are in the folder.

    Raises:
        ArtifactError, BackendError, MissingExtraError: see `Classifier`; MissingExtraError also without Ray.
        DataError: a number out of range, one of Ray's arguments without `engine="ray"`, or no image there.
        RunError, ClusterError: with Ray, see `predict_many`.
    """
    if engine == "ray":
        from mobilenets.runtime.bulk.predict_many import PART_FILES, predict_many

        if out is None:
            raise DataError("`engine=ray` writes a folder: name it by `out`")
        return predict_many(
            artifact,
            files,
            out,
            address=address,
            workers=workers,
            threads=1 if threads is None else threads,
            format=format or "jsonl",
            top=top,
            batch_size=batch_size,
            backend=backend,
            precision=precision,
            threshold=threshold,
            part_size=PART_FILES if part_size is None else part_size,
            max_pixels=max_pixels,
            progress=progress,
        )
    if engine != "threads":
        raise DataError(f"`engine` is threads or ray, not {engine}")
    require_ray(out=out, format=format, address=address, workers=workers, part_size=part_size)
    stream = PredictionStream(
        artifact,
        files,
        top=top,
        threshold=threshold,
        batch_size=batch_size,
        max_pixels=max_pixels,
        backend=backend,
        precision=precision,
        threads=threads,
    )
    found = tuple(_reported(stream, progress))
    return ClassifiedImages(
        stream.artifact,
        tuple(one for one in found if isinstance(one, Prediction)),
        tuple(one for one in found if isinstance(one, BadImage)),
        stream.left_out,
    )


def require_ray(**arguments: object) -> None:
    """Refuse arguments that only Ray's engine has, by their names, unless they are None.

    Raises:
        DataError: one is given.
    """
    for name, value in arguments.items():
        if value is not None:
            raise DataError(f"`{name}` goes with `engine=ray`")


class PredictionStream:
    """Answers as they are made, of any number of images few in memory; iterate over it once.

    The arguments and the errors are those of `predict`; that there is no image is found at the end.

    Attributes:
        artifact: the exported file.
        left_out: files of the folders given that are no images, as far as these have been gone through.
    """

    def __init__(
        self,
        artifact: str | Path,
        files: GivenPaths,
        *,
        top: int,
        threshold: float | None,
        batch_size: int,
        max_pixels: int,
        backend: str | None,
        precision: str | None,
        threads: int | None,
    ) -> None:
        classifier = Classifier(
            artifact, backend=backend, threads=threads, precision=precision, threshold=threshold, max_pixels=max_pixels
        )
        self.artifact = classifier.artifact.path
        self.left_out = LeftOut()
        self._files = tuple(paths_of(files))
        self._records = predict_files(classifier, self._files, batch_size=batch_size, top=top, left_out=self.left_out)

    def __iter__(self) -> Iterator[Prediction | BadImage]:
        empty = True
        for record in self._records:
            empty = False
            yield record
        if empty:
            only = f" but {self.left_out}" if self.left_out else ""
            raise DataError(f"no images in {', '.join(map(printable, self._files))}{only}")


def _reported(records: Iterable[Prediction | BadImage], progress: Progress | None) -> Iterator[Prediction | BadImage]:
    for number, record in enumerate(records, 1):
        yield record
        if progress is not None:
            progress.update("classifying", number, None)
