from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import timm
import torch
from torch import nn

from mobilenets.auditing.count import count
from mobilenets.models.mobilenet_v1 import ROWS, STEM_CHANNELS
from mobilenets.models.registry import create_model

Parity = Callable[[nn.Module, nn.Module], None]


@pytest.mark.parametrize(
    ("width_mult", "parameters", "macs"),
    [(1.0, 4_231_976, 568.74), (0.75, 2_585_560, 325.40), (0.5, 1_331_592, 149.50), (0.25, 470_072, 41.03)],
)
@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_published_counts(width_mult: float, parameters: int, macs: float, activation: str) -> None:
    with torch.device("meta"):
        counted = count(create_model("mobilenet_v1", width_mult=width_mult, activation=activation))
    assert counted.parameters == parameters
    assert round(counted.macs / 1e6, 2) == macs


@pytest.mark.parametrize(("image_size", "macs"), [(224, 569), (192, 418), (160, 291), (128, 186)])
def test_the_papers_resolutions(image_size: int, macs: int) -> None:
    """Table 7, without its rounding of the smaller figures: cost falls with the square of the side."""
    with torch.device("meta"):
        counted = count(create_model("mobilenet_v1", image_size=image_size))
    assert round(counted.macs / 1e6) == pytest.approx(macs, abs=1)
    assert counted.parameters == 4_231_976


def test_rows_fit_each_other() -> None:
    assert ROWS[0].in_channels == STEM_CHANNELS
    assert all(above.out_channels == below.in_channels for above, below in pairwise(ROWS))
    assert len(ROWS) == 13


@pytest.mark.parametrize(
    ("timm_name", "width_mult", "activation"),
    [("mobilenetv1_100", 1.0, "relu"), ("mobilenetv1_100", 1.0, "relu6"), ("mobilenetv1_125", 1.25, "relu6")],
)
def test_timm_gives_the_same_outputs(timm_name: str, width_mult: float, activation: str, assert_parity: Parity) -> None:
    theirs = timm.create_model(timm_name, act_layer=activation)
    assert_parity(create_model("mobilenet_v1", width_mult=width_mult, activation=activation), theirs)
