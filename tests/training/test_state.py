from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.errors import RunError
from mobilenets.training.checkpoints import PREVIOUS, STATE, Experiment, SavedState, has_state, load_state, save_state
from mobilenets.training.inputs import derived_seed
from mobilenets.training.progress import Position

CPU = torch.device("cpu")
EXPERIMENT = Experiment({"name": "mobilenet_v2"}, {"epochs": 3}, {"digest": "abc"})


def saved(run: Path) -> SavedState:
    weights = {"weight": torch.arange(3.0)}
    state = SavedState(EXPERIMENT, {"precision": "float32"}, Position(epoch=2, step=1), weights, {"state": {}})
    save_state(run, state)
    return state


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state, loaded = saved(tmp_path), None
    loaded = load_state(tmp_path, CPU)
    assert (loaded.experiment, loaded.plan, loaded.position) == (state.experiment, state.plan, state.position)
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
    with pytest.raises(RunError, match=r"is damaged|is empty") as caught:
        load_state(tmp_path, CPU)
    assert "\n" not in str(caught.value)


def test_a_state_of_a_later_version_is_not_for_this_one(tmp_path: Path) -> None:
    saved(tmp_path)
    content = torch.load(tmp_path / STATE, weights_only=True)
    for found, said in ((3, "is of format 3, .* knows up to 2: update mobilenets"), (1, "start the run anew")):
        (tmp_path / "other").mkdir(exist_ok=True)
        torch.save({**content, "format": found}, tmp_path / "other" / STATE)
        with pytest.raises(RunError, match=said):
            load_state(tmp_path / "other", CPU)


def test_code_in_a_state_is_not_run(tmp_path: Path) -> None:
    torch.save({"format": Path("/")}, tmp_path / STATE)  # any class of its own would do
    with pytest.raises(RunError, match="is damaged"):
        load_state(tmp_path, CPU)


def test_differences_are_named() -> None:
    other = Experiment({"name": "mobilenet_v1"}, {"epochs": 3, "flip": False}, {"digest": "abc"})
    assert EXPERIMENT.differences(EXPERIMENT) == []
    assert EXPERIMENT.differences(other) == [
        "network name: mobilenet_v2 there, mobilenet_v1 now",
        "recipe flip: True there, False now",
    ]


def test_a_field_that_was_renamed_since_is_no_difference() -> None:
    before = Experiment({}, {"optimizer": "rmsprop", "square_decay": 0.9, "schedule": "step", "rate_decay": 0.98}, {})
    now = {"optimizer": "rmsprop", "alpha": 0.9, "schedule": "step", "gamma": 0.98}
    assert before.differences(Experiment({}, now, {})) == []
    assert before.differences(Experiment({}, now | {"gamma": 0.9}, {})) == ["recipe gamma: 0.98 there, 0.9 now"]


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


def flip_a_bit(path: Path) -> None:
    """In the middle of the largest tensor: torch itself would silently load it."""
    content = bytearray(path.read_bytes())
    place = content.index(torch.arange(3.0).numpy().tobytes())
    content[place + 5] ^= 1
    with path.open("wb") as file:
        file.write(content)


def test_a_single_wrong_bit_is_found_and_the_state_before_is_taken(tmp_path: Path) -> None:
    saved(tmp_path)
    newest = saved(tmp_path)
    newest.position.step = 7
    save_state(tmp_path, newest)
    assert load_state(tmp_path, CPU).position.step == 7
    flip_a_bit(tmp_path / STATE)
    assert torch.load(tmp_path / STATE, weights_only=True)["progress"]["step"] == 7
    state = load_state(tmp_path, CPU)
    assert state.position.step == 1
    assert state.warning is not None
    assert "the checksum of" in state.warning
    assert "going on from the state before it" in state.warning


def test_without_a_newest_state_the_one_before_is_taken(tmp_path: Path) -> None:
    saved(tmp_path)
    saved(tmp_path)
    (tmp_path / STATE).unlink()
    assert has_state(tmp_path)
    assert load_state(tmp_path, CPU).position.epoch == 2


def test_two_damaged_states_are_one_line(tmp_path: Path) -> None:
    saved(tmp_path)
    saved(tmp_path)
    for name in (STATE, PREVIOUS):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        RunError, match=r"state\.pt is (damaged .*|empty \(0 bytes\)); start the run anew in another folder"
    ):
        load_state(tmp_path, CPU)


def test_a_disk_that_forgets_what_is_written_is_noticed_before_the_old_state_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path)
    before = (tmp_path / STATE).read_bytes()
    real = Path.write_bytes

    def forgetful(self: Path, content: bytes) -> int:
        written = real(self, content)
        if "state" in self.name:
            flip_a_bit(self)
        return written

    monkeypatch.setattr(Path, "write_bytes", forgetful)
    with pytest.raises(RunError, match="does not read back"):
        saved(tmp_path)
    assert (tmp_path / STATE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def test_a_full_disk_is_one_line_and_leaves_the_state_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path)
    before = (tmp_path / STATE).read_bytes()

    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match="No space left on device"):
        saved(tmp_path)
    assert (tmp_path / STATE).read_bytes() == before


def test_where_files_can_have_one_name_only_there_still_is_a_spare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*paths: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    saved(tmp_path)
    saved(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [PREVIOUS, STATE]
