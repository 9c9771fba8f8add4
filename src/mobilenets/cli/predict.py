"""`mobilenets predict`: classify images with an exported file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mobilenets.cli.options import parse
from mobilenets.cli.predict_options import PredictOptions
from mobilenets.cli.streams import warn
from mobilenets.errors import BadImage, DataError
from mobilenets.image_folders import LeftOut
from mobilenets.quoting import printable
from mobilenets.run_folder import recommended_file
from mobilenets.runtime.classifier import Classifier, Prediction
from mobilenets.runtime.prediction_text import WRITERS
from mobilenets.runtime.streaming import predict_files

ABOUT = """Classify images with an exported file. It needs no PyTorch.

Folders and zips are searched for images. Those that can't be read are listed at the end; the exit code is then 1.

Example:
  mobilenets predict flowers.onnx garden.jpg
    94.1%  ██████████████████▊   tulip
     5.2%  █                     poppy

  mobilenets predict flowers.onnx photos/ --format csv > answers.csv
  mobilenets predict flowers.onnx photos/ --engine ray --out answers
"""


_QUIET_SECONDS = 2.0
_LOG_SECONDS = 30.0  # between two lines of a log file


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = parse(PredictOptions, argv, "predict", ABOUT)
    if (file := recommended_file(options.artifact)) is not None:
        options = replace(options, artifact=file)
    if not options.files:
        raise DataError("no image to classify: name files or folders after the exported file")
    if options.engine == "ray":
        from mobilenets.cli.predict_many import predict_in_parts

        return predict_in_parts(options)
    for name in ("out", "address", "workers"):
        if getattr(options, name) is not None:
            instead = "; without it answers go to standard output: --format csv > FILE" if name == "out" else ""
            raise DataError(f"--{name} goes with --engine ray{instead}")
    classifier = Classifier(
        options.artifact,
        backend=options.backend,
        threads=options.threads,
        precision=options.precision,
        threshold=options.threshold,
        max_pixels=options.max_pixels,
    )
    left_out = LeftOut()
    records = predict_files(
        classifier, options.files, batch_size=options.batch_size, top=options.top, left_out=left_out
    )
    bad: list[BadImage] = []
    answered = _Count()
    WRITERS["jsonl" if options.json else options.format or "table"](
        _good(_reported(records), bad, answered), sys.stdout
    )
    return _conclude(answered.number, bad, options.files, left_out)


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


def _conclude(answered: int, bad: Sequence[BadImage], files: Sequence[Path], left_out: LeftOut) -> int:
    if not answered and not bad:
        only = f" but {left_out}" if left_out else ""
        raise DataError(f"no images in {', '.join(map(printable, files))}{only}")
    sys.stdout.flush()
    if left_out:
        warn(f"mobilenets: {left_out}")
    if not bad:
        return 0
    count = "1 image" if len(bad) == 1 else f"{len(bad):,} images"
    warn(f"mobilenets: {count} of {answered + len(bad):,} can't be read:")
    for image in bad:
        warn(f"  {image}")
    return 1 if answered else 2


def _reported(records: Iterable[Prediction | BadImage]) -> Iterator[Prediction | BadImage]:
    """Say on stderr how far it is, once it takes long; not where the answers themselves fill the screen."""
    screen = sys.stderr.isatty()
    started = time.monotonic()
    said = started + _QUIET_SECONDS - (interval := 0.2 if screen else _LOG_SECONDS)
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
