"""Two processes train as one does: the same gradients, statistics and weights, and only the first of them writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mobilenets.errors import RecipeError, RunError
from mobilenets.training.distributed import SOLO, Team, join_team, local_device

SCRIPT = Path(__file__).parents[1] / "helpers" / "team_steps.py"
ELASTIC = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def run(*command: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """What one process keeps, and each of two."""
    folder = tmp_path_factory.mktemp("team")
    run(str(SCRIPT), str(folder / "alone"))
    run(*ELASTIC, str(SCRIPT), str(folder / "team"))
    paths = (folder / "alone" / "process0.pt", *(folder / "team" / f"process{rank}.pt" for rank in (0, 1)))
    alone, first, second = (torch.load(path, weights_only=True) for path in paths)
    return alone, first, second


@pytest.mark.slow
def test_the_first_gradient_is_that_of_the_whole_batch_in_one_process(results: tuple[Any, Any, Any]) -> None:
    alone, first, second = results
    assert len(alone["gradients"]) == len(first["gradients"]) == 3
    assert {value.dtype for value in alone["gradients"][0].values()} == {torch.float64}
    for name, wanted in alone["gradients"][0].items():
        assert torch.allclose(first["gradients"][0][name], wanted, rtol=1e-6, atol=1e-8), name
        assert torch.equal(first["gradients"][0][name], second["gradients"][0][name]), name


@pytest.mark.slow
def test_weights_and_statistics_stay_together_over_the_steps(results: tuple[Any, Any, Any]) -> None:
    alone, first, second = results
    for name, wanted in alone["model"].items():
        assert torch.allclose(first["model"][name].double(), wanted.double(), rtol=1e-6, atol=1e-8), name
        if "running" not in name and "num_batches" not in name:  # re-estimated at the end, by the first alone
            assert torch.equal(first["model"][name], second["model"][name]), name


@pytest.mark.slow
def test_only_the_main_process_writes(results: tuple[Any, Any, Any]) -> None:
    alone, first, second = results
    assert first["written"] == alone["written"]
    assert "state.pt" in first["written"]
    assert second["written"] == []
    assert (first["share"], second["share"]) == (0, 1)


def test_a_batch_that_can_not_be_parted_equally_is_refused_with_one_that_can() -> None:
    Team(count=4).check_batch(128)
    with pytest.raises(RecipeError, match="100 images can't be shared equally by 3 processes; try `batch_size=99`"):
        Team(count=3).check_batch(100)


def test_alone_there_is_nothing_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    with join_team(torch.device("cpu")) as team:
        assert (team.rank, team.count, team.restarts, team.is_main) == (0, 1, 2, True)
        assert team.sum([1.5, 2.0], torch.device("cpu")) == [1.5, 2.0]
        assert team.gather("all") == ["all"]
        model = torch.nn.Linear(1, 1)
        assert team.wrap(model, torch.device("cpu")) is model


def test_what_the_main_process_refuses_alone_is_raised_as_it_is() -> None:
    def refuse() -> None:
        raise RunError("no")

    with pytest.raises(RunError, match="no") as caught:
        SOLO.run_on_main(refuse)
    assert not caught.value.told


def test_each_process_takes_the_gpu_of_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device(torch.device("cuda")) == torch.device("cuda", 3)
    assert local_device(torch.device("cuda:1")) == torch.device("cuda", 1)
    assert local_device(torch.device("cpu")) == torch.device("cpu")
