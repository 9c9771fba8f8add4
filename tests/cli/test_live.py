from __future__ import annotations

import io

import pytest
from rich.console import Console

from mobilenets.cli import progress as module
from mobilenets.cli.progress import Live
from mobilenets.progress import EpochPoint, StepReport


def report(step: int) -> StepReport:
    return StepReport(
        epoch=1, epochs=2, step=step, steps=12, loss=0.5, top1=80.0, images_per_second=123.0, seconds_left=200.0
    )


def test_a_log_file_gets_plain_lines_and_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    text = io.StringIO()
    with Live(Console(file=text, width=200)) as live:
        live.message("[bold] is a name")
        for step in range(1, 13):
            now += 7.0
            live.step(report(step))
        live.epoch(EpochPoint(1, 0.5, 80.0, 0.1, 70.0, 123.0), 2)
    lines = text.getvalue().splitlines()
    assert lines[0] == "[bold] is a name"
    assert sum("images/s" in line and "left" in line for line in lines) == 2  # one each 30 seconds of 84
    assert "epoch   1/2  loss 0.5000  accuracy  80.0 %" in lines[-1]
    assert "1:10 min" in lines[-1]


def test_a_terminal_sees_position_speed_time_left_loss_and_accuracy() -> None:
    text = io.StringIO()
    with Live(Console(file=text, width=120, force_terminal=True, color_system=None)) as live:
        live.step(report(5))
        live._bars.refresh()
    shown = text.getvalue()
    for part in ("epoch 1/2", "loss 0.500", "accuracy 80.0 %", "123 images/s", "3:20 min left"):
        assert part in shown
