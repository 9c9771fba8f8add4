"""What rich draws: tables made safe for text from outside, and progress, as a live line or as lines of a log file."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.segment import Segment

from mobilenets.formatting import duration, several_lines
from mobilenets.progress import EpochPoint, StepReport

LOG_SECONDS = 30.0  # between two lines of the same piece of work in a log file


class PlainConsole(Console):
    """A console on which names are only shown: what is not printable in a text is escaped.

    Rich adds its own colours and cursor movements to the segments made here, so these stay.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Turn something into segments of text, see rich's `Console.render`."""
        for segment in super().render(renderable, options):
            plain = segment.control or segment.text == "\n" or segment.text.isprintable()
            yield segment if plain else Segment(several_lines(segment.text), segment.style)


class Live:
    """Progress drawn on a console; a context manager, so that the terminal is restored at its end."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._what = ""
        self._started = self._logged = 0.0

    def __enter__(self) -> Live:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def message(self, text: str) -> None:
        """Print one line above the bar."""
        self._clear()
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, what: str, done: int, total: int | None) -> None:
        """Show `done` of `total` and the time left at the speed so far; None where the total is not known yet."""
        if what != self._what:
            self._started = time.monotonic()
        spent = time.monotonic() - self._started
        if total is None:
            self._show(what, 0, 1, f"{done:,} so far")
            return
        left = f", {duration(spent / done * (total - done))} left" if 0 < done < total and spent > 1 else ""
        self._show(what, done, total, f"{done:,} of {total:,}{left}")
        if done >= total:
            self._clear()

    def step(self, report: StepReport) -> None:
        """Show the position in the run, speed, time left, loss and accuracy."""
        detail = (
            f"loss {report.loss:.3f}  accuracy {report.top1:.1f} %  {report.images_per_second:,.0f} images/s  "
            f"{duration(report.seconds_left)} left"
        )
        method = "" if report.verb == "training" else f"{report.verb}, "
        self._show(f"{method}epoch {report.epoch}/{report.epochs}", report.step, report.steps, detail)

    def epoch(self, point: EpochPoint, epochs: int) -> None:
        """Print the epoch's line; it stays."""
        validation = "" if point.validation_top1 is None else f"validation {point.validation_top1:5.1f} %  "
        self.message(
            f"  epoch {point.epoch:>3}/{epochs}  loss {point.loss:.4f}  accuracy {point.top1:5.1f} %  {validation}"
            f"{point.images_per_second:6,.0f} images/s  {duration(point.seconds)}"
        )

    def _show(self, what: str, done: int, total: int, detail: str) -> None:
        if what != self._what:
            self._clear()
            self._what, self._logged = what, time.monotonic()
        if not self.console.is_terminal:
            self._log(detail)
        elif self._task is None:
            self._task = self._bars.add_task(what, total=total, completed=done, detail=detail)
        else:
            self._bars.update(self._task, total=total, completed=done, detail=detail)

    def _log(self, detail: str) -> None:
        if time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            self.console.print(f"  {self._what}: {detail}", highlight=False, markup=False, soft_wrap=True)

    def _clear(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task, self._what = None, ""
