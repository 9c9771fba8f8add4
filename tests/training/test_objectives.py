from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mobilenets.training.optimizer import CrossEntropy, verb_of
from mobilenets.training.teacher import Distillation

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
TAUGHT = torch.tensor([[1.0, 1.0, -3.0], [0.0, 2.0, 0.5]])
LABELS = torch.tensor([0, 2])


class Says(nn.Module):
    """Answers the same whatever it sees, through a weight, so that a gradient would show."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, images: Tensor) -> Tensor:
        return self.logits + 0 * images


def test_it_is_the_mean_negative_log_probability() -> None:
    loss, logits = CrossEntropy()(nn.Identity(), LOGITS, LABELS)
    probabilities = LOGITS.softmax(dim=1)
    assert loss.item() == pytest.approx(-(probabilities[0, 0].log() + probabilities[1, 2].log()).item() / 2)
    assert torch.equal(logits, LOGITS)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_shares_of_classes_give_the_mean_of_the_losses_of_the_classes(smoothing: float) -> None:
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]])
    other = torch.tensor([1, 2])
    images = torch.zeros(2, 3)
    for objective in (CrossEntropy(smoothing), Distillation(Says(TAUGHT), 3.0, 0.6, smoothing)):
        mixed = objective(Says(LOGITS), images, shares)[0].item()
        alone, swapped = (objective(Says(LOGITS), images, labels)[0].item() for labels in (LABELS, other))
        assert mixed == pytest.approx(0.7 * alone + 0.3 * swapped, rel=1e-5)


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    smooth, _ = CrossEntropy(0.3)(nn.Identity(), LOGITS, LABELS)
    plain, _ = CrossEntropy()(nn.Identity(), LOGITS, LABELS)
    uniform = -LOGITS.log_softmax(dim=1).mean()
    assert smooth.item() == pytest.approx((0.7 * plain + 0.3 * uniform).item())


def test_bfloat16_logits_give_a_float32_loss() -> None:
    for objective in (CrossEntropy(), Distillation(nn.Identity(), 4.0, 0.5)):
        loss, _ = objective(nn.Identity(), LOGITS.bfloat16(), LABELS)
        assert loss.dtype == torch.float32


def by_hand(temperature: float, weight: float) -> float:
    """Hinton's formula, image by image and class by class, in Python's own numbers."""

    def soft(row: list[float]) -> list[float]:
        powers = [math.exp(value / temperature) for value in row]
        return [power / sum(powers) for power in powers]

    total = 0.0
    for student, teacher, label in zip(LOGITS.tolist(), TAUGHT.tolist(), LABELS.tolist(), strict=True):
        hard = -student[label] + math.log(sum(math.exp(value) for value in student))
        pairs = zip(soft(teacher), soft(student), strict=True)
        divergence = sum(wanted * math.log(wanted / given) for wanted, given in pairs)
        total += (1 - weight) * hard + weight * temperature**2 * divergence
    return total / len(LABELS)


@given(st.floats(0.25, 50), st.floats(0.01, 1))
def test_distillation_is_hintons_formula(temperature: float, weight: float) -> None:
    loss, logits = Distillation(Says(TAUGHT), temperature, weight)(Says(LOGITS), torch.zeros(2, 3), LABELS)
    assert loss.item() == pytest.approx(by_hand(temperature, weight), rel=1e-3, abs=1e-4)
    assert torch.equal(logits.detach(), LOGITS)


def test_only_the_student_gets_a_gradient_and_agreement_leaves_none() -> None:
    teacher, student = Says(TAUGHT), Says(TAUGHT)
    loss, _ = Distillation(teacher, 4.0, 1.0)(student, torch.zeros(2, 3), LABELS)
    loss.backward()
    assert teacher.logits.grad is None
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.logits.grad is not None
    assert student.logits.grad.abs().max() < 1e-6


def test_smoothing_touches_the_labels_part_only() -> None:
    smooth, _ = Distillation(Says(TAUGHT), 3.0, 0.6, 0.2)(Says(LOGITS), torch.zeros(2, 3), LABELS)
    plain, _ = Distillation(Says(TAUGHT), 3.0, 0.6)(Says(LOGITS), torch.zeros(2, 3), LABELS)
    hard = [CrossEntropy(share)(Says(LOGITS), torch.zeros(2, 3), LABELS)[0] for share in (0.2, 0.0)]
    assert (smooth - plain).item() == pytest.approx(0.4 * (hard[0] - hard[1]).item(), abs=1e-6)


def test_what_a_network_does_has_a_name() -> None:
    assert verb_of(CrossEntropy()) == "training"
    assert verb_of(Distillation(nn.Identity(), 1.0, 1.0)) == "distilling"
