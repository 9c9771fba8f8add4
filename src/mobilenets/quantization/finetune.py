"""Quantization-aware fine-tuning: float weights that lose less when they are quantized afterwards.

The network is trained a few hundred steps more with the rounding of 8-bit arithmetic in its forward pass, by the one
training loop, with the float network itself as its teacher: there is nothing new to learn, only to answer as before in
spite of the rounding. What comes out is an ordinary float network that any quantizer and exporter takes.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch
from torch import fx, nn

from mobilenets.data.datasets import Dataset
from mobilenets.data.loader import PreparedImages, prepare
from mobilenets.data.splits import stratified_sample
from mobilenets.errors import QuantizationError, TrainingInterruptedError
from mobilenets.files import temporary_folder
from mobilenets.models.layers import Normalizer
from mobilenets.models.saved import SavedNetwork
from mobilenets.progress import Progress, Silent, counted
from mobilenets.quantization.fake_quantization import fake_quantized
from mobilenets.training.checkpoints import Experiment
from mobilenets.training.loop import Training
from mobilenets.training.plan import choose_device
from mobilenets.training.recipe import Recipe
from mobilenets.training.teacher import Distillation, FittedTeacher

CALIBRATION_BATCH = 64
TEACHER_SHARE = 0.9  # of the loss; the labels have the rest
TEMPERATURE = 1.0  # the teacher's very answers are to be kept, not its view of similar classes


def finetune(
    saved: SavedNetwork,
    dataset: Dataset,
    *,
    epochs: int = 1,
    max_steps: int = 400,
    batch_size: int = 64,
    learning_rate: float = 1e-4,
    bits: int = 8,
    symmetric: bool = False,
    calibration_images: int = 256,
    keep_float: Collection[str] = (),
    skip_bad: bool = False,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> SavedNetwork:
    """Train a network to bear rounding; its weights stay float.

    Args:
        saved: the trained network; it is not changed.
        dataset: training images of the same classes; as many of them are used as the steps can take.
        epochs: passes over the images used.
        max_steps: most steps of all epochs together.
        batch_size: images a step; fewer where there are fewer images.
        learning_rate: peak of a cosine schedule; small, since the network is trained already.
        bits: of weights and activations, 2 to 8.
        symmetric: whether activations are to be quantized symmetrically afterwards.
        calibration_images: training images whose activations give the first ranges.
        keep_float: names of layers or blocks that won't be quantized afterwards either.
        skip_bad: leave unreadable images out instead of refusing.
        seed: of the choice of images, their order and augmentation.
        device: `cpu`, `cuda` or `mps` instead of the best present.
        progress: told of progress.

    Returns:
        A network of the same kind with the weights found; its provenance says how it was fine-tuned.

    Raises:
        QuantizationError: other classes than the network's, too few steps or images, bits out of range, no such layer.
        RecipeError: epochs, batch size or learning rate out of range.
        BadImagesError: unreadable images, and `skip_bad` is off.
        NonFiniteLossError: training diverged.
        TrainingInterruptedError: on Ctrl-C; nothing is kept.
    """
    progress = progress or Silent()
    _check(saved, dataset, max_steps, calibration_images)
    recipe = _recipe(saved, epochs, batch_size, learning_rate, seed)
    student = copy.deepcopy(saved.model)
    rounded = fake_quantized(student, bits=bits, symmetric=symmetric, keep_float=keep_float)
    images = _images(saved, dataset, recipe, max_steps, skip_bad, progress)
    chosen = choose_device(device)
    _calibrate(rounded, images, calibration_images, seed, chosen)
    with torch.random.fork_rng(devices=[]):  # the loop seeds torch's global generator at every step
        steps = _train(rounded, saved, images, recipe, max_steps, chosen, progress)
    how = f"{steps} steps of {bits}-bit rounding at learning rate {learning_rate:g}"
    return replace(saved, model=student.cpu().eval(), provenance={**saved.provenance, "finetuned": how})


def _check(saved: SavedNetwork, dataset: Dataset, max_steps: int, calibration_images: int) -> None:
    if dataset.classes != saved.classes:
        raise QuantizationError(
            f"the network answers {len(saved.classes)} classes ({', '.join(saved.classes[:3])}, ...), {dataset.name} "
            f"has {len(dataset.classes)} ({', '.join(dataset.classes[:3])}, ...); tune on images of its own"
        )
    for name, value in (("max_steps", max_steps), ("calibration_images", calibration_images)):
        if value < 1:
            raise QuantizationError(f"{name} is {value}; it must be at least 1")


def _recipe(saved: SavedNetwork, epochs: int, batch_size: int, learning_rate: float, seed: int) -> Recipe:
    """Short and gentle. No flip: what the images allow is not known here, and a mirrored digit is another sign."""
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_epochs=0.1,
        weight_decay=0.0,
        flip=False,
        crop_padding=saved.preprocessing.image_size // 8,
        seed=seed,
        precision="float32",  # bfloat16 would round more coarsely than what is being simulated
        memory_format="channels_last",
    )


def _images(
    saved: SavedNetwork, dataset: Dataset, recipe: Recipe, max_steps: int, skip_bad: bool, progress: Progress
) -> PreparedImages:
    """As many training images as the steps can take, as many of each class; no others are decoded."""
    wanted = max(1, max_steps // recipe.epochs) * recipe.batch_size
    split = dataset.train
    if wanted < len(split):
        split = split.take(stratified_sample(split.labels, wanted, recipe.seed))

    count = counted(progress.update, "reading training images")
    return prepare(split, saved.preprocessing, skip_bad=skip_bad, progress=count)


def _calibrate(rounded: nn.Module, images: PreparedImages, count: int, seed: int, device: torch.device) -> None:
    """Give activations their first ranges; from random numbers training would start with everything rounded to 0."""
    chosen = stratified_sample(images.labels, min(count, len(images)), seed)
    parts = np.array_split(np.random.default_rng(seed).permutation(chosen), -(-len(chosen) // CALIBRATION_BATCH))
    normalize = Normalizer(images.preprocessing).to(device)
    rounded.to(device).train()
    with torch.no_grad():
        for pixels, _ in images.stream(parts):
            rounded(normalize(torch.from_numpy(pixels).to(device)))


def _train(
    rounded: fx.GraphModule,
    saved: SavedNetwork,
    images: PreparedImages,
    recipe: Recipe,
    max_steps: int,
    device: torch.device,
    progress: Progress,
) -> int:
    """Train in place by the one loop, in a run folder that is thrown away; return the number of steps."""
    own = saved.preprocessing
    teacher = FittedTeacher(copy.deepcopy(saved.model), own, own, range(len(saved.classes))).to(device)
    with temporary_folder() as folder:
        training = Training(
            rounded,
            images,
            recipe,
            folder,
            experiment=Experiment(saved.model.config.to_dict(), recipe.to_dict(), {}),
            device=device,
            progress=progress,
            classes=len(saved.classes),
            objective=Distillation(teacher, TEMPERATURE, TEACHER_SHARE),
        )
        # One epoch of fewer steps than asked for would be more than `max_steps` of many epochs.
        if recipe.epochs * training.steps > max_steps:
            raise QuantizationError(
                f"{recipe.epochs} epochs take at least {recipe.epochs} steps, max_steps is {max_steps}; ask for fewer"
            )
        try:
            training.fit()
        except TrainingInterruptedError as stopped:
            raise TrainingInterruptedError("stopped while fine-tuning; nothing of it is kept") from stopped
        return recipe.epochs * training.steps
