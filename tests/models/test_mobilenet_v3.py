from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import timm
import torch
import torchvision
from torch import nn

from mobilenets.auditing.count import count
from mobilenets.models.mobilenet_v3 import LARGE, SMALL, V3Table
from mobilenets.models.registry import create_model

Parity = Callable[[nn.Module, nn.Module], None]


@pytest.mark.parametrize(
    ("name", "width_mult", "parameters", "macs"),
    [
        ("mobilenet_v3_large", 1.0, 5_483_032, 216.59),
        ("mobilenet_v3_large", 0.75, 3_993_528, 154.56),
        ("mobilenet_v3_small", 1.0, 2_542_856, 56.51),
        ("mobilenet_v3_small", 0.75, 2_041_872, 43.40),
        ("mobilenet_v3_large_minimalistic", 1.0, 3_924_288, 209.14),
        ("mobilenet_v3_small_minimalistic", 1.0, 2_044_736, 52.29),
    ],
)
def test_published_counts(name: str, width_mult: float, parameters: int, macs: float) -> None:
    with torch.device("meta"):
        counted = count(create_model(name, width_mult=width_mult))
    assert counted.parameters == parameters
    assert round(counted.macs / 1e6, 2) == macs


@pytest.mark.parametrize(("table", "blocks"), [(LARGE, 15), (SMALL, 11)])
def test_rows_fit_each_other(table: V3Table, blocks: int) -> None:
    assert len(table.rows) == blocks
    assert all(above.out_channels == below.in_channels for above, below in pairwise(table.rows))


@pytest.mark.parametrize(
    ("width_mult", "features"), [(0.5, 1280), (0.75, 1280), (1.0, 1280), (1.25, 1600), (2.0, 2560)]
)
def test_the_penultimate_layer_does_not_shrink(width_mult: float, features: int) -> None:
    with torch.device("meta"):
        assert create_model("mobilenet_v3_large", width_mult=width_mult).classifier.in_features == features


def test_minimalistic_is_without_the_three() -> None:
    with torch.device("meta"):
        models = [create_model(f"mobilenet_v3_{size}_minimalistic") for size in ("large", "small")]
    for model in models:
        kinds = {type(module) for module in model.modules()}
        assert not kinds & {nn.Hardswish, nn.Hardsigmoid, nn.ReLU6}
        kernels = {module.kernel_size for module in model.modules() if isinstance(module, nn.Conv2d)}
        assert kernels == {(1, 1), (3, 3)}


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small"])
def test_torchvision_gives_the_same_outputs(name: str, assert_parity: Parity) -> None:
    assert_parity(create_model(name), torchvision.models.get_model(name))


# Not below 0.75: there timm keeps the stem at its full width, its own choice for its own weights.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "timm_name", "width_mult"),
    [
        ("mobilenet_v3_large", "mobilenetv3_large_075", 0.75),
        ("mobilenet_v3_small", "mobilenetv3_small_075", 0.75),
        ("mobilenet_v3_large_minimalistic", "tf_mobilenetv3_large_minimal_100", 1.0),
        ("mobilenet_v3_small_minimalistic", "tf_mobilenetv3_small_minimal_100", 1.0),
    ],
)
def test_timm_gives_the_same_outputs(name: str, timm_name: str, width_mult: float, assert_parity: Parity) -> None:
    # timm's own eps is 1e-5; its ports of TensorFlow weights also pad on one side, which is not in the paper.
    theirs = timm.create_model(timm_name, bn_eps=1e-3, pad_type="")
    assert_parity(create_model(name, width_mult=width_mult), theirs)


def test_a_different_eps_is_seen(assert_parity: Parity) -> None:
    with pytest.raises(AssertionError):
        assert_parity(create_model("mobilenet_v3_small", width_mult=0.75), timm.create_model("mobilenetv3_small_075"))
