"""The batched flip and crop do, image by image, what torchvision does with the same draws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as reference

from mobilenets.errors import RecipeError
from mobilenets.training.inputs import Augment


def noise(batch: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch + height)
    return torch.randint(0, 256, (batch, height, width, channels), dtype=torch.uint8, generator=generator)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 9), height=st.integers(1, 12), width=st.integers(1, 12), channels=st.sampled_from([1, 3]),
    flip=st.booleans(), padding=st.integers(0, 5), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_as_torchvision(
    batch: int, height: int, width: int, channels: int, flip: bool, padding: int, seed: int
) -> None:
    images, augment = noise(batch, height, width, channels), Augment(flip, padding)
    found = augment(images, torch.Generator().manual_seed(seed))
    top, left, mirrored = augment.draw(batch, torch.Generator().manual_seed(seed))
    assert found.dtype == torch.uint8
    assert found.shape == images.shape
    for index in range(batch):
        padded = reference.pad(images[index].permute(2, 0, 1), [padding] * 4)
        expected = reference.crop(padded, int(top[index]), int(left[index]), height, width)
        if mirrored[index]:
            expected = reference.horizontal_flip(expected)
        assert torch.equal(found[index].permute(2, 0, 1), expected)


def test_each_image_has_draws_of_its_own_and_all_places_occur() -> None:
    top, left, mirrored = Augment(True, 4).draw(20_000, torch.Generator().manual_seed(0))
    for places in (top, left):
        counts = torch.bincount(places, minlength=9)
        assert len(counts) == 9
        assert (counts - 20_000 / 9).abs().max() < 250  # five standard deviations
    assert abs(int(mirrored.sum()) - 10_000) < 360
    assert abs(float(torch.corrcoef(torch.stack([top.float(), left.float()]))[0, 1])) < 0.036


def test_the_generator_decides() -> None:
    images, augment = noise(32, 8, 8), Augment(True, 2)
    first, again, other = (augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    state = torch.random.get_rng_state()
    augment(images, torch.Generator())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_both_the_images_stay() -> None:
    images = noise(4, 8, 8)
    assert torch.equal(Augment(False, 0)(images, torch.Generator()), images)


def test_the_given_images_are_not_changed() -> None:
    images = noise(4, 8, 8)
    before = images.clone()
    Augment(True, 2)(images, torch.Generator().manual_seed(0))
    assert torch.equal(images, before)


def test_negative_padding() -> None:
    with pytest.raises(RecipeError, match="crop_padding must be 0 or more pixels, not -1"):
        Augment(True, -1)
