from __future__ import annotations

import numpy as np
import pytest
import torch

from mobilenets.data.loader import PreparedImages, Share
from mobilenets.preprocessing import Preprocessing
from mobilenets.training.inputs import BatchInputs, StepIndex
from mobilenets.training.recipe import Recipe

ALL = Recipe(
    epochs=4,
    crop="resized",
    augment="trivial",
    jitter_brightness=0.2,
    jitter_saturation=0.2,
    erasing=0.5,
    mixup_alpha=0.3,
    cutmix_alpha=1.0,
    mix_probability=0.7,
    progressive_start=0.5,
)


def inputs_of(images: PreparedImages, recipe: Recipe) -> BatchInputs:
    return BatchInputs(recipe, images.preprocessing, 10, torch.device("cpu"))


@pytest.mark.parametrize("recipe", [Recipe(flip=True, crop_padding=2), ALL], ids=["plain", "everything"])
def test_shares_put_together_are_the_batch_of_one_process(few_digits: PreparedImages, recipe: Recipe) -> None:
    make = inputs_of(few_digits, recipe)
    whole = next(few_digits.epoch(5, 16, first=2))
    inputs, targets = make(*whole, StepIndex(1, 2), torch.contiguous_format)
    parts = []
    for index in range(4):
        share = Share(index, 4)
        part = next(few_digits.epoch(5, 16, first=2, share=share))
        parts.append(make(*part, StepIndex(1, 2, share), torch.contiguous_format))
    assert torch.equal(torch.cat([one for one, _ in parts]), inputs)
    assert torch.equal(torch.cat([labels for _, labels in parts]), targets)


def test_another_step_draws_otherwise(few_digits: PreparedImages) -> None:
    make = inputs_of(few_digits, Recipe(crop_padding=3))
    batch = few_digits.batch(range(16)), few_digits.labels[:16]
    first, again, other = (make(*batch, StepIndex(0, step), torch.contiguous_format)[0] for step in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("first", [0, 1, 5])
def test_an_epoch_goes_on_where_it_is_entered(few_digits: PreparedImages, first: int) -> None:
    whole = list(few_digits.epoch(7, 18))
    assert len(whole) == 96 // 18
    rest = list(few_digits.epoch(7, 18, first=first))
    assert all(np.array_equal(a, c) for (a, _), (c, _) in zip(whole[first:], rest, strict=True))


def test_mixed_images_have_shares_of_classes_for_targets(few_digits: PreparedImages) -> None:
    batch = few_digits.batch(range(16)), few_digits.labels[:16]
    inputs, targets = inputs_of(few_digits, ALL)(*batch, StepIndex(3, 0), torch.contiguous_format)
    assert inputs.shape == (16, 3, 8, 8)
    assert targets.shape == (16, 10)
    assert targets.sum(dim=1).tolist() == pytest.approx([1.0] * 16)
    plain, labels = inputs_of(few_digits, Recipe())(*batch, StepIndex(3, 0), torch.contiguous_format)
    assert labels.tolist() == few_digits.labels[:16].tolist()
    assert plain.dtype == inputs.dtype


def test_images_are_small_at_first() -> None:
    images, labels = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8), np.arange(4)
    make = BatchInputs(Recipe(epochs=4, progressive_start=0.5), Preprocessing(32), 10, torch.device("cpu"))
    sizes = [make(images, labels, StepIndex(epoch, 0), torch.channels_last)[0].shape[-1] for epoch in range(4)]
    assert sizes == [16, 24, 24, 32]


def test_images_that_come_cropped_are_not_cropped_again(few_digits: PreparedImages) -> None:
    batch = few_digits.batch(range(16)), few_digits.labels[:16]
    recipe = Recipe(flip=False, crop="resized")
    made = {
        cropped: BatchInputs(recipe, few_digits.preprocessing, 10, torch.device("cpu"), cropped=cropped)
        for cropped in (False, True)
    }
    inputs = {key: make(*batch, StepIndex(0, 0), torch.contiguous_format)[0] for key, make in made.items()}
    plain = made[True].plain(torch.from_numpy(batch[0]), torch.contiguous_format)
    assert torch.equal(inputs[True], plain)
    assert not torch.equal(inputs[False], plain)
