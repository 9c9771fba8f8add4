from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.errors import RunError
from mobilenets.training.state import (
    PREVIOUS,
    STATE,
    Experiment,
    Progress,
    SavedState,
    derived_seed,
    load_state,
    save_state,
)

CPU = torch.device("cpu")
EXPERIMENT = Experiment({"name": "mobilenet_v2"}, {"epochs": 3}, {"digest": "abc"})


def saved(run: Path) -> SavedState:
    weights = {"weight": torch.arange(3.0)}
    state = SavedState(EXPERIMENT, {"precision": "float32"}, Progress(epoch=2, step=1), weights, {"state": {}})
    save_state(run, state)
    return state


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state, loaded = saved(tmp_path), None
    loaded = load_state(tmp_path, CPU)
    assert (loaded.experiment, loaded.plan, loaded.progress) == (state.experiment, state.plan, state.progress)
    assert torch.equal(loaded.model["weight"], state.model["weight"])


def test_nothing_but_the_two_newest_states_is_left_in_the_folder(tmp_path: Path) -> None:
    saved(tmp_path)
    saved(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREVIOUS, STATE]


def test_the_file_is_loadable_with_weights_only(tmp_path: Path) -> None:
    saved(tmp_path)
    assert torch.load(tmp_path / STATE, weights_only=True)["format"] == 2


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_state_is_one_line(tmp_path: Path, damage: bytes | None) -> None:
    saved(tmp_path)
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(RunError, match="is damaged") as caught:
        load_state(tmp_path, CPU)
    assert "\n" not in str(caught.value)


def test_code_in_a_state_is_not_run(tmp_path: Path) -> None:
    torch.save({"format": Path("/")}, tmp_path / STATE)  # any class of its own would do
    with pytest.raises(RunError, match="is damaged"):
        load_state(tmp_path, CPU)


def test_differences_are_named() -> None:
    other = Experiment({"name": "mobilenet_v1"}, {"epochs": 3, "flip": True}, {"digest": "abc"})
    assert EXPERIMENT.differences(EXPERIMENT) == []
    assert EXPERIMENT.differences(other) == [
        "network name: mobilenet_v2 there, mobilenet_v1 now",
        "recipe flip: none there, True now",
    ]


def test_an_option_a_record_is_too_old_to_name_has_its_default() -> None:
    for norm_eps, differences in ((1e-5, []), (1e-3, ["network norm_eps: 1e-05 there, 0.001 now"])):
        now = Experiment({"name": "mobilenet_v2", "norm_eps": norm_eps}, {"epochs": 3}, {"digest": "abc"})
        assert EXPERIMENT.differences(now) == differences
    assert Experiment({"name": "of a plugin"}, {}, {}).differences(Experiment({"name": "of a plugin"}, {}, {})) == []


@given(st.integers(0, 2**63), st.lists(st.integers(0, 2**31), max_size=3))
def test_derived_seeds_are_torchs_kind_and_differ_by_place(seed: int, place: list[int]) -> None:
    derived = derived_seed(seed, *place, 0)
    assert 0 <= derived < 2**63
    assert derived == derived_seed(seed, *place, 0)
    assert derived != derived_seed(seed, *place, 1)
