from __future__ import annotations

import pytest
import torch

from mobilenets.data.training_images import Share
from mobilenets.training.mixing import Mixing, dominant

IMAGES = torch.arange(8.0)[:, None, None, None].expand(8, 3, 10, 10)
LABELS = torch.arange(8)
KINDS = {"mixup": Mixing(0.8, None), "cutmix": Mixing(None, 1.0), "either": Mixing(0.8, 1.0)}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_mixed_in_the_shares_of_the_images(kind: str) -> None:
    mixed, targets = KINDS[kind](IMAGES, LABELS, 8, seed=3)
    assert targets.shape == (8, 8)
    assert targets.sum(dim=1).tolist() == pytest.approx([1.0] * 8)
    # Image k is filled with the number k: the mean of a mixed one is the mean of the labels it says it is made of.
    assert mixed.mean((1, 2, 3)).tolist() == pytest.approx((targets @ torch.arange(8.0)).tolist(), abs=1e-5)
    for index in range(8):
        partner = index ^ 1
        assert set(targets[index].nonzero().flatten().tolist()) <= {index, partner}
    assert len({round(float(share), 4) for share in targets.max(dim=1).values}) > 2, "each pair has shares of its own"


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_and_parts_are_those_of_the_whole(kind: str) -> None:
    before = torch.random.get_rng_state()
    mixing = KINDS[kind]
    first, again, other = (mixing(IMAGES, LABELS, 8, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[1], other[1])
    parts = [mixing(IMAGES[4 * k : 4 * k + 4], LABELS[4 * k : 4 * k + 4], 8, 1, Share(k, 2)) for k in range(2)]
    assert torch.equal(torch.cat([images for images, _ in parts]), first[0])
    assert torch.equal(torch.cat([targets for _, targets in parts]), first[1])


def test_as_many_pairs_as_asked_are_left_alone() -> None:
    images, labels = torch.rand(400, 1, 2, 2), torch.arange(400) % 2  # partners are of the two classes
    _, targets = Mixing(1.0, None, 0.25)(images, labels, 2, 0)
    alone = (targets.max(dim=1).values == 1).float().mean()
    assert 0.65 < alone < 0.85


def test_an_odd_batch_leaves_its_last_image() -> None:
    mixed, targets = Mixing(1.0, None)(IMAGES[:3], LABELS[:3], 8, 0)
    assert torch.equal(mixed[2], IMAGES[2])
    assert targets[2].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


def test_which_class_has_most() -> None:
    assert dominant(torch.tensor([3, 1])).tolist() == [3, 1]
    assert dominant(torch.tensor([[0.3, 0.7], [0.9, 0.1]])).tolist() == [1, 0]
    assert not Mixing(None, None)
