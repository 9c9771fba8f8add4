"""Forward and backward over one batch, in as few parts as the memory allows.

When a batch does not fit, it is halved, and the parts' gradients are added up: the step stays that of the recipe's
batch. Batch norm alone sees the parts, as it can't know what it has not been shown.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from mobilenets.data.loader import TrainingImages
from mobilenets.errors import RecipeError, TrainingError
from mobilenets.files import write_bytes_atomically
from mobilenets.training.optimizer import Objective, training_mode
from mobilenets.training.plan import ComputePlan
from mobilenets.training.progress import image_size_at
from mobilenets.training.recipe import Recipe

Result = TypeVar("Result")


# How PyTorch's allocators say it: CUDA's, the CPU's in two versions, and MPS'.
_OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "not enough memory", "could not create a memory")


@dataclass(frozen=True)
class Outcome:
    """A batch computed: its images' mean loss, how many of them were answered correctly, and how many they are."""

    loss: float
    correct: int
    images: int


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def count_correct(logits: Tensor, labels: Tensor) -> int:
    """How many answers `[B, K]` name the true class `[B]`, as `evaluation.metrics.correct_answers` has it."""
    named = (logits.argmax(dim=1) == labels) & logits.isfinite().all(dim=1)
    return int(named.sum())


def within_memory(
    act: Callable[[int], Result], *, parts: int, images: int, device: torch.device, on_halving: Callable[[int], None]
) -> tuple[Result, int]:
    """Do something with a batch in as many parts as the memory asks for.

    Args:
        act: does it, given the number of parts; done anew with twice as many where memory ran out.
        parts: how many to begin with.
        images: of the batch.
        device: whose memory it is.
        on_halving: told the number of parts when memory ran out; it may raise to give up.

    Returns:
        What came of it, and the number of parts.

    Raises:
        TrainingError: not even two images fit, the fewest that batch norm can take.
    """
    most = max(1, images // 2)
    while True:
        try:
            return act(parts), parts
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if parts >= most:
                raise TrainingError(
                    f"out of memory with {images // parts} images at a time; try a smaller `image_size` or `width_mult`"
                ) from error
        # Outside of the handler: the error's frames hold what the failed attempt computed.
        if device.type == "cuda":
            torch.cuda.empty_cache()
        parts = min(2 * parts, most)
        on_halving(parts)


class Accumulation:
    """Computes gradients of batches, remembering in how many parts they fit.

    Args:
        network: what is called: the model, or the model in a team.
        objective: what a step minimises.
        plan: how to compute.
        device: where.
        parts: into how many parts a batch is cut to begin with.
        on_halving: told the number of parts when memory ran out; it may raise to give up.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        plan: ComputePlan,
        device: torch.device,
        *,
        parts: int,
        on_halving: Callable[[int], None],
    ) -> None:
        self.network = network
        self.objective = objective
        self.plan = plan
        self.device = device
        self.parts = parts
        self._on_halving = on_halving

    def gradients(self, inputs: Tensor, targets: Tensor, labels: Tensor, seed: int) -> Outcome:
        """Leave the gradient of the batch's mean loss in the parameters.

        An attempt that runs out of memory leaves no trace: what its forward passes moved in the network's buffers, such
        as batch norm's statistics, is put back before the batch is tried in more parts.

        Args:
            inputs: [B, C, H, W].
            targets: class indices [B] or shares of classes [B, K].
            labels: class indices [B], to count right answers by.
            seed: of dropout.

        Raises:
            TrainingError: not even two images fit.
        """

        buffers = list(self.network.buffers())
        before = [buffer.clone() for buffer in buffers]

        def attempt(parts: int) -> Outcome:
            self.network.zero_grad(set_to_none=True)
            torch.manual_seed(seed)
            return self._accumulated(inputs, targets, labels, parts)

        def halved(parts: int) -> None:
            self.network.zero_grad(set_to_none=True)
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            self._on_halving(parts)

        outcome, self.parts = within_memory(
            attempt, parts=self.parts, images=len(inputs), device=self.device, on_halving=halved
        )
        return outcome

    def _accumulated(self, inputs: Tensor, targets: Tensor, labels: Tensor, parts: int) -> Outcome:
        total, correct = 0.0, 0
        cut = (torch.tensor_split(tensor, parts) for tensor in (inputs, targets, labels))
        pieces = list(zip(*cut, strict=True))
        for context, (images, wanted, truth) in zip(self._contexts(len(pieces)), pieces, strict=True):
            with context:
                with self.plan.autocast(self.device):
                    loss, logits = self.objective(self.network, images, wanted)
                share = len(images) / len(inputs)
                # One part is not scaled: the result is bit for bit what it was without parts.
                (loss if len(pieces) == 1 else loss * share).backward()  # type: ignore[no-untyped-call]
            total += loss.item() * share
            correct += count_correct(logits, truth)
        return Outcome(total, correct, len(inputs))

    def _contexts(self, count: int) -> Iterator[AbstractContextManager[None]]:
        """In a team gradients are exchanged once, with the last part."""
        for number in range(count):
            if isinstance(self.network, DistributedDataParallel) and number < count - 1:
                yield self.network.no_sync()
            else:
                yield nullcontext()


FAILED_BATCH: Final = "failed_batch.pt"


def save_failed_batch(run: Path, content: dict[str, Any]) -> Path:
    """Write tensors and numbers to `failed_batch.pt` (`torch.load(..., weights_only=True)` reads it).

    Raises:
        RunError: it can't be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path = run / FAILED_BATCH
    write_bytes_atomically(path, buffer.getvalue())
    return path


def check_single_images(model: nn.Module, images: TrainingImages, recipe: Recipe, *, processes: int = 1) -> None:
    """Refuse a training that would give a batch norm one value a channel.

    Args:
        model: the network; its weights stay as they are, its mode becomes that of training.
        images: what it is to be trained on.
        recipe: how.
        processes: how many share each batch.

    Raises:
        RecipeError: it would; the message names the layer and what to do.
    """
    share = min(recipe.batch_size, len(images) // processes * processes) // processes
    if share > 1 or (recipe.sync_norm and processes > 1):
        return
    training_mode(model, recipe.freeze)
    full = images.preprocessing.image_size
    side = min(image_size_at(epoch, full, recipe) for epoch in range(recipe.epochs))
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    layer = _with_single_values(model, torch.zeros(1, images.preprocessing.channels, side, side, device=device))
    if layer is not None:
        raise RecipeError(
            f"with 1 image at a time of {side}x{side} pixels, batch norm {layer} has a single value a channel and "
            f"nothing to normalise over; {_advice(len(images), processes)}"
        )


def _with_single_values(model: nn.Module, image: Tensor) -> str | None:
    """The first trained batch norm that one image [1, C, H, W] gives a single value a channel."""
    found: list[str] = []
    probe = copy.deepcopy(model).eval()

    def watch(name: str, values: Tensor) -> None:
        if values.numel() == values.shape[1]:
            found.append(name)

    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) and layer.training:
            probe.get_submodule(name).register_forward_pre_hook(lambda _, given, name=name: watch(name, given[0]))
    with torch.no_grad():
        probe(image)
    return found[0] if found else None


def _advice(images: int, processes: int) -> str:
    if images < 2 * processes:
        return "give at least 2 training images" + (" a process" if processes > 1 else "")
    synced = ", or `sync_norm=True`, which normalises over all processes" if processes > 1 else ""
    return f"try `batch_size={2 * processes}`{synced}"
