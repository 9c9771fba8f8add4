"""The main job as a function, small but whole: two networks, two seeds, real scans, real files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilenets.benchmarking.results import Ratio
from mobilenets.comparison import measure, networks
from mobilenets.comparison.measure import RUNTIMES, NetworkCost
from mobilenets.comparison.networks import ComparedNetwork
from mobilenets.data.datasets import Dataset, load_dataset
from mobilenets.data.sources import ImageSplit
from mobilenets.errors import DataError, MobilenetsError, NonFiniteLossError, RecipeError, RunError, TrainingError
from mobilenets.evaluation.evaluation_set import SealedTestSet
from mobilenets.evaluation.predictions import Predictions
from mobilenets.evaluation.results import Comparison, Latency
from mobilenets.models.registry import create_model
from mobilenets.progress import Progress, Silent
from mobilenets.report.compare import read_json
from mobilenets.training.recipe import Recipe
from mobilenets.training.scoring import Splits
from mobilenets.workflows import compare as comparing
from mobilenets.workflows.compare import compare

pytestmark = pytest.mark.slow

RECIPE = Recipe(
    epochs=2,
    batch_size=64,
    learning_rate=3e-3,
    flip=False,
    crop_padding=1,
    precision="float32",
    memory_format="channels_last",
)
MODELS = ("mobilenet_v2", "mobilenet_v3_small")


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)


def run(out: Path, listener: Listener | None = None, **changes: object) -> Comparison:
    arguments: dict[str, object] = {
        "data": "digits",
        "models": MODELS,
        "width_mult": (0.25,),
        "image_size": (8,),
        "seeds": 2,
    }
    return compare(out=out, progress=listener, **{"recipe": RECIPE, **arguments, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def _short_timing() -> Iterator[None]:
    """Latency is measured by the same code, only for a shorter time: here its spread does not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "TIMING_SECONDS", 0.1)
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture(scope="module")
def result(out: Path) -> Comparison:
    return run(out)


def test_a_row_a_network_with_every_figure(result: Comparison) -> None:
    assert [row.label for row in result.rows] == ["mobilenet_v2 x0.25", "mobilenet_v3_small x0.25"]
    for row in result.rows:
        duplicate = create_model(row.model, num_classes=10, width_mult=0.25, image_size=8)
        assert row.parameters == sum(p.numel() for p in duplicate.parameters())
        assert row.macs > 100_000
        assert row.file_bytes > 4 * row.parameters * 0.9
        assert set(row.latency) == set(RUNTIMES)
        assert all(0 < one.median_ms <= one.p95_ms for one in row.latency.values())
        assert 20 < row.peak_memory_mb < 1000
        assert row.seconds_per_epoch > 0
        assert row.test_top1.basis == "2 seeds"
        assert row.test_top1.low <= row.test_top1.mean <= row.test_top1.high
        assert row.validation_top1 is not None
        assert row.validation_top1.basis == "2 seeds"
        assert all(len(one.test_readings) == 1 for one in row.runs)
        assert [one.seed for one in row.runs] == [0, 1]
        assert all(len(one.curve) == 2 for one in row.runs)
        assert all(one.plan == "cpu, float32, channels_last" for one in row.runs)


def test_the_rows_figures_are_the_runs_own(result: Comparison) -> None:
    for row in result.rows:
        scores = [100 * Predictions.load(Path(one.folder) / "predictions.npz").correct.mean() for one in row.runs]
        assert row.test_top1.mean == pytest.approx(np.mean(scores))
        assert [one.test.top1 for one in row.runs] == pytest.approx(scores)
        validated = [
            100 * Predictions.load(Path(one.folder) / "predictions-validation.npz").correct.mean() for one in row.runs
        ]
        assert row.deciding_top1.mean == pytest.approx(np.mean(validated))
        assert [one.validation and one.validation.top1 for one in row.runs] == pytest.approx(validated)
    assert result.data.validation_images == 143
    assert "143 validation images" in result.choice.reason or result.choice.label is None


