from __future__ import annotations

import pytest
import torch
from torch import nn

from mobilenets.training.optimizer import build_ema


def test_the_average_warms_up_as_tensorflows_does() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = build_ema(model, decay=0.5)
    expected = None
    for update in range(12):
        nn.init.constant_(model.weight, float(update))
        ema.update_parameters(model)
        if expected is None:  # the first update copies
            expected = 0.0
        else:
            decay = min(0.5, (1 + update) / (10 + update))
            expected = decay * expected + (1 - decay) * update
        assert ema.module.weight.item() == pytest.approx(expected, rel=1e-5)


def test_batch_norm_statistics_are_averaged_and_its_counter_copied() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    ema = build_ema(model, decay=0.9)
    torch.manual_seed(0)
    for _ in range(3):
        model(torch.randn(4, 1, 5, 5) + 3)
        ema.update_parameters(model)
    norm, averaged = model[1], ema.module[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(averaged, nn.BatchNorm2d)
    assert norm.num_batches_tracked == averaged.num_batches_tracked == 3
    assert not torch.equal(norm.running_mean, averaged.running_mean)
