"""Answering very many images on all cores of this machine or a cluster, by Ray Data; no PyTorch here.

    summary = predict_many("flowers.onnx", "photos", "answers")
    print(summary.answered, summary.bad)

The files are cut into parts, a part into chunks that Ray hands to its workers. When a part's chunks are all back its
answers are written, whole; what is not yet finished when the process ends is answered by the next one.
"""

from __future__ import annotations

import csv
import html
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

from mobilenets.arguments import GivenPaths, check_counts, check_threads, paths_of
from mobilenets.errors import ArtifactError, ClusterError, DataError, RunError, first_line
from mobilenets.files import check_writable
from mobilenets.formatting import decodable, plural, printable
from mobilenets.image_folders import LeftOut
from mobilenets.image_formats import MAX_PIXELS
from mobilenets.limits import parse_json
from mobilenets.progress import Progress, Silent
from mobilenets.result import Result
from mobilenets.runtime.bulk.answer_folder import BAD, AnswerFolder, FinishedPart, open_answer_folder
from mobilenets.runtime.bulk.session import ray_session
from mobilenets.runtime.bulk.worker import (
    ROW_WRITERS,
    Answers,
    Listing,
    Loading,
    RayWorker,
    from_table,
    list_chunks,
    read_files,
)
from mobilenets.runtime.classifier import Classifier
from mobilenets.runtime.image_files import find_images
from mobilenets.runtime.prediction_text import csv_head

PART_FILES: Final = 10_000
_FORMAT: Final = 1


@dataclass(frozen=True, repr=False)
class ManySummary(Result):
    """What came of very many images; the answers themselves are in the folder, which `answers` reads.

    Attributes:
        out: the folder with the answers.
        answered: images answered, earlier ones included.
        bad: files that can't be read, likewise; `bad_list` names them.
        parts: files with answers.
        parts_before: how many of them were finished before this call.
        left_out: files of the folders given that are no images.
    """

    out: Path
    answered: int
    bad: int
    parts: int
    parts_before: int
    left_out: LeftOut = field(default_factory=LeftOut, compare=False)

    @property
    def bad_list(self) -> Path:
        """A JSON object a line, `file` and `reason`."""
        return self.out / BAD

    def answers(self) -> Iterator[dict[str, object]]:
        """Read the answers from the folder, one at a time: `file`, `class` and `confidence`."""
        for path in sorted(self.out.glob("part-*.csv")):
            with path.open(encoding="utf-8", newline="") as table:
                for row in csv.DictReader(table):
                    yield _row(row)
        for path in sorted(self.out.glob("part-*.jsonl")):
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    yield _row(json.loads(line))

    def to_dict(self) -> dict[str, Any]:
        """The folder and the counts, as `--json` prints them, for JSON."""
        counts = {name: getattr(self, name) for name in ("answered", "bad", "parts", "parts_before")}
        return {"out": str(self.out), **counts, "bad_list": str(self.bad_list)}

    def _headline(self) -> str:
        bad = f"; {self.bad:,} can't be read" if self.bad else ""
        return f"{plural(self.answered, 'image')} classified, {plural(self.parts, 'part')} in {self.out}{bad}"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return list(self.answers())

    def _repr_html_(self) -> str:
        """The headline alone: a table would read all the answers."""
        return f"<p>{html.escape(self._headline())}</p>"


def _row(answer: Mapping[str, Any]) -> dict[str, object]:
    return {"file": answer["file"], "class": answer["label"], "confidence": float(answer["probability"])}