def test_the_one_pair_is_tested(result: Comparison) -> None:
    (pair,) = result.pairs
    gap = result.rows[0].deciding_top1.mean - result.rows[1].deciding_top1.mean
    assert "143 validation images" in pair.method
    assert pair.difference == pytest.approx(gap)
    assert pair.low <= pair.difference <= pair.high


def test_files_for_people_and_programs(result: Comparison, out: Path) -> None:
    assert read_json(out / "comparison.json") == result
    assert (out / "comparison.csv").read_text().count("\n") == 3
    assert (out / "summary.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(row.label in page.replace("<wbr>", "") for row in result.rows)
    assert result.choice.label is not None
    assert result.choice.reason
    assert "The choice went by 143 validation images, not by the 359 test images" in page
    assert "read once for each network trained" in page


def test_the_same_call_again_trains_nothing_and_bounds_may_change(result: Comparison, out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/seed*/model.safetensors")}
    assert len(before) == 4
    again = run(out, max_params=1)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [row.test_top1 for row in again.rows] == [row.test_top1 for row in result.rows]
    assert [row.runs for row in again.rows] == [row.runs for row in result.rows], "test images read again"
    assert again.choice.label is None
    assert "Loosen the parameters" in again.choice.reason


def test_an_added_seed_trains_only_that(result: Comparison, out: Path) -> None:
    listener = Listener()
    more = run(out, listener, models=MODELS[1:], seeds=3)
    assert [one.seed for one in more.rows[0].runs] == [0, 1, 2]
    assert more.rows[0].runs[:2] == result.rows[1].runs
    assert sum("training on" in line or "as the recipe says" in line for line in listener.said) == 1


def test_another_recipe_in_the_same_folder_is_refused(result: Comparison, out: Path) -> None:
    with pytest.raises(RunError, match=r"recipe learning_rate: 0.003 there, 0.1 now"):
        compare(
            "digits",
            out,
            models=MODELS,
            recipe=replace(RECIPE, learning_rate=0.1),
            width_mult=(0.25,),
            image_size=(8,),
        )


def test_a_network_that_diverges_is_left_out_and_said_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = networks.train_unseen

    def train(network: dict[str, Any], *arguments: Any, **options: Any) -> None:
        if network["name"] == "mobilenet_v2":
            raise NonFiniteLossError("the loss is nan")
        real(network, *arguments, **options)

    monkeypatch.setattr(networks, "train_unseen", train)
    result = run(tmp_path, seeds=1)
    assert [row.model for row in result.rows] == ["mobilenet_v3_small"]
    assert result.notes == ("mobilenet_v2 x0.25 is left out: the loss is nan",)
    assert "the loss is nan" in (tmp_path / "report.html").read_text(encoding="utf-8")


def few_digits() -> Dataset:
    """A fifth of the digits: what is asked of them does not need well trained networks."""
    data = load_dataset("digits")
    return replace(data, train=data.train.take(np.arange(0, 1400, 5)), test=data.test.take(np.arange(0, 350, 5)))


def fixed_costs(
    trained: dict[ComparedNetwork, Path], splits: dict[int, Splits], progress: Progress
) -> tuple[dict[ComparedNetwork, NetworkCost], tuple[str, ...], tuple[Ratio, ...]]:
    """Costs that are the same at every measurement, so that only answers can make a difference to the choice."""
    latency = {runtime: Latency(1.0, 1.1, 0.1, 9) for runtime in RUNTIMES}
    return {one: NetworkCost(1_000 + number, 10, 100, 50.0, latency) for number, one in enumerate(trained)}, (), ()


def test_other_test_labels_give_the_same_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "measure", fixed_costs)
    data = few_digits()
    labels = np.random.default_rng(0).permutation(data.test.labels)
    wrong = replace(data, test=ImageSplit(data.test.sources, labels))
    ours, theirs = (run(tmp_path / name, data=one, seeds=1) for name, one in (("ours", data), ("theirs", wrong)))
    assert (ours.choice, ours.pairs) == (theirs.choice, theirs.pairs)
    assert [row.validation_top1 for row in ours.rows] == [row.validation_top1 for row in theirs.rows]
    assert [row.test_top1 for row in ours.rows] != [row.test_top1 for row in theirs.rows]


def test_test_images_are_read_after_the_choice_and_those_of_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    opened, chosen = SealedTestSet.open, comparing.choose

    def open_sealed(self: SealedTestSet, run: Path, command: str, **options: bool) -> Any:
        events.append(f"read by {command}")
        return opened(self, run, command, **options)

    def choose(*arguments: Any) -> Any:
        events.append("choose")
        return chosen(*arguments)

    monkeypatch.setattr(comparing, "measure", fixed_costs)
    monkeypatch.setattr(comparing, "choose", choose)
    monkeypatch.setattr(SealedTestSet, "open", open_sealed)
    run(tmp_path, data=few_digits(), seeds=1)
    assert events == ["choose", "read by compare", "read by compare"]


def test_without_validation_images_nothing_is_compared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no validation images to compare networks by \(validation_fraction is 0\)"):
        run(tmp_path, recipe=replace(RECIPE, validation_fraction=0.0))
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_keeps_no_images_is_given_some_and_mirror_images_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "measure", fixed_costs)
    recipe = replace(RECIPE, epochs=1, validation_fraction=0.0, flip_test=True)
    options = {"data": few_digits(), "models": "mobilenet_v3_small", "seeds": 1, "recipe": recipe}
    result = run(tmp_path, validation_fraction=0.1, **options)
    assert result.recipe["validation_fraction"] == 0.1
    assert result.notes == (), "what was left out, for which the command exits with 1"
    assert "mirror image" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_recipe_for_given_weights_is_refused_before_any_image_is_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="freeze is bn, but the network starts fresh"):
        run(tmp_path, data="nowhere", recipe="finetune")


