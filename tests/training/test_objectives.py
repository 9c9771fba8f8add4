from __future__ import annotations

import pytest
import torch
from torch import nn

from mobilenets.training.objectives import CrossEntropy

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
LABELS = torch.tensor([0, 2])


def test_it_is_the_mean_negative_log_probability() -> None:
    loss, logits = CrossEntropy()(nn.Identity(), LOGITS, LABELS)
    probabilities = LOGITS.softmax(dim=1)
    assert loss.item() == pytest.approx(-(probabilities[0, 0].log() + probabilities[1, 2].log()).item() / 2)
    assert torch.equal(logits, LOGITS)


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    smooth, _ = CrossEntropy(0.3)(nn.Identity(), LOGITS, LABELS)
    plain, _ = CrossEntropy()(nn.Identity(), LOGITS, LABELS)
    uniform = -LOGITS.log_softmax(dim=1).mean()
    assert smooth.item() == pytest.approx((0.7 * plain + 0.3 * uniform).item())


def test_bfloat16_logits_give_a_float32_loss() -> None:
    loss, _ = CrossEntropy()(nn.Identity(), LOGITS.bfloat16(), LABELS)
    assert loss.dtype == torch.float32
