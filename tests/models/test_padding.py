"""TensorFlow's SAME padding and its eps, as options of the networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mobilenets.errors import ModelError
from mobilenets.models.layers import ConvNormActivation, SameConv2d, same_padding
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, load_network, save_network
from mobilenets.preprocessing import Preprocessing

Parity = Callable[[nn.Module, nn.Module], None]
NAMES = ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small_minimalistic"]


@given(st.integers(1, 300), st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 2, 3]))
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int) -> None:
    before, after = same_padding(size, kernel, stride)
    assert 0 <= after - before <= 1
    padded = size + before + after
    assert (padded - kernel) // stride + 1 == -(-size // stride)
    # No more than needed: one zero less, and an output is lost.
    assert before + after == 0 or (padded - 1 - kernel) // stride + 1 < -(-size // stride)


def test_an_even_side_at_stride_2_is_padded_after_it() -> None:
    assert same_padding(224, 3, 2) == (0, 1)
    assert same_padding(225, 3, 2) == (1, 1)
    assert same_padding(14, 5, 2) == (1, 2)
    assert same_padding(7, 3, 1) == (1, 1)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(8, 8), (7, 8), (9, 5)])
def test_the_layer_pads_so_and_keeps_its_names(kernel: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    same = ConvNormActivation(3, 8, kernel=kernel, stride=2, padding="same", norm=None, activation=None)
    plain = ConvNormActivation(3, 8, kernel=kernel, stride=2, norm=None, activation=None)
    assert list(same.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(same.state_dict())
    x = torch.randn(2, 3, *size)
    (top, bottom), (left, right) = (same_padding(side, kernel, 2) for side in size)
    expected = F.conv2d(F.pad(x, (left, right, top, bottom)), plain.conv.weight, plain.conv.bias, stride=2)
    torch.testing.assert_close(same(x), expected)
    odd = all(side % 2 for side in size)
    assert torch.allclose(same(x), plain(x), atol=1e-6) == odd


def test_only_strided_filters_differ() -> None:
    with torch.device("meta"):
        model = create_model("mobilenet_v2", padding="same")
    strided = {name for name, m in model.named_modules() if isinstance(m, SameConv2d)}
    assert strided == {"stem.conv", *(f"blocks.{block}.depthwise.conv" for block in (1, 3, 6, 13))}


# timm's ports of TensorFlow's weights: its padding and eps; at the even and the odd size of `assert_parity`.
@pytest.mark.parametrize(
    ("name", "timm_name", "options"),
    [
        ("mobilenet_v3_large", "tf_mobilenetv3_large_100", {}),
        ("mobilenet_v3_small", "tf_mobilenetv3_small_075", {"width_mult": 0.75}),
        ("mobilenet_v3_large_minimalistic", "tf_mobilenetv3_large_minimal_100", {}),
        ("mobilenet_v2", "mobilenetv2_100", {"norm_eps": 1e-3}),
        ("mobilenet_v1", "mobilenetv1_100", {"norm_eps": 1e-3, "activation": "relu6"}),
    ],
)
def test_timm_gives_the_same_outputs(name: str, timm_name: str, options: dict[str, Any], assert_parity: Parity) -> None:
    theirs = timm.create_model(timm_name, pad_type="same", bn_eps=1e-3)
    assert_parity(create_model(name, padding="same", **options), theirs)


@pytest.mark.parametrize("name", NAMES)
def test_options_are_kept(name: str) -> None:
    with torch.device("meta"):
        config = create_model(name, padding="same", norm_eps=1e-4).config
        assert (config.options["padding"], config.options["norm_eps"]) == ("same", 1e-4)
        model = create_model(**config.to_dict())
    assert model.config == config
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-4}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("padding", ["SAME", "valid", "", None, 1, ["same"]])
def test_another_padding_lists_the_valid_ones(name: str, padding: Any) -> None:
    with pytest.raises(ModelError, match=r"there is no padding .*: choose one of symmetric, same$"):
        create_model(name, padding=padding)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("eps", [0, -1e-3, 0.2, float("nan"), "1e-3", True, None])
def test_another_eps_is_said(name: str, eps: Any) -> None:
    with pytest.raises(ModelError, match=r"norm_eps is .*: it must be a number above 0, at most 0\.1"):
        create_model(name, norm_eps=eps)


def test_runs_from_before_these_options_load(tmp_path: Path) -> None:
    model = create_model("mobilenet_v3_small", num_classes=2, width_mult=0.35, image_size=32)
    save_network(tmp_path, SavedNetwork(model, ("a", "b"), Preprocessing(32), {}))
    description = json.loads((tmp_path / "model.json").read_text())
    for option in ("padding", "norm_eps"):
        del description["network"][option]
    (tmp_path / "model.json").write_text(json.dumps(description))
    assert load_network(tmp_path).model.config == model.config


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")  # exporter's
def test_the_exported_graph_pads_by_constants(tmp_path: Path) -> None:
    torch.manual_seed(0)
    strided = [ConvNormActivation(3, 3, kernel=kernel, stride=2, padding="same") for kernel in (3, 5)]
    model = nn.Sequential(*strided).eval()
    images, path = torch.randn(2, 3, 18, 18), tmp_path / "model.onnx"
    batch = {0: torch.export.Dim("batch")}
    torch.onnx.export(model, (images,), str(path), dynamo=True, dynamic_shapes=(batch,), verbose=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].shape[1:] == [3, 5, 5]
    (answer,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(answer, model(images).numpy(), atol=1e-5)