def test_where_no_network_comes_through_the_reason_is_said(tmp_path: Path) -> None:
    recipe = replace(RECIPE, optimizer="sgd", learning_rate=1e18)
    with pytest.raises(TrainingError, match=r"no network came through: mobilenet_v2 x0.25 is left out: the loss is"):
        run(tmp_path, models="mobilenet_v2", seeds=1, recipe=recipe)
    state = tmp_path / "runs" / "mobilenet_v2-x0.25-8px" / "seed0" / "state.pt"
    assert state.exists()


def test_the_report_must_lie_outside_the_images(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="lies within the images"):
        compare(tmp_path, tmp_path / "out", models=MODELS)


def test_listed_images_are_left_out_of_the_comparison(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("digits/0\n")
    with pytest.raises(DataError, match=r"list\.txt lists digits/0, not among the images of digits"):
        run(tmp_path / "out", seeds=1, exclude=tmp_path / "list.txt")
    listener = Listener()
    (tmp_path / "list.txt").write_text(f"{load_dataset('digits').test.sources[0].name}\n")
    with pytest.raises(TrainingError):  # what is told of the data is told before any training
        run(
            tmp_path / "out",
            listener,
            models=MODELS[:1],
            seeds=1,
            exclude=tmp_path / "list.txt",
            recipe=replace(RECIPE, optimizer="sgd", learning_rate=1e18),
        )
    assert "note: 1 image left out, as list.txt lists them" in listener.said


def test_no_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MobilenetsError, match="seeds is 0; it must be from 1 to"):
        run(tmp_path, seeds=0)
    assert list(tmp_path.iterdir()) == []


def test_mobilenet_v4_is_trained_exported_and_compared_like_the_others(tmp_path: Path) -> None:
    # The hybrid has every kind of block there is; its file and the small one's are tested with calibrated weights
    # elsewhere.
    result = run(tmp_path, models="mobilenet_v4_hybrid_medium", seeds=1, recipe=replace(RECIPE, epochs=1))
    (row,) = result.rows
    assert row.model == "mobilenet_v4_hybrid_medium"
    assert set(row.latency) == set(RUNTIMES)
    assert row.parameters > 0
