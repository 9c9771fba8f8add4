"""`mobilenets predict`: classify images with an exported file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Optional

import tyro

from mobilenets.cli.options import OptionalInteger, OptionalNumber, OptionalPath, OptionalText, arguments_of, parse
from mobilenets.cli.streams import say, warn
from mobilenets.errors import BadImage, DataError
from mobilenets.formatting import duration, plural
from mobilenets.image_formats import MAX_PIXELS
from mobilenets.runtime.classifier import Prediction
from mobilenets.runtime.prediction_text import WRITERS
from mobilenets.workflows.predict import PredictionStream, require_ray

ABOUT = """Classify images with an exported file. It needs no PyTorch.

Folders and zips are searched for images. Those that can't be read are listed at the end; the exit code is then 1.

Example:
  mobilenets predict flowers.onnx garden.jpg
    94.1%  ██████████████████▊   tulip
     5.2%  █                     poppy

  mobilenets predict flowers.onnx photos/ --format csv > answers.csv
  mobilenets predict flowers.onnx photos/ --engine ray --out answers
"""

_SHOWN_AFTER_SECONDS = 2.0
_LOG_SECONDS = 30.0  # between two lines of a log file


class Files(tuple[Path, ...]):
    """Files and folders as they were given."""

    __slots__ = ()


# For a default of `tuple[Path, ...]`, too, tyro would import typeguard; not for a class of our own.
_Files = Annotated[
    Files,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="FILE|FOLDER",
        instance_from_str=lambda arguments: Files(map(Path, arguments)),
        is_instance=lambda value: isinstance(value, Files),
        str_from_instance=lambda value: [str(path) for path in value],
    ),
]
_Format = Optional[Literal["table", "csv", "jsonl"]]  # noqa: UP045


@dataclass(frozen=True)
class PredictOptions:
    """Options of `predict`."""

    artifact: tyro.conf.Positional[Path]
    """Exported file, or OpenVINO's folder."""
    files: tyro.conf.Positional[_Files]
    """Images, folders of images and zips of images."""
    top: int = 5
    """How many classes an answer lists."""
    threshold: OptionalNumber = None
    """Below this probability the answer is "unknown"; default: the file's own. 0 always answers."""
    batch_size: int = 16
    """Images a call of the network."""
    engine: Literal["threads", "ray"] = "threads"
    """ray for very many images: Ray Data on all cores here or of a cluster, into a folder; a killed job goes on."""
    out: OptionalPath = None
    """With --engine ray: folder for part-00000.jsonl and on, and bad.jsonl."""
    format: _Format = None
    """How answers are written; default: table, with --engine ray jsonl, since it writes no table."""
    address: OptionalText = None
    """With --engine ray: auto, HOST:PORT or ray://HOST:PORT of a cluster; default: this machine."""
    workers: OptionalInteger = None
    """With --engine ray: processes that classify; default: one for each --threads cores."""
    part_size: OptionalInteger = None
    """With --engine ray: images a file of answers holds; after a kill, parts that are not whole are made anew;
    default: 10,000."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can't take all memory."""
    backend: OptionalText = None
    """onnxruntime, openvino, litert or executorch; default: the file's own."""
    precision: OptionalText = None
    """fp32, bf16, fp16 or int8, as far as file and processor have it; default: the file's own."""
    threads: OptionalInteger = None
    """Threads an answer may use; default: every core, and with --engine ray one for each worker."""
    json: bool = False
    """The same as --format jsonl: one JSON object a line. With --engine ray the summary is one, too."""


def main(argv: Sequence[str]) -> int:
    """Run the verb; 1 where some files can't be read, 2 where none can."""
    options = parse(PredictOptions, argv, "predict", ABOUT)
    if not options.files:
        raise DataError("no image to classify: name files or folders after the exported file")
    return _by_ray(options) if options.engine == "ray" else _by_threads(options)


def _by_threads(options: PredictOptions) -> int:
    """Write answers as they are made: of any number of images few are in memory."""
    if options.out is not None:
        raise DataError("`out` goes with `engine=ray`; default: answers go to standard output, --format csv > FILE")
    require_ray(address=options.address, workers=options.workers, part_size=options.part_size)
    asked = ("top", "threshold", "batch_size", "max_pixels", "backend", "precision", "threads")
    stream = PredictionStream(options.artifact, options.files, **{name: getattr(options, name) for name in asked})
    bad: list[BadImage] = []
    answered = _Count()
    write = WRITERS["jsonl" if options.json else options.format or "table"]
    write(_good(_reported(stream), bad, answered), sys.stdout)
    sys.stdout.flush()
    if stream.left_out:
        warn(f"mobilenets: {stream.left_out}")
    if not bad:
        return 0
    warn(f"mobilenets: {plural(len(bad), 'image')} of {answered.number + len(bad):,} can't be read:")
    for image in bad:
        warn(f"  {image}")
    return 1 if answered.number else 2


@dataclass
class _Count:
    number: int = 0


def _good(records: Iterable[Prediction | BadImage], bad: list[BadImage], answered: _Count) -> Iterator[Prediction]:
    for record in records:
        if isinstance(record, BadImage):
            bad.append(record)
        else:
            answered.number += 1
            yield record


def _reported(records: Iterable[Prediction | BadImage]) -> Iterator[Prediction | BadImage]:
    """Say on stderr how far it is, once it takes long; not where the answers themselves fill the screen.

    Without rich, which takes as long to load as an image to classify.
    """
    screen = sys.stderr.isatty()
    started = time.monotonic()
    said = started + _SHOWN_AFTER_SECONDS - (interval := 0.2 if screen else _LOG_SECONDS)
    shown = False
    for number, record in enumerate(records, 1):
        yield record
        now = time.monotonic()
        if now - said >= interval and not sys.stdout.isatty():
            said, shown = now, True
            line = f"{number:,} images, {number / (now - started):,.0f} a second"
            print(f"\r{line:<50}" if screen else line, end="" if screen else "\n", file=sys.stderr, flush=True)
    if shown and screen:
        print(f"\r{'':<50}\r", end="", file=sys.stderr, flush=True)


def _by_ray(options: PredictOptions) -> int:
    """Let Ray write a folder of answers, and print what came of it."""
    import json

    from mobilenets.cli.progress import Live
    from mobilenets.cli.streams import console
    from mobilenets.runtime.bulk.predict_many import ManySummary
    from mobilenets.workflows.predict import predict

    if options.out is None:
        raise DataError("`engine=ray` writes a folder: name it by `out`")
    if options.format == "table":
        raise DataError("`engine=ray` writes csv or jsonl, no table")
    started = time.monotonic()
    with Live(console(stderr=True)) as live:
        summary = predict(**arguments_of(options), progress=live)
    assert isinstance(summary, ManySummary)
    seconds = time.monotonic() - started
    if summary.left_out:
        warn(f"mobilenets: {summary.left_out}")
    if options.json:
        print(json.dumps({**summary.to_dict(), "seconds": round(seconds, 1)}))
    else:
        before = f", {summary.parts_before:,} of them before" if summary.parts_before else ""
        parts = f"{plural(summary.parts, 'part')}{before} in {summary.out}"
        say(f"{plural(summary.answered, 'image')} classified in {duration(seconds)}; {parts}")
        if summary.bad:
            say(f"{summary.bad:,} can't be read; {summary.bad_list} lists them")
    return (1 if summary.answered else 2) if summary.bad else 0
