from __future__ import annotations

from pathlib import Path

import pytest

from mobilenets.training.plan import NOTE, remember_parts, remembered_parts


def test_what_is_noted_is_remembered(tmp_path: Path) -> None:
    assert remembered_parts(tmp_path) == 1
    remember_parts(tmp_path, 4)
    assert remembered_parts(tmp_path) == 4


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"parts": 0}', '{"parts": "4"}', '{"parts": 2'])
def test_a_damaged_note_is_no_note(tmp_path: Path, content: str) -> None:
    (tmp_path / NOTE).write_text(content)
    assert remembered_parts(tmp_path) == 1
