from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mobilenets.errors import TrainingError
from mobilenets.training.accumulation import Accumulation, is_out_of_memory
from mobilenets.training.optimizer import CrossEntropy
from mobilenets.training.plan import ComputePlan

CPU = torch.device("cpu")
PLAN = ComputePlan("float32", "contiguous")


class Memory:
    """An objective that has space for so many images, and says otherwise what torch's allocators say."""

    def __init__(self, space: int, error: Callable[[], BaseException]) -> None:
        self.space, self.error, self.sizes = space, error, list[int]()

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        self.sizes.append(len(images))
        if len(images) > self.space:
            raise self.error()
        return CrossEntropy()(model, images, targets)


def batch() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    return model, torch.randn(10, 3, 2, 2), torch.arange(10) % 4


ERRORS: list[Callable[[], BaseException]] = [
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes."),
    lambda: RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    MemoryError,
]


@pytest.mark.parametrize("error", ERRORS)
def test_a_batch_too_large_is_halved_until_it_fits_and_its_gradient_stays(error: Callable[[], BaseException]) -> None:
    model, images, labels = batch()
    whole = Accumulation(model, CrossEntropy(), PLAN, CPU, parts=1, on_halving=lambda parts: None)
    wanted = whole.gradients(images, labels, labels, 0)
    gradient = model[1].weight.grad.clone()
    told: list[int] = []
    memory = Memory(3, error)
    small = Accumulation(model, memory, PLAN, CPU, parts=1, on_halving=told.append)
    outcome = small.gradients(images, labels, labels, 0)
    assert told == [2, 4]
    assert memory.sizes == [10, 5, 3, 3, 2, 2]
    assert (outcome.correct, outcome.images) == (wanted.correct, 10)
    assert outcome.loss == pytest.approx(wanted.loss, rel=1e-6)
    assert torch.allclose(model[1].weight.grad, gradient, atol=1e-6)
    memory.sizes.clear()
    small.gradients(images, labels, labels, 0)
    assert memory.sizes == [3, 3, 2, 2]  # it is not tried again with more
    assert told == [2, 4]


class ForgetsNothing(nn.Module):
    """Like a range progress: keeps what it saw in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return x


def with_statistics() -> nn.Module:
    torch.manual_seed(4)
    layers = (nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), ForgetsNothing(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(20, 4))
    return nn.Sequential(*layers)


class FailsAt(Memory):
    """Runs out of memory at the end of one call, when the forward pass has moved everything."""

    def __init__(self, call: int) -> None:
        super().__init__(0, MemoryError)
        self.call = call

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        self.sizes.append(len(images))
        answered = CrossEntropy()(model, images, targets)
        if len(self.sizes) == self.call:
            raise self.error()
        return answered


@pytest.mark.parametrize(("parts", "call"), [(1, 1), (2, 2), (2, 1)])
def test_an_attempt_that_failed_leaves_no_trace(parts: int, call: int) -> None:
    _, images, labels = batch()
    interrupted, smaller = with_statistics(), with_statistics()
    failing = Accumulation(interrupted, FailsAt(call), PLAN, CPU, parts=parts, on_halving=lambda parts: None)
    found = [failing.gradients(images, labels, labels, seed) for seed in (7, 8)]
    calm = Accumulation(smaller, CrossEntropy(), PLAN, CPU, parts=2 * parts, on_halving=lambda parts: None)
    assert found == [calm.gradients(images, labels, labels, seed) for seed in (7, 8)]
    for name, wanted in smaller.state_dict().items():
        assert torch.equal(interrupted.state_dict()[name], wanted), name
    for one, other in zip(interrupted.parameters(), smaller.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_two_images_that_do_not_fit_are_said_with_what_to_do() -> None:
    model, images, labels = batch()
    accumulation = Accumulation(model, Memory(0, MemoryError), PLAN, CPU, parts=1, on_halving=lambda parts: None)
    with pytest.raises(TrainingError, match="2 images at a time; try a smaller `image_size`"):
        accumulation.gradients(images, labels, labels, 0)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    model, images, labels = batch()
    odd = Memory(0, lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    accumulation = Accumulation(model, odd, PLAN, CPU, parts=1, on_halving=lambda parts: None)
    with pytest.raises(RuntimeError, match="mat1"):
        accumulation.gradients(images, labels, labels, 0)
    assert odd.sizes == [10]


def test_what_this_machines_allocator_says_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