def predict_many(
    artifact: str | Path,
    paths: GivenPaths,
    out: str | Path,
    *,
    address: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    format: Literal["csv", "jsonl"] = "jsonl",
    top: int = 5,
    batch_size: int = 16,
    backend: str | None = None,
    precision: str | None = None,
    threshold: float | None = None,
    part_size: int = PART_FILES,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> ManySummary:
    """Recognise the images in files and folders on every core of this machine, or of a Ray cluster.

    Workers have a copy of the exported file sent to them; pictures they read by their paths, so on a cluster these lie
    in a folder that all machines share, and mobilenets is installed on them. Answers are those of `predict_files`, in
    its order.

    Args:
        artifact: the exported file, or OpenVINO's folder.
        paths: a file, a folder or a zip, or several; the last two are searched as `find_images` does.
        out: folder for `part-00000.jsonl` and on, and `bad.jsonl`. The same call again goes on where one was killed.
        address: `auto`, `HOST:PORT` or `ray://HOST:PORT` of a cluster; None is this machine.
        workers: processes that answer; None takes as many as there are cores, divided by `threads`.
        threads: cores a worker decodes and computes on.
        format: how answers are written.
        top: how many classes each answer lists, at most all there are.
        batch_size: images a call of the network.
        backend: the runtime; None takes the file's default.
        precision: arithmetic to compute in; None likewise.
        threshold: below this probability the answer is `unknown`; None takes the file's own.
        part_size: files a part.
        max_pixels: of how many pixels an image may be; see `Classifier`.
        progress: told how many files are done of those there are, as soon as these are counted.

    Raises:
        ArtifactError, BackendError, MissingExtraError: as `Classifier` does; MissingExtraError also without Ray.
        DataError: a number that can't be, no path, or nothing found there.
        RunError: the folder is another job's, in use, or can't be written; or the files are others than before.
        ClusterError: the cluster can't be reached, is too small, or its workers keep dying.
    """
    check_counts(
        threads=threads, top=top, batch_size=batch_size, part_size=part_size, workers=1 if workers is None else workers
    )
    if format not in ROW_WRITERS:
        raise DataError(f"format is {format}; it is {' or '.join(ROW_WRITERS)}")
    given = tuple(paths_of(paths))
    files = _FileCount(given)
    check_threads(threads)
    check_writable(Path(out))
    # Opened here, too: what is wrong with it is said before anything is started, and all workers are told one choice.
    classifier = Classifier(
        artifact, backend=backend, precision=precision, threshold=threshold, threads=1, max_pixels=max_pixels
    )
    loading = Loading(
        path=classifier.artifact.path,
        backend=classifier.backend.name,
        precision=classifier.backend.precision,
        threshold=classifier.threshold,
        threads=threads,
        batch_size=batch_size,
        top=min(top, len(classifier.classes)),
        form=format,
        max_pixels=max_pixels,
    )
    manifest = {
        "format": _FORMAT,
        "artifact": classifier.artifact.description.digest,
        "files": [decodable(str(path)) for path in given],
        "part_size": part_size,
        **{name: value for name, value in vars(loading).items() if name not in ("path", "threads", "max_pixels")},
    }
    del classifier
    with open_answer_folder(Path(out), manifest, format) as folder, ray_session(address, Path(out)) as ray:
        before = len(folder.finished)
        listing = Listing(given, Path.cwd(), part_size, batch_size, dict(folder.finished))
        count = _count_workers(ray, workers, threads, local=address is None)
        answers = _answers_of_client if (address or "").startswith("ray://") else _answers
        _collect(
            answers(ray, read_files(loading.path), listing, loading, count), folder, loading, files.report_to(progress)
        )
        folder.conclude()
    if not folder.finished:
        raise DataError(f"no images in {', '.join(map(printable, given))}")
    return ManySummary(folder.path, folder.answered, folder.bad, len(folder.finished), before, files.left_out())


class _FileCount:
    """Counts in a thread of its own how many files there are, while they are classified already."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._total: int | None = None
        self._left_out = LeftOut()
        self._thread = threading.Thread(target=self._count, name="count", daemon=True)

    def report_to(self, progress: Progress | None) -> Callable[[int, int], None]:
        """Begin to count; what is returned reports how many are done in this call, after so many in earlier ones."""
        self._thread.start()
        told = progress or Silent()

        def report(done: int, before: int) -> None:
            known = self._total is not None and self._total >= done + before
            told.update("classifying", done, self._total - before if self._total is not None and known else None)

        return report

    def left_out(self) -> LeftOut:
        """What is no image among the files, once they are all counted."""
        self._thread.join()
        return self._left_out

    def _count(self) -> None:
        self._total = sum(1 for _ in find_images(self._paths, self._left_out))


def _count_workers(ray: Any, asked: int | None, threads: int, *, local: bool) -> int:
    """As many workers as asked for, or as there are cores for; on this machine, more would wait for ever.

    A cluster may grow when more are asked for than it has cores for.
    """
    cores = int(ray.cluster_resources().get("CPU", 0))
    wanted = threads if asked is None else asked * threads
    if wanted > cores and (local or asked is None):
        what = f"{threads} threads" if asked is None else f"{asked} workers with {threads} threads each"
        where = "this machine" if local else "the cluster"
        raise ClusterError(f"{what} want {wanted} cores, {where} has {cores} for them; ask for fewer")
    return cores // threads if asked is None else asked


def _answers(
    ray: Any, content: Mapping[str, bytes], listing: Listing, loading: Loading, workers: int
) -> Iterator[Answers]:
    """Have Ray Data list, answer and return, in whatever order chunks are done, few of them in memory at a time.

    A chunk whose worker dies Ray gives to another, until for half an hour none has got on.
    """
    files = ray.put(content)  # held until the end: a worker that is started again asks for it
    # The list of files is made by a worker as the others need it, so that no process ever has all of it.
    chunks = ray.data.from_items([{"listing": 0}]).map_batches(
        list_chunks, fn_kwargs={"listing": listing}, batch_format="pyarrow", num_cpus=0
    )
    answers = chunks.map_batches(
        RayWorker,
        fn_constructor_args=(files, loading),
        compute=ray.data.ActorPoolStrategy(size=workers),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=loading.threads,
    )
    answers.context.target_max_block_size = 1  # a block a chunk: handed on at once, not gathered up to 128 MB
    answers.context.enable_progress_bars = False
    try:
        for table in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from from_table(Answers, table)
    except (ray.exceptions.RayError, ray.data.exceptions.ExecutionTimeoutError) as error:
        raise ClusterError(f"Ray's workers can't go on: {first_line(error)}; what is finished is kept") from error


class _ClusterDriver:
    """An actor that runs `_answers` within the cluster, for a process outside that is only a client of it."""

    def __init__(self, content: Mapping[str, bytes], listing: Listing, loading: Loading, workers: int) -> None:
        self._answers = _answers(import_module("ray"), content, listing, loading, workers)

    def some(self) -> list[Answers]:
        """The next answers; none are left when there are none."""
        return list(islice(self._answers, 1))


def _answers_of_client(
    ray: Any, content: Mapping[str, bytes], listing: Listing, loading: Loading, workers: int
) -> Iterator[Answers]:
    """The same as `_answers`, which Ray's client can't do by itself."""
    try:
        driver = ray.remote(num_cpus=0)(_ClusterDriver).remote(content, listing, loading, workers)
        while some := ray.get(driver.some.remote()):
            yield from some
    except ray.exceptions.RayError as error:
        raise ClusterError(f"Ray's workers can't go on: {first_line(error)}; what is finished is kept") from error


def _collect(
    answers: Iterator[Answers], folder: AnswerFolder, loading: Loading, report: Callable[[int, int], None]
) -> None:
    """Put chunks together to parts and write those that are whole."""
    begun: dict[int, list[Answers]] = {}
    before, done = folder.answered + folder.bad, 0
    with closing(answers):  # type: ignore[type-var]  # a generator
        for one in answers:
            if one.changed:
                raise RunError(
                    f"{folder.path}: the files found are no longer those part {one.part} was made of; "
                    "give the same files, or choose another folder"
                )
            if one.fault:
                raise ArtifactError(f"{loading.path}: {one.fault}")
            begun.setdefault(one.part, []).append(one)
            done += one.answered + len(parse_json(one.bad))
            report(done, before)
            if len(begun[one.part]) == one.chunks:
                _finish(begun.pop(one.part), folder, loading)


def _finish(chunks: list[Answers], folder: AnswerFolder, loading: Loading) -> None:
    chunks.sort(key=lambda chunk: chunk.place)
    text = b"".join(chunk.text for chunk in chunks)
    if loading.form == "csv":
        text = csv_head(loading.top).encode() + text
    bad = [pair for chunk in chunks for pair in parse_json(chunk.bad)]
    answered = sum(chunk.answered for chunk in chunks)
    folder.add(FinishedPart(chunks[0].part, chunks[0].digest, answered, len(text), bad), text)
