"""What a run writes while it trains: `metrics.jsonl`, a line an epoch, and the same curves for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from mobilenets.errors import RunError
from mobilenets.evaluation.results import EpochPoint
from mobilenets.files import write_text_atomically

METRICS = "metrics.jsonl"


class MetricLog:
    """Appends epochs to a run's curve. A context manager: leaving it flushes TensorBoard's file.

    `epochs_done` epochs are kept of an earlier part of the run; later lines come from work that was lost before its
    state was saved, and are dropped so that no epoch stands there twice.
    """

    def __init__(self, run: Path, epochs_done: int) -> None:
        self._path = run / METRICS
        kept = read_curve(run)[:epochs_done]
        write_text_atomically(self._path, "".join(_line(point) for point in kept))
        with _writing(run):
            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=epochs_done + 1)

    def __enter__(self) -> MetricLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(OSError):  # a full disk has been said by then
                self._board.close()
            return
        with _writing(self._path.parent):
            self._board.close()

    def add(self, point: EpochPoint) -> None:
        """Append one epoch to both logs.

        Raises:
            RunError: they can't be written.
        """
        with _writing(self._path.parent):
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(point))
            for name in ("loss", "top1", "learning_rate", "images_per_second"):
                self._board.add_scalar(f"train/{name}", getattr(point, name), point.epoch)
            for name in ("loss", "top1"):
                value = getattr(point, f"validation_{name}")
                if value is not None:
                    self._board.add_scalar(f"validation/{name}", value, point.epoch)


def read_curve(run: Path) -> tuple[EpochPoint, ...]:
    """The epochs logged so far; none when there is no log yet.

    Raises:
        RunError: a line before the last is damaged. A torn last line (a process killed while writing) is left out.
    """
    path = run / METRICS
    if not path.exists():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    points = []
    for number, line in enumerate(lines, start=1):
        try:
            points.append(EpochPoint(**json.loads(line)))
        except (ValueError, TypeError) as error:
            if number < len(lines):
                raise RunError(f"{path}, line {number} is damaged: {error}") from error
    return tuple(points)


@contextmanager
def _writing(run: Path) -> Iterator[None]:
    """A failed write of a log, whichever library's, as one line."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{run}: its logs can't be written ({error.strerror or error}); its state is unharmed"
        ) from error


def _line(point: EpochPoint) -> str:
    return json.dumps(asdict(point)) + "\n"
