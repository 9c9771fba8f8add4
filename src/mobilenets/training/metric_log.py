"""What a run writes while it trains: `metrics.jsonl`, a line an epoch, and the same curves for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from pydantic import TypeAdapter, ValidationError
from torch.utils.tensorboard import SummaryWriter

from mobilenets.errors import RunError, first_line
from mobilenets.evaluation.results import EpochPoint
from mobilenets.files import write_text_atomically
from mobilenets.limits import check_json, read_bytes
from mobilenets.progress import StepReport
from mobilenets.training.optimizer import learning_rate_at
from mobilenets.training.recipe import Recipe
from mobilenets.training.state import Position

METRICS = "metrics.jsonl"
_POINT = TypeAdapter(EpochPoint)


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
    try:
        lines = read_bytes(path).splitlines()
    except OSError as error:
        raise RunError(f"{path} can't be read ({error.strerror or error}); check the file") from error
    points = []
    for number, line in enumerate(lines, start=1):
        try:
            # Of a validation without a finite loss, NaN is what there is to log.
            points.append(_POINT.validate_json(check_json(line, finite=False)))
        except ValueError as error:  # also pydantic's ValidationError
            if number < len(lines):
                raise RunError(f"{path}, line {number} is damaged: {_fault(error)}") from error
    return tuple(points)


def _fault(error: ValueError) -> str:
    """What is wrong, in one line."""
    if not isinstance(error, ValidationError):
        return first_line(error)
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the line'}: {first['msg']}"


@contextmanager
def _writing(run: Path) -> Iterator[None]:
    """A failed write of a log, whichever library's, as one line."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{run}: its logs can't be written ({error.strerror or error}); what was saved before is unharmed"
        ) from error


def _line(point: EpochPoint) -> str:
    return json.dumps(asdict(point)) + "\n"


# What is told of a run's position: an epoch's figures, and a step's with the time left.


def where_of(position: Position, steps: int) -> str:
    """The step under way, in words; `steps` are an epoch's."""
    return f"epoch {position.epoch + 1}, step {position.step + 1} of {steps}"


def epoch_point(position: Position, steps: int, recipe: Recipe) -> EpochPoint:
    """The figures of an epoch whose last step is done."""
    return EpochPoint(
        epoch=position.epoch + 1,
        loss=position.loss_sum / position.images,
        top1=100 * position.correct / position.images,
        learning_rate=learning_rate_at((position.epoch + 1) * steps - 1, steps, recipe),
        seconds=position.seconds,
        images_per_second=position.images / position.seconds,
    )


def step_report(position: Position, steps: int, recipe: Recipe, verb: str) -> StepReport:
    """The figures of a step that is done, and the seconds left for the run."""
    steps_left = (recipe.epochs - position.epoch) * steps - position.step
    return StepReport(
        epoch=position.epoch + 1,
        epochs=recipe.epochs,
        step=position.step,
        steps=steps,
        loss=position.loss_sum / position.images,
        top1=100 * position.correct / position.images,
        images_per_second=position.images / position.seconds,
        seconds_left=steps_left * position.seconds / position.step,
        verb=verb,
    )
