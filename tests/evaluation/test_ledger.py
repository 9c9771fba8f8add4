"""Every reading of test images is remembered, in order, and none is lost."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from mobilenets.errors import RunError
from mobilenets.evaluation.ledger import LEDGER, readings, record_for, record_reading


def test_readings_are_kept_in_order_and_the_earlier_ones_are_told(tmp_path: Path) -> None:
    assert readings(tmp_path) == ()
    assert record_reading(tmp_path, "train", 360, "d") == ()
    before = record_reading(tmp_path, "evaluate", 360, "d", repeats=True)
    assert [(one.command, one.images, one.digest, one.repeats) for one in before] == [("train", 360, "d", False)]
    assert [one.command for one in readings(tmp_path)] == ["train", "evaluate"]
    assert all(datetime.fromisoformat(one.at).tzinfo is not None for one in readings(tmp_path))


def test_other_images_are_other_readings(tmp_path: Path) -> None:
    record_reading(tmp_path, "evaluate", 10, "others")
    assert record_reading(tmp_path, "train", 360, "d") == ()
    assert len(readings(tmp_path)) == 2


def test_a_line_torn_by_a_kill_hides_no_other(tmp_path: Path) -> None:
    record_reading(tmp_path, "train", 360, "d")
    path = tmp_path / LEDGER
    path.write_text(path.read_text() + path.read_text()[:30])
    assert [one.command for one in readings(tmp_path)] == ["train"]
    assert len(record_reading(tmp_path, "evaluate", 360, "d")) == 1
    assert [one.command for one in readings(tmp_path)] == ["train", "evaluate"]


@pytest.mark.parametrize("line", ["{}", "nothing", '{"at": 3, "command": "train", "images": 1}'])
def test_a_damaged_line_is_one_clear_error(tmp_path: Path, line: str) -> None:
    record_reading(tmp_path, "train", 360, "d")
    (tmp_path / LEDGER).write_text(f"{line}\n{(tmp_path / LEDGER).read_text()}")
    with pytest.raises(RunError, match=r"test_reads\.jsonl, line 1 is damaged"):
        readings(tmp_path)


def test_what_can_not_be_recorded_is_not_read(tmp_path: Path) -> None:
    (tmp_path / LEDGER).mkdir()
    with pytest.raises(RunError, match=r"test_reads\.jsonl"):
        record_reading(tmp_path, "train", 360, "d")
    with pytest.raises(RunError, match="would go unrecorded"):
        record_reading(tmp_path / "missing", "train", 360, "d")


def test_only_run_folders_have_a_ledger(tmp_path: Path) -> None:
    for other in (tmp_path, "imagenet", object()):
        record_for(other, "export", 360, "d")
    assert readings(tmp_path) == ()
    (tmp_path / "model.json").touch()
    record_for(str(tmp_path), "export", 360, "d")
    assert [one.command for one in readings(tmp_path)] == ["export"]
