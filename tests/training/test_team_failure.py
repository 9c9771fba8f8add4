"""Whatever ends one process of a team ends all of them: soon, told once, with one exit code."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "helpers" / "failing_team.py"


def run_team(case: str, count: int) -> tuple[list[int], str]:
    """Each process' exit code, and all that they said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), case],
            env={**shared, "RANK": str(rank), "WORLD_SIZE": str(count)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    said = [process.communicate(timeout=90)[1] for process in running]
    return [process.returncode for process in running], "".join(said)


@pytest.mark.parametrize(
    ("case", "count", "code", "told"),
    [
        ("main process", 2, 2, "mobilenets: no such folder, says the main process"),
        ("all", 3, 2, "mobilenets: no such folder, says "),
        ("last images", 3, 2, "mobilenets: 9 images can't be read: "),
        ("first process", 2, 2, "mobilenets: the main process has no space"),
        ("disk", 2, 2, "mobilenets: state.pt: No space left on device"),
        ("stopped", 2, 143, "mobilenets: stopped at once"),
        ("while others work", 2, 2, "mobilenets: gone"),
    ],
)
def test_an_error_of_one_is_told_once_and_ends_all(case: str, count: int, code: int, told: str) -> None:
    codes, said = run_team(case, count)
    assert codes == [code] * count, said
    assert said.count("mobilenets: ") == said.count(told) == 1, said
    assert "Traceback" not in said


def test_a_fault_of_ours_shows_where_it_is_once_and_ends_all() -> None:
    codes, said = run_team("bug", 2)
    assert codes == [1, 1], said
    assert said.count("Traceback") == 1
    assert said.splitlines()[-1].endswith("KeyError: 'what'")


def test_of_those_that_lost_one_a_single_one_says_so() -> None:
    codes, said = run_team("killed", 3)
    assert codes == [1, -signal.SIGKILL, 1], said
    assert said.count("mobilenets: another process of this training was lost (") == 1, said
    assert said.count("mobilenets: ") == 1
