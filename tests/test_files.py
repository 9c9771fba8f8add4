from __future__ import annotations

from pathlib import Path

import pytest

from mobilenets.files import write_atomically, write_text_atomically


def test_text_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_text_atomically(path, "eins")
    write_text_atomically(path, "zwei µ")
    assert path.read_text(encoding="utf-8") == "zwei µ"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text_atomically(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_text_atomically(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode
