"""What runs in Ray's workers: one lists the files, the others answer them; no PyTorch here.

A row of a table is all that goes from one to the next: a `Chunk` of a part to a worker, its `Answers` back.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

from mobilenets.data.archives import MemberSource, ZipArchive
from mobilenets.errors import BadImage, DataError, MobilenetsError, reworded
from mobilenets.files import temporary_folder
from mobilenets.image_formats import MAX_PIXELS
from mobilenets.runtime.classifier import Classifier, Prediction
from mobilenets.runtime.image_files import Found, FoundImage, Part, list_parts
from mobilenets.runtime.prediction_text import Writer, write_csv_rows, write_json_lines
from mobilenets.runtime.streaming import predict_found

ROW_WRITERS: Final[dict[str, Writer]] = {"csv": write_csv_rows, "jsonl": write_json_lines}
_CHUNK_FILES: Final = 256  # about a second's work, so that a part is shared out among the workers

Record = TypeVar("Record", "Chunk", "Answers")


@dataclass(frozen=True)
class Chunk:
    """Some files of a part, all one worker is given at a time.

    Attributes:
        part: the part's number.
        digest: that of the part.
        place: the chunk's place in the part, from 0.
        chunks: how many the part has.
        found: its files, pickled.
        changed: instead of files to answer, the word that the finished part was of others.
    """

    part: int
    digest: str
    place: int
    chunks: int
    found: bytes
    changed: bool = False


@dataclass(frozen=True)
class Answers:
    """The answers to a chunk.

    Attributes:
        part, digest, place, chunks, changed: those of the chunk.
        answered: how many images were answered.
        text: the answers as they are written, UTF-8.
        bad: name and reason of each file that can't be read, as JSON.
        fault: why the worker can't answer; empty where it can.
    """

    part: int
    digest: str
    place: int
    chunks: int
    changed: bool
    answered: int
    text: bytes
    bad: str
    fault: str


@dataclass(frozen=True)
class Listing:
    """What the lister goes through.

    Attributes:
        paths: files and folders as they were given.
        base: the folder relative ones start from.
        part_size: files a part.
        batch_size: images a call of the network; chunks are whole batches, so that each has the images it would have
            in a single process.
        finished: numbers and digests of the parts that are finished and not answered again.
    """

    paths: Sequence[Path]
    base: Path
    part_size: int
    batch_size: int
    finished: Mapping[int, str]

    def chunks(self) -> Iterator[Chunk]:
        """Every chunk there is to answer; the last one says so where a finished part was of other files."""
        size = self.batch_size * max(1, _CHUNK_FILES // self.batch_size)
        seen = 0
        for part in list_parts(self.paths, self.base, self.part_size):
            digest = self.finished.get(part.number)
            if digest is None:
                yield from _cut(part, size)
            elif digest == part.digest:
                seen += 1
            else:
                yield _changed(part.number)
                return
        if seen < len(self.finished):
            yield _changed(max(self.finished))


@dataclass(frozen=True)
class Loading:
    """How a worker opens the exported file and answers.

    Attributes:
        path: where the file is, for those who read about it.
        backend, precision, threshold: as `Classifier` has them.
        threads: a worker's cores.
        batch_size: images a call of the network.
        top: classes an answer lists.
        form: `csv` or `jsonl`.
        max_pixels: of how many pixels an image may be.
    """

    path: Path
    backend: str
    precision: str
    threshold: float
    threads: int
    batch_size: int
    top: int
    form: str
    max_pixels: int = MAX_PIXELS

    def open(self, files: Mapping[str, bytes]) -> Classifier:
        """Open the file from its content, which may have come from another machine."""
        with temporary_folder() as folder:
            copy = folder / self.path.name
            for name, content in files.items():
                (copy / name).parent.mkdir(exist_ok=True)
                (copy / name).write_bytes(content)
            try:
                return Classifier(
                    copy,
                    backend=self.backend,
                    precision=self.precision,
                    threshold=self.threshold,
                    threads=self.threads,
                    max_pixels=self.max_pixels,
                )
            except MobilenetsError as error:
                raise reworded(error, str(error).replace(str(copy), str(self.path))) from error


def read_files(path: Path) -> dict[str, bytes]:
    """An artifact's files as `Loading.open` takes them: of a single file, its content without a name."""
    if path.is_dir():
        return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.is_file()}
    return {"": path.read_bytes()}


def list_chunks(_: Any, listing: Listing) -> Iterator[Any]:
    """Make a table of each chunk."""
    for chunk in listing.chunks():
        yield to_table(chunk)


class RayWorker:
    """An actor with the exported file loaded."""

    def __init__(self, files: Any, loading: Loading) -> None:
        self._loading = loading
        self._classifier: Classifier | None = None
        self._fault = ""
        try:
            self._classifier = loading.open(import_module("ray").get(files))
        except (MobilenetsError, OSError) as error:
            self._fault = f"a worker can't open it: {error}"

    def __call__(self, table: Any) -> Any:
        """Answer a table of one chunk by one of its answers."""
        (chunk,) = from_table(Chunk, table)
        return to_table(self._answers(chunk))

    def _answers(self, chunk: Chunk) -> Answers:
        fault = self._fault
        text = io.StringIO()
        bad: list[tuple[str, str]] = []
        answered: list[Prediction] = []
        if self._classifier is not None and not chunk.changed:
            try:
                for record in _named(self._classifier, pickle.loads(chunk.found), self._loading):
                    if isinstance(record, BadImage):
                        bad.append((record.name, record.reason))
                    else:
                        answered.append(record)
            except MobilenetsError as error:
                fault = str(error).replace(str(self._classifier.artifact.path), str(self._loading.path))
        ROW_WRITERS[self._loading.form](answered, text)
        return Answers(
            part=chunk.part,
            digest=chunk.digest,
            place=chunk.place,
            chunks=chunk.chunks,
            changed=chunk.changed,
            answered=len(answered),
            text=text.getvalue().encode(),
            bad=json.dumps(bad),
            fault=fault,
        )


def to_table(record: Chunk | Answers) -> Any:
    """A record as a table of one row, the form in which Ray Data hands bytes on unharmed."""
    return import_module("pyarrow").table({name: [value] for name, value in asdict(record).items()})


def from_table(kind: type[Record], table: Any) -> list[Record]:
    """The records of a table's rows."""
    return [kind(**row) for row in table.to_pylist()]


def _named(classifier: Classifier, found: Sequence[Found], loading: Loading) -> Iterator[Prediction | BadImage]:
    """Answer files by the names they were given, which need not be where they are."""
    sources = map(_source, found)
    records = predict_found(classifier, sources, loading.batch_size, loading.top, loading.threads)
    for item, record in zip(found, records, strict=True):
        yield replace(record, name=item.name)


def _source(item: Found) -> FoundImage:
    if isinstance(item, BadImage) or not item.member:
        return item if isinstance(item, BadImage) else Path(item.path)
    try:
        return MemberSource(_archive(item.path), item.member, item.name, size=0)
    except DataError as error:  # it was readable when it was listed
        return BadImage(item.name, str(error))


@lru_cache(maxsize=4)
def _archive(path: str) -> ZipArchive:
    """One for all members a worker is given: opening reads the zip's whole directory."""
    return ZipArchive(Path(path))


def _cut(part: Part, size: int) -> Iterator[Chunk]:
    starts = range(0, len(part.found), size)
    for place, start in enumerate(starts):
        found = pickle.dumps(part.found[start : start + size])
        yield Chunk(part.number, part.digest, place, len(starts), found)


def _changed(number: int) -> Chunk:
    return Chunk(number, "", 0, 1, b"", changed=True)
