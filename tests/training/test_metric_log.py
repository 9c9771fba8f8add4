from __future__ import annotations

from pathlib import Path

import pytest

from mobilenets.errors import RunError
from mobilenets.progress import EpochPoint
from mobilenets.training.progress import METRICS, MetricLog, read_curve


def point(epoch: int) -> EpochPoint:
    return EpochPoint(epoch, loss=1 / epoch, top1=10.0 * epoch, learning_rate=0.1, seconds=2.0, images_per_second=50.0)


def write(run: Path, *epochs: int, done: int = 0) -> None:
    with MetricLog(run, done) as log:
        for epoch in epochs:
            log.add(point(epoch))


def test_what_is_logged_is_read_back_and_tensorboard_has_it(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    assert read_curve(tmp_path) == (point(1), point(2))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in board.Scalars("train/top1")] == [10.0, 20.0]


def test_an_epoch_whose_state_was_lost_is_not_logged_twice(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    write(tmp_path, 2, 3, done=1)
    assert [one.epoch for one in read_curve(tmp_path)] == [1, 2, 3]


def test_a_torn_last_line_is_left_out_and_a_damaged_earlier_one_is_said(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    text = (tmp_path / METRICS).read_text()
    (tmp_path / METRICS).write_text(text[:-20])
    assert read_curve(tmp_path) == (point(1),)
    (tmp_path / METRICS).write_text("{broken\n" + text)
    with pytest.raises(RunError, match="line 1 is damaged"):
        read_curve(tmp_path)


def test_no_log_is_no_curve(tmp_path: Path) -> None:
    assert read_curve(tmp_path) == ()
