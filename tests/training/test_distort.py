from __future__ import annotations

import pytest
import torch

from mobilenets.data.decoding import RandomCrop
from mobilenets.data.loader import Share
from mobilenets.training.inputs import Distort, Rand

KINDS = {
    "crop": Distort(crop=RandomCrop()),
    "jitter": Distort(brightness=0.3, saturation=0.5),
    "trivial": Distort(policy="trivial"),
    "rand": Distort(policy=Rand(ops=3, magnitude=7, probability=0.6)),
    "erasing": Distort(erasing=0.9, fill=(1.0, 2.0, 3.0)),
    "all": Distort(RandomCrop(), 0.1, 0.1, "trivial", 0.5, (9.0, 9.0, 9.0)),
}


def photo(channels: int = 3) -> torch.Tensor:
    """Smooth, so that every change shows."""
    x = torch.linspace(0, 1, 16)
    waves = torch.stack([(7 * x[:, None] + 5 * x[None, :] * (k + 1)).sin() for k in range(channels)], dim=-1)
    return (127 + 100 * waves).to(torch.uint8).expand(8, 16, 16, channels).contiguous()


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_and_each_image_has_draws_of_its_own(kind: str) -> None:
    images, distort = photo(), KINDS[kind]
    before = torch.random.get_rng_state()
    first, again, other = (distort(images, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.dtype == torch.uint8
    assert first.shape == images.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({image.numpy().tobytes() for image in first}) > 3
    assert torch.equal(images, photo()), "the given images are not changed"


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_batch_come_out_as_the_whole(kind: str) -> None:
    images, distort = photo(), KINDS[kind]
    parts = [distort(images[2 * k : 2 * k + 2], 5, Share(k, 4)) for k in range(4)]
    assert torch.equal(torch.cat(parts), distort(images, 5))


def test_nothing_asked_for_leaves_the_images() -> None:
    images = photo()
    assert Distort()(images, 0) is images


@pytest.mark.parametrize("kind", ["trivial", "rand", "crop"])
def test_grey_images(kind: str) -> None:
    assert KINDS[kind](photo(1), 3).shape == (8, 16, 16, 1)


def test_what_is_erased_has_the_colour_asked_for() -> None:
    images = photo()
    erased = Distort(erasing=1.0, fill=(1.0, 2.0, 3.0))(images, 0)
    changed = (erased != images).any(dim=-1)
    assert changed.flatten(1).any(dim=1).all()
    assert {tuple(pixel) for pixel in erased[changed].tolist()} == {(1, 2, 3)}
    assert 0.01 < changed.float().mean() < 0.34


def test_a_rand_change_is_made_as_often_as_asked() -> None:
    images = photo()[:1].expand(200, -1, -1, -1)
    policy = Rand(ops=1, magnitude=9, probability=0.5)
    changed = (Distort(policy=policy)(images, 0) != images).flatten(1).any(dim=1).float().mean()
    assert 0.3 < changed < 0.55  # of 14 changes, one is none at all
