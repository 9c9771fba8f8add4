"""`mobilenets predict --engine ray`: very many images, into a folder of answers."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict
from typing import Any

from mobilenets.cli.predict_options import PredictOptions
from mobilenets.cli.progress import Live, duration
from mobilenets.cli.streams import console, say, warn
from mobilenets.errors import DataError
from mobilenets.image_folders import LeftOut
from mobilenets.runtime.bulk.predict_many import ManySummary, predict_many
from mobilenets.runtime.image_files import find_images

_WHAT = "classifying"


def predict_in_parts(options: PredictOptions) -> int:
    """Answer, say how far it is, and what came of it; the exit code is 1 where files can't be read."""
    if options.out is None:
        raise DataError("--engine ray writes a folder: name it by --out")
    if options.format == "table":
        raise DataError("--engine ray writes csv or jsonl, no table")
    started = time.monotonic()
    with Live(console(stderr=True)) as live:
        progress = _Progress(live, options)
        summary = predict_many(
            options.artifact,
            options.files,
            options.out,
            address=options.address,
            workers=options.workers,
            threads=1 if options.threads is None else options.threads,
            format=options.format or "jsonl",
            top=options.top,
            batch_size=options.batch_size,
            backend=options.backend,
            precision=options.precision,
            threshold=options.threshold,
            part_size=options.part_size,
            max_pixels=options.max_pixels,
            report=progress,
        )
    left_out = progress.left_out()
    if left_out:
        warn(f"mobilenets: {left_out}")
    _print_summary(summary, time.monotonic() - started, as_json=options.json)
    return (1 if summary.answered else 2) if summary.bad else 0


class _Progress:
    """Shows how far it is; how many files there are is counted meanwhile."""

    def __init__(self, live: Live, options: PredictOptions) -> None:
        self._live = live
        self._total: int | None = None
        self._paths = options.files
        self._left_out = LeftOut()
        self._thread = threading.Thread(target=self._count, name="count", daemon=True)
        self._thread.start()

    def __call__(self, done: int, before: int) -> None:
        """So many were answered or found bad now, and before in a call that was broken off."""
        known = self._total is not None and self._total >= done + before
        self._live.update(_WHAT, done, self._total - before if self._total is not None and known else None)

    def left_out(self) -> LeftOut:
        """What is no image among the files, once they are all counted."""
        self._thread.join()
        return self._left_out

    def _count(self) -> None:
        self._total = sum(1 for _ in find_images(self._paths, self._left_out))


def _print_summary(summary: ManySummary, seconds: float, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {**asdict(summary), "out": str(summary.out), "bad_list": str(summary.bad_list)}
        print(json.dumps({**document, "seconds": round(seconds, 1)}))
        return
    before = f", {summary.parts_before:,} of them before" if summary.parts_before else ""
    parts = "1 part" if summary.parts == 1 else f"{summary.parts:,} parts"
    count = "1 image" if summary.answered == 1 else f"{summary.answered:,} images"
    say(f"{count} answered in {duration(seconds)}; {parts}{before} in {summary.out}")
    if summary.bad:
        say(f"{summary.bad:,} can't be read; {summary.bad_list} lists them")
