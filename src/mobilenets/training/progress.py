"""Where a run is, and what follows from it: learning rate, image size, figures for people and logs, and when to stop.

`metrics.jsonl` has a line an epoch; TensorBoard gets the same curves. Learning rate and image size are pure functions
of the position, so a resumed run needs no scheduler's state.
"""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

from pydantic import TypeAdapter, ValidationError
from torch.utils.tensorboard import SummaryWriter

from mobilenets.errors import RunError, first_line
from mobilenets.files import write_text_atomically
from mobilenets.limits import check_json, read_bytes
from mobilenets.progress import EpochPoint, StepReport
from mobilenets.training.recipe import Recipe


@dataclass
class Position:
    """Where a run is: `epoch` epochs done, `step` steps of the next one done, and that epoch's sums so far."""

    epoch: int = 0
    step: int = 0
    images: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0
        self.images, self.loss_sum, self.correct, self.seconds = 0, 0.0, 0, 0.0


GAMMA: Final = 0.98
"""What `step` and `exponential` multiply by every epoch where the recipe leaves it open: V2's paper."""


RISE, LOWEST_START, LOWEST_END = 0.3, 1 / 25, 1 / 25e4
"""One-cycle: the share of the run it rises for, and the shares of the peak it starts and ends at. torch's defaults."""


FULL_SIZE_AT: Final = 0.8


SIZE_STEP: Final = 8
"""Image sizes are multiples of it, so that the networks' strides divide them."""


def learning_rate_at(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Learning rate of `step` (counted from 0 over the whole run).

    `onecycle` is Smith and Topin's (arXiv 1708.07120) in torch's two-phase form, without a cycle of momentum. All
    others begin with a linear warm-up: then cosine annealing without restarts (Loshchilov & Hutter, arXiv 1608.03983,
    eq. 5 with minimum `final_rate`), constant, or decay by a factor every so many epochs, at once (`step`, TensorFlow's
    staircase) or smoothly (`exponential`).
    """
    total = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), total // 2)
    if recipe.schedule == "onecycle":
        return recipe.learning_rate * _one_cycle(step, total, warmup / total if warmup else RISE)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    if recipe.schedule in ("step", "exponential"):
        return recipe.learning_rate * _decayed((step - warmup) / steps_per_epoch, recipe)
    progress = (step - warmup) / max(1, total - warmup)
    final = recipe.final_rate or 0.0
    return recipe.learning_rate * _cosine(1.0, final, progress)


def extension(recipe: Recipe, had: int, step: int, steps_per_epoch: int) -> str:
    """Say what becomes of the schedule of a run that is given more epochs: that of a run which had them all along.

    The rate is a function of the place in the run, so it goes on where a run of the new length would be, whatever the
    old one had come down to: a restart without a warm-up, below the peak (compare Loshchilov & Hutter, arXiv
    1608.03983, section 3, who start again at the peak).

    Args:
        recipe: with the new epochs.
        had: the epochs of before.
        step: the next one, counted from 0 over the whole run.
        steps_per_epoch: of an epoch.
    """
    before, after = (
        learning_rate_at(max(0, place), steps_per_epoch, which)
        for place, which in ((step - 1, replace(recipe, epochs=had)), (step, recipe))
    )
    if recipe.schedule == "constant":
        said = f"the learning rate stays {after:.2g}"
    elif recipe.schedule in ("step", "exponential"):
        said = f"the learning rate goes on falling, from {after:.2g}"
    else:
        said = (
            f"the {recipe.schedule} schedule is computed anew over all {recipe.epochs}; the learning rate goes on at "
            f"{after:.2g}, where it had come to {before:.2g}"
        )
    return said + ("; image sizes likewise" if recipe.progressive_start is not None else "")


def image_size_at(epoch: int, full: int, recipe: Recipe) -> int:
    """Side of the training images in pixels in `epoch` (counted from 0).

    It grows evenly from `progressive_start` of the full side, in multiples of 8 pixels, and is full in the last epochs,
    so that batch norm and filters adapt to the size that is scored. Source: Howard's progressive resizing as in
    Touvron et al. 2019 (arXiv 1906.06423) and Tan and Le 2021 (arXiv 2104.00298, section 4).
    """
    if recipe.progressive_start is None:
        return full
    until = recipe.epochs * (FULL_SIZE_AT if recipe.progressive_end is None else recipe.progressive_end)
    share = recipe.progressive_start + (1 - recipe.progressive_start) * min(1.0, epoch / max(1.0, math.floor(until)))
    if share >= 1 or epoch == recipe.epochs - 1:
        return full
    return min(full, max(SIZE_STEP, round(full * share / SIZE_STEP) * SIZE_STEP))


def _one_cycle(step: int, total: int, rise: float) -> float:
    top = rise * total - 1
    if step < top:
        return _cosine(LOWEST_START, 1.0, step / top)
    return _cosine(1.0, LOWEST_END, (step - top) / max(1.0, total - 1 - top))


def _decayed(epochs: float, recipe: Recipe) -> float:
    periods = epochs / (1.0 if recipe.decay_epochs is None else recipe.decay_epochs)
    if recipe.schedule == "step":
        periods = math.floor(periods + 1e-9)  # an epoch that is a sum of steps may be a hair short of a whole
    decay: float = (GAMMA if recipe.gamma is None else recipe.gamma) ** periods
    return decay


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))


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


SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a stop was requested, and by which signal (0 where none was)."""

    def __init__(self) -> None:
        self.signal = 0

    def __bool__(self) -> bool:
        return self.signal != 0


@contextmanager
def stop_on_interrupt(acknowledge: Callable[[], None]) -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM inside the block into a `StopRequest`; a second one interrupts at once.

    `acknowledge` is called when it comes, since the step under way may take seconds. Outside the main thread, where
    Python can't handle signals, the request simply never comes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request:
            raise KeyboardInterrupt
        request.signal = number
        acknowledge()

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
