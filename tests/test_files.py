from __future__ import annotations

import os
from pathlib import Path

import pytest

from mobilenets.errors import RunError
from mobilenets.files import check_writable, temporary_folder, write_atomically, write_text_atomically


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


def test_a_temporary_folder_goes_however_the_context_ends(tmp_path: Path) -> None:
    with temporary_folder(tmp_path, prefix=".x-") as folder:
        (folder / "file").write_text("")
        assert (folder.parent, folder.name[:3]) == (tmp_path, ".x-")
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path) as folder:
        raise KeyboardInterrupt
    with pytest.raises(OSError, match="No such file"), temporary_folder(tmp_path / "missing"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_signal_as_soon_as_something_temporary_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(real):
        def make(*arguments, **options):
            real(*arguments, **options)
            raise KeyboardInterrupt

        return make

    monkeypatch.setattr(Path, "mkdir", stopped(Path.mkdir))
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(Path, "touch", stopped(Path.touch))
    with pytest.raises(KeyboardInterrupt):
        write_text_atomically(tmp_path / "file", "text")
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_text_atomically(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_was_there_is_spoken_of_only_where_something_was(tmp_path: Path) -> None:
    def no_space(temporary: Path) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file.txt"
    with pytest.raises(RunError, match=r"file\.txt: can't be written \(No space left on device\)$"):
        write_atomically(path, no_space)
    path.write_text("old")
    with pytest.raises(RunError, match=r"\(No space left on device\); what was there is unharmed$"):
        write_atomically(path, no_space)
    assert path.read_text() == "old"


def test_a_place_that_can_be_written_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    for path, folder in (("folder", True), ("a/b/c", True), ("file", False), ("folder/new", False), ("a/new", False)):
        check_writable(tmp_path / path, folder=folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize(
    ("path", "folder", "said"),
    [
        ("file/run", True, "file is no folder"),
        ("file/a/b", False, "file is no folder"),
        ("file", True, "is a file: give a folder"),
        ("folder", False, "is a folder: give the file's whole name"),
        ("dangling", True, "dangling is no folder"),
        ("dangling/run", True, "dangling is no folder"),
        ("n" * 300, True, "File name too long"),
        ("a\0b", False, "can't be written"),
        ("/proc/mobilenets", True, "can't be written"),
    ],
)
def test_a_place_that_can_not_be_written_is_refused(path: str, folder: bool, said: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match=said):
        check_writable(tmp_path / path, folder=folder)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="no permission to write into"):
        check_writable(tmp_path / "run")
