from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mobilenets.data.datasets import Dataset
from mobilenets.data.loader import PreparedImages, prepare
from mobilenets.errors import MobilenetsError, QuantizationError, RecipeError
from mobilenets.models.layers import Normalizer
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent, StepReport
from mobilenets.quantization.fake_quantization import fake_quantized
from mobilenets.quantization.finetune import finetune

pytestmark = pytest.mark.slow

BITS = 4  # so few that a small network's answers visibly change


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Dataset:
    """A few hundred digits, so that all of this takes seconds."""
    return replace(digits, train=digits.train.take(np.arange(0, 1400, 3)), test=digits.test.take(np.arange(0, 350, 7)))


@pytest.fixture(scope="module")
def ready(few: Dataset) -> SavedNetwork:
    """A network with opinions of digits: random weights, but batch norm that has seen some."""
    saved = untrained(few.classes)
    images = prepare(few.train.take(np.arange(0, 400, 4)), saved.preprocessing)
    for module in saved.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean
    with torch.no_grad():
        saved.model.train()(inputs(images))
    return replace(saved, model=saved.model.eval())


def inputs(images: PreparedImages) -> Tensor:
    normalized: Tensor = Normalizer(images.preprocessing)(torch.from_numpy(images.batch(range(len(images)))))
    return normalized


def error_by_rounding(saved: SavedNetwork, wanted: SavedNetwork, few: Dataset) -> float:
    """How far the answers to test images are from those wanted, once the weights were rounded after training.

    Ranges are found afresh, as a quantizer would; the share of the logits' norm, 0 for the same answers.
    """
    rounded = fake_quantized(copy.deepcopy(saved.model), bits=BITS, symmetric=True)
    learning, test = (inputs(prepare(split, saved.preprocessing)) for split in (few.train, few.test))
    with torch.no_grad():
        rounded.train()(learning)
        answers, expected = rounded.eval()(test), wanted.model(test)
    return float((answers - expected).norm() / (expected - expected.mean(dim=0)).norm())


def untrained(classes: tuple[str, ...]) -> SavedNetwork:
    torch.manual_seed(0)
    model = create_model("mobilenet_v3_small", num_classes=len(classes), width_mult=0.25, image_size=16)
    return SavedNetwork(model.eval(), classes, Preprocessing(16), {"data": "digits"})


class Listener(Silent):
    def __init__(self) -> None:
        self.steps: list[StepReport] = []

    def step(self, report: StepReport) -> None:
        self.steps.append(report)


def test_a_network_loses_less_by_rounding_after_it_was_tuned_for_it(ready: SavedNetwork, few: Dataset) -> None:
    before = {name: value.clone() for name, value in ready.model.state_dict().items()}
    listener = Listener()
    arguments = {"bits": BITS, "symmetric": True, "batch_size": 32, "learning_rate": 1e-3}
    tuned = finetune(ready, few, device="cpu", progress=listener, **arguments)  # type: ignore[arg-type]
    steps = len(few.train) // 32
    assert len(listener.steps) == steps
    assert listener.steps[0].verb == "distilling"
    assert tuned.provenance["finetuned"] == f"{steps} steps of {BITS}-bit rounding at learning rate 0.001"
    assert tuned.model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, ready.model.state_dict()[name]) for name, value in before.items())
    statistics = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert statistics
    assert all(torch.equal(before[name], tuned.model.state_dict()[name]) for name in statistics)
    before_it, after_it = (error_by_rounding(saved, ready, few) for saved in (ready, tuned))
    assert after_it < 0.9 * before_it


def test_it_takes_no_more_steps_than_allowed_and_leaves_random_numbers_alone(
    few: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    listener, saved = Listener(), untrained(few.classes)
    state = torch.get_rng_state()
    arguments = {"max_steps": 5, "epochs": 2, "batch_size": 16, "calibration_images": 20, "device": "cpu"}
    finetune(saved, few, progress=listener, **arguments)  # type: ignore[arg-type]
    assert len(listener.steps) == 4
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(tmp_path.iterdir()), "the run folder of the fine-tuning is thrown away"


def test_the_same_seed_gives_the_same_weights(few: Dataset) -> None:
    saved = untrained(few.classes)
    arguments = {"max_steps": 2, "batch_size": 16, "calibration_images": 20, "device": "cpu"}
    first, second = (finetune(saved, few, **arguments).model.state_dict() for _ in range(2))  # type: ignore[arg-type]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["stem.conv.weight"], saved.model.state_dict()["stem.conv.weight"])


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"bits": 1}, QuantizationError, "bits is 1"),
        ({"bits": 16}, QuantizationError, "bits is 16"),
        ({"keep_float": ["blocks.77"]}, QuantizationError, r"called blocks\.77; the network's layers are stem\.conv, "),
        ({"max_steps": 0}, QuantizationError, "max_steps is 0; it must be at least 1"),
        ({"calibration_images": 0}, QuantizationError, "calibration_images is 0"),
        ({"max_steps": 3, "epochs": 4}, QuantizationError, "4 epochs take at least 4 steps, max_steps is 3"),
        ({"learning_rate": -1.0}, RecipeError, "learning_rate is -1.0"),
        ({"epochs": 0}, RecipeError, "epochs is 0"),
        ({"batch_size": 0}, RecipeError, "batch_size is 0"),
    ],
)
def test_what_can_t_be_is_one_line(
    few: Dataset, arguments: dict[str, object], error: type[MobilenetsError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        finetune(untrained(few.classes), few, device="cpu", **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_images_of_other_classes_are_refused(few: Dataset) -> None:
    with pytest.raises(QuantizationError, match=r"answers 2 classes \(a, b, \.\.\.\), digits has 10"):
        finetune(untrained(("a", "b")), few)


def test_few_images_are_one_batch(digits: Dataset) -> None:
    tiny = replace(digits, train=digits.train.take(np.arange(24)))
    listener = Listener()
    finetune(untrained(digits.classes), tiny, batch_size=64, device="cpu", progress=listener)
    assert [report.steps for report in listener.steps] == [1]
