from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

pytest.importorskip("ai_edge_litert", reason="the extra litert is not installed")

from litert_files import answers, decoded, expected, google, lively, noise, operators, photographs

from mobilenets import create_from_weights
from mobilenets.errors import ExportError, MissingExtraError
from mobilenets.exporters.litert.convert import FILE, to_litert
from mobilenets.install import install_line
from mobilenets.preprocessing import Preprocessing

IMAGENET = Preprocessing(32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
ENDS = {"CAST": 1, "MEAN": 1}
TOLERANCE = 1e-4
"""Of the largest logit: both sum in float32, in another order."""

# Each convolution, depthwise convolution and gate of the papers' tables, and nothing else: a CAST for the pixels, and
# a PAD where symmetric padding at stride 2 is not SAME (three of the five steps are left at 32 pixels). How many
# shortcuts there are depends on the steps that are left: there is an ADD for each, and one for the pixels.
OPERATORS = {
    "mobilenet_v1": ENDS | {"PAD": 3, "CONV_2D": 14, "DEPTHWISE_CONV_2D": 13, "FULLY_CONNECTED": 1},
    "mobilenet_v2": ENDS | {"PAD": 3, "CONV_2D": 35, "DEPTHWISE_CONV_2D": 17, "FULLY_CONNECTED": 1},
    "mobilenet_v3_small": {
        "CAST": 1,
        "PAD": 3,
        "CONV_2D": 23 + 2 * 9,
        "DEPTHWISE_CONV_2D": 11,
        "HARD_SWISH": 19,
        "MEAN": 1 + 9,
        "MUL": 9,
        "FULLY_CONNECTED": 2,
    },
    "mobilenet_v3_large": {
        "CAST": 1,
        "PAD": 3,
        "CONV_2D": 31 + 2 * 8,
        "DEPTHWISE_CONV_2D": 15,
        "HARD_SWISH": 21,
        "MEAN": 1 + 8,
        "MUL": 8,
        "FULLY_CONNECTED": 2,
    },
    "mobilenet_v4_conv_small": ENDS | {"PAD": 3, "CONV_2D": 31, "DEPTHWISE_CONV_2D": 15, "FULLY_CONNECTED": 1},
}


def assert_near(actual: NDArray[np.float32], logits: NDArray[np.float32]) -> None:
    assert actual.shape == logits.shape
    assert np.abs(actual - logits).max() <= TOLERANCE * max(1.0, float(np.abs(logits).max()))


def exported(model: nn.Module, preprocessing: Preprocessing, **options: object) -> bytes:
    made = to_litert(model, preprocessing, **options)
    assert made.dynamic_batch
    assert list(made.payload) == [FILE]
    return made.payload[FILE]


@pytest.mark.parametrize("name", OPERATORS)
def test_each_network_is_its_papers_operators_and_answers_as_pytorch(name: str, tmp_path: Path) -> None:
    model = lively(name)
    file = exported(model, IMAGENET)
    shortcuts = sum(getattr(block, "has_shortcut", False) for block in model.modules())
    assert operators(file, tmp_path) == OPERATORS[name] | {"ADD": 1 + shortcuts}
    images = noise(3)
    logits = expected(model, IMAGENET, images)
    assert np.ptp(logits, axis=0).max() > 0.01 * np.abs(logits).max()  # the answer depends on the image
    assert_near(answers(file, images), logits)


def test_any_number_of_images_gives_the_same_answers() -> None:
    file, images = exported(lively("mobilenet_v3_small"), IMAGENET), noise(5)
    together = answers(file, images)
    for number in range(5):
        assert_near(answers(file, images[number : number + 1]), together[number : number + 1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenet_v3_large", {"padding": "same"}),
        ("mobilenet_v1", {"in_channels": 1}),
        ("mobilenet_v2", {"image_size": 33, "num_classes": 1}),
        ("mobilenet_v3_small", {"image_size": 64, "width_mult": 0.35}),
    ],
)
def test_other_paddings_channels_sizes_and_classes(name: str, options: dict[str, object]) -> None:
    model = lively(name, **options)
    size, channels = model.config.image_size, model.config.in_channels
    preprocessing, images = Preprocessing(size, channels=channels), noise(2, size, channels)
    file = exported(model, preprocessing)
    assert_near(answers(file, images), expected(model, preprocessing, images))


def test_tensorflows_padding_needs_no_pad(tmp_path: Path) -> None:
    assert "PAD" not in operators(exported(lively("mobilenet_v2", padding="same"), IMAGENET), tmp_path)


@pytest.mark.slow
def test_attention_has_no_transposition(tmp_path: Path) -> None:
    model, images = lively("mobilenet_v4_hybrid_medium"), noise(2)
    file = exported(model, IMAGENET)
    counted = operators(file, tmp_path)
    assert "TRANSPOSE" not in counted
    assert counted["BATCH_MATMUL"] == 2 * counted["SOFTMAX"] > 0
    assert counted["RESHAPE"] == 4 * counted["SOFTMAX"]
    assert_near(answers(file, images), expected(model, IMAGENET, images))


def test_half_precision_halves_the_file() -> None:
    model, images = lively("mobilenet_v2"), noise(3)
    whole, half = exported(model, IMAGENET), exported(model, IMAGENET, precision="fp16")
    assert len(half) < 0.6 * len(whole)
    logits = expected(model, IMAGENET, images)
    difference = np.abs(answers(half, images) - logits).max() / np.abs(logits).max()
    assert TOLERANCE / 10 < difference < 0.05


def test_what_is_to_be_quantized_has_hard_swish_in_two_parts_and_answers_the_same(tmp_path: Path) -> None:
    model, images = lively("mobilenet_v3_small"), noise(3)
    file = exported(model, IMAGENET, for_int8=True)
    counted = operators(file, tmp_path)
    assert "HARD_SWISH" not in counted
    # Nine gates, nineteen h-swishes, and the sixth of the stem's, whose output the first block also adds as it is.
    assert counted["MUL"] == 9 + 19 + 1
    assert_near(answers(file, images), expected(model, IMAGENET, images))


def test_input_and_output_are_named_and_take_pictures(tmp_path: Path) -> None:
    read = decoded(exported(lively("mobilenet_v1"), IMAGENET), tmp_path)
    (pixels,), (logits,) = read.inputs, read.outputs
    assert (read.tensors[pixels].name, read.tensors[pixels].dtype) == ("images", "UINT8")
    assert (read.tensors[logits].name, read.tensors[logits].dtype) == ("logits", "FLOAT32")
    assert read.tensors[pixels].shape == (1, 32, 32, 3)


def test_the_network_is_not_touched() -> None:
    model = lively("mobilenet_v2").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exported(model, IMAGENET)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_same_network_gives_the_same_bytes() -> None:
    assert exported(lively("mobilenet_v3_small"), IMAGENET) == exported(lively("mobilenet_v3_small"), IMAGENET)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "name", "options"),
    [
        ("mobilenet_v2", "mobilenet_v2_1.0_224_quant.tflite", {}),
        ("mobilenet_v1", "mobilenet_v1_0.25_128_quant.tflite", {"width_mult": 0.25, "image_size": 128}),
    ],
)
def test_googles_weights_on_photographs(network: str, name: str, options: dict[str, object]) -> None:
    model, _ = create_from_weights(network, str(google(name)), options)
    preprocessing = Preprocessing(model.config.image_size)
    images = photographs("imagenet-samples.zip", preprocessing, 8)
    logits = expected(model.eval(), preprocessing, images)
    actual = answers(exported(model, preprocessing), images)
    assert_near(actual, logits)
    assert (actual.argmax(1) == logits.argmax(1)).all()


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "named"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2)), "dilated"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding="same")), "padded in a way"),
        (nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1, groups=2)), "2 groups"),
        (nn.Sequential(nn.PReLU()), "PReLU"),
        (nn.Sequential(nn.Linear(32, 4)), "flatten it first"),
        (nn.Sequential(nn.Conv2d(3, 4, 1)), "no logits"),
        (Branching(), "depends on its input"),
    ],
)
def test_what_can_not_be_written_is_named(network: nn.Module, named: str) -> None:
    with pytest.raises(ExportError, match=named) as caught:
        to_litert(network, Preprocessing(32))
    assert "\n" not in str(caught.value)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ExportError, match="fp32 or fp16"):
        to_litert(lively("mobilenet_v1"), IMAGENET, precision="int4")


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mobilenets.exporters.litert.convert.find_spec",
        lambda name: None if name == "ai_edge_litert" else find_spec(name),
    )
    with pytest.raises(MissingExtraError, match=re.escape(install_line("export"))):
        to_litert(lively("mobilenet_v1"), IMAGENET)
