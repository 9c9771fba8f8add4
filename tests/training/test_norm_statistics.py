from __future__ import annotations

import pytest
import torch
from torch import nn

from mobilenets.models.registry import create_model
from mobilenets.training.optimizer import initial_share, reestimate, why_reestimate


def test_the_share_left_follows_the_slowest_momentum() -> None:
    v2, v3 = (create_model(name, num_classes=2, image_size=32) for name in ("mobilenet_v2", "mobilenet_v3_small"))
    assert initial_share(v2, 50) == pytest.approx(0.9**50)
    assert initial_share(v3, 50) == pytest.approx(0.99**50)
    assert initial_share(nn.Linear(1, 1), 0) == 0
    assert initial_share(nn.BatchNorm2d(3, momentum=None), 1) == 0  # a plain average has no memory of its start


def test_they_are_measured_anew_after_few_steps_and_after_averaging() -> None:
    model = create_model("mobilenet_v2", num_classes=2, image_size=32)
    assert "still hold 12% of their initial values" in (why_reestimate(model, 20, averaged=False) or "")
    assert why_reestimate(model, 1000, averaged=False) is None
    assert "averaged weights" in (why_reestimate(model, 1000, averaged=True) or "")
    assert why_reestimate(nn.Linear(1, 1), 1, averaged=True) is None


def test_reestimated_statistics_are_those_of_the_images() -> None:
    torch.manual_seed(0)
    images = torch.randn(64, 3, 4, 4) * 2 + 5
    model = nn.BatchNorm2d(3, momentum=0.01).eval()
    reestimate(model, images.split(16))
    assert model.running_mean == pytest.approx(images.mean((0, 2, 3)).numpy(), abs=1e-4)
    assert model.running_var == pytest.approx(images.var((0, 2, 3)).numpy(), rel=0.1)
    assert not model.training
    assert model.momentum == 0.01
