from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mobilenets.models.registry import create_model
from mobilenets.training import plan as planning
from mobilenets.training.optimizer import CrossEntropy
from mobilenets.training.plan import ComputePlan, choose_plan, plan_cache
from mobilenets.training.recipe import Recipe

SPEED = {
    ComputePlan("float32", "contiguous"): 1.0,
    ComputePlan("float32", "channels_last"): 0.97,
    ComputePlan("bfloat16", "channels_last"): 0.5,
}


def choose(recipe: Recipe, cache: Path) -> tuple[ComputePlan, str]:
    torch.manual_seed(0)
    model = create_model("mobilenet_v3_small", num_classes=3, width_mult=0.25, image_size=8)
    return choose_plan(model, torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]), recipe, CrossEntropy(), cache)


def test_a_fixed_recipe_is_not_measured(tmp_path: Path) -> None:
    recipe = Recipe(precision="bfloat16", memory_format="contiguous")
    assert choose(recipe, tmp_path / "cache.json") == (ComputePlan("bfloat16", "contiguous"), "as the recipe says")
    assert not (tmp_path / "cache.json").exists()


def test_measuring_runs_real_steps_and_changes_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("mobilenet_v3_small", num_classes=3, width_mult=0.25, image_size=8).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    plan, how = choose_plan(model, images, labels, Recipe(), CrossEntropy(), tmp_path / "cache.json")
    assert plan in SPEED
    assert how.count("images/s") == 3
    assert not model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("bfloat16", "best"), [(0.5, "bfloat16"), (2.0, "float32"), (0.96, "float32")])
def test_the_fastest_wins_and_a_near_tie_goes_to_the_simpler(
    bfloat16: float, best: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = {**SPEED, ComputePlan("bfloat16", "channels_last"): bfloat16}
    monkeypatch.setattr(planning, "measure_plans", lambda *_: speed)
    plan, _ = choose(Recipe(), tmp_path / "cache.json")
    assert plan.precision == best
    if best == "float32":
        assert plan.memory_format == "contiguous"


@pytest.mark.slow
def test_an_answer_is_kept_and_a_damaged_cache_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "measure_plans", lambda *_: SPEED)
    first, _ = choose(Recipe(), tmp_path / "cache.json")
    monkeypatch.setattr(planning, "measure_plans", lambda *_: {plan: 1 / time for plan, time in SPEED.items()})
    assert choose(Recipe(), tmp_path / "cache.json") == (first, "measured here before")
    for damage in ("{", "[]", '{"a": 1}'):
        (tmp_path / "cache.json").write_text(damage)
        assert choose(Recipe(), tmp_path / "cache.json")[0] != first


def test_a_cache_that_cant_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "measure_plans", lambda *_: SPEED)
    (tmp_path / "file").write_text("")
    plan, how = choose(Recipe(), tmp_path / "file" / "cache.json")
    assert plan.precision == "bfloat16"
    assert "can't be written" in how


def test_the_cache_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert plan_cache() == tmp_path / "mobilenets" / "compute_plans.json"
