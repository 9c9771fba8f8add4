from __future__ import annotations

import numpy as np
import pytest
import torch

from mobilenets.data.loader import PreparedImages
from mobilenets.data.training_images import Share
from mobilenets.training.inputs import BatchInputs, Place
from mobilenets.training.recipe import Recipe


def inputs_of(images: PreparedImages, recipe: Recipe) -> BatchInputs:
    return BatchInputs(recipe, images.preprocessing, 10, torch.device("cpu"))


def test_shares_put_together_are_the_batch_of_one_process(few_digits: PreparedImages) -> None:
    make = inputs_of(few_digits, Recipe(flip=True, crop_padding=2))
    whole = next(few_digits.epoch(5, 16, first=2))
    inputs, targets = make(*whole, Place(1, 2), torch.contiguous_format)
    parts = []
    for index in range(4):
        share = Share(index, 4)
        part = next(few_digits.epoch(5, 16, first=2, share=share))
        parts.append(make(*part, Place(1, 2, share), torch.contiguous_format))
    assert torch.equal(torch.cat([one for one, _ in parts]), inputs)
    assert torch.equal(torch.cat([labels for _, labels in parts]), targets)


def test_another_step_draws_otherwise(few_digits: PreparedImages) -> None:
    make = inputs_of(few_digits, Recipe(crop_padding=3))
    batch = few_digits.batch(range(16)), few_digits.labels[:16]
    first, again, other = (make(*batch, Place(0, step), torch.contiguous_format)[0] for step in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("first", [0, 1, 5])
def test_an_epoch_goes_on_where_it_is_entered(few_digits: PreparedImages, first: int) -> None:
    whole = list(few_digits.epoch(7, 18))
    assert len(whole) == 96 // 18
    rest = list(few_digits.epoch(7, 18, first=first))
    assert all(np.array_equal(a, c) for (a, _), (c, _) in zip(whole[first:], rest, strict=True))
