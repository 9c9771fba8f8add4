from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mobilenets.errors import RunError
from mobilenets.files import LOCK, only_writer

HOLD = "import sys, time; from pathlib import Path; from mobilenets.files import only_writer\n"
HOLD += "with only_writer(Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(600)"


def test_a_second_process_is_refused_until_the_first_is_gone_however_it_ends(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=r"run is in use by another process"), only_writer(run):
            pass
    finally:
        first.kill()
        first.communicate()
    with only_writer(run):
        pass


def test_a_folder_in_use_twice_in_one_process_is_refused_too(tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(RunError, match="in use"), only_writer(tmp_path):
        pass


def test_what_a_killed_process_left_half_written_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    half = [".state~a1b2c3d4.pt", ".metrics~________.jsonl", ".state.previous~00000000.pt"]
    kept = ["state.pt", ".hidden", "model~abcdefgh.safetensors", ".state~short.pt", ".gitlab-settings.yml", LOCK]
    for name in (*half, *kept):
        (tmp_path / name).write_bytes(b"x")
    with only_writer(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunError, match="can't be made a folder"), only_writer(tmp_path / "run"):
        pass
