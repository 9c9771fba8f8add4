"""One process of a team of which one or all fail: `python failing_team.py CASE`, ended as the command ends."""

from __future__ import annotations

import os
import signal
import sys
import time

import torch

from mobilenets.cli import main as command
from mobilenets.errors import BadImage, BadImagesError, MobilenetsError, RunError, TrainingInterruptedError
from mobilenets.training import distributed
from mobilenets.training.distributed import Team, join_team

CPU = torch.device("cpu")


def act(case: str, team: Team) -> None:
    """Fail, or wait for another that does."""
    team.sum([1.0], CPU)
    if case == "main process":
        team.run_on_main(_refuse)
    if case == "all":
        raise RunError(f"no such folder, says {team.rank}")
    if team.rank == 1:
        if case == "last images":
            raise BadImagesError([BadImage(f"{number}.png", "cut") for number in range(9)])
        if case == "bug":
            raise KeyError("what")
        if case == "disk":
            raise OSError(28, "No space left on device", "state.pt")
        if case == "stopped":
            raise TrainingInterruptedError("stopped at once", signal=15)
        if case == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if case == "while others work":
            raise RunError("gone")
    if case == "while others work":
        time.sleep(600)
    if case == "first process" and team.is_main:
        raise RunError("the main process has no space")
    team.sum([1.0], CPU)


def _refuse() -> None:
    raise RunError("no such folder, says the main process")


def verb(arguments: list[str]) -> int:
    """In place of a verb."""
    with join_team(CPU) as team:
        act(arguments[0], team)
    return 0


def run(case: str) -> int:
    """The command's own end: what it prints, and its exit code."""
    module = type(sys)("mobilenets.cli.train")
    module.main = verb  # type: ignore[attr-defined]
    sys.modules["mobilenets.cli.train"] = module
    distributed._PATIENCE_SECONDS = 1.0  # type: ignore[misc]
    return command.main(["train", case])


if __name__ == "__main__":
    assert MobilenetsError.exit_code == 2
    sys.exit(run(sys.argv[1]))
