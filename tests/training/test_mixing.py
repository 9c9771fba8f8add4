from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from mobilenets.data.loader import Share
from mobilenets.training.inputs import Mixing
from mobilenets.training.optimizer import dominant

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


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_torchvisions_rules(kind: str, memory: torch.memory_format) -> None:
    """MixUp: lam * own + (1 - lam) * partner; CutMix: one box of the partner's, whose area is its share."""
    images = torch.rand(8, 3, 10, 12, generator=torch.Generator().manual_seed(0)).to(memory_format=memory)
    blended = cut = 0
    for seed in range(4):
        mixed, targets = KINDS[kind](images, LABELS, 8, seed)
        assert mixed.is_contiguous(memory_format=memory)
        for index in range(8):
            own, other, lam = images[index], images[index ^ 1], float(targets[index, index])
            swapped = (mixed[index] == other).all(dim=0)
            if bool((swapped | (mixed[index] == own).all(dim=0)).all()):
                rows, columns = swapped.nonzero(as_tuple=True)
                assert int(swapped.sum()) == round((1 - lam) * 120)
                if len(rows):
                    cut += 1
                    assert swapped[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
            else:
                blended += 1
                torch.testing.assert_close(mixed[index], lam * own + (1 - lam) * other)
    assert (blended > 0, cut > 0) == {"mixup": (True, False), "cutmix": (False, True), "either": (True, True)}[kind]


def test_shares_and_boxes_have_torchvisions_distribution() -> None:
    """The mean of what stays: of Beta(a, a) one half; of boxes that stand over the edge, what torchvision draws."""
    torch.manual_seed(0)
    images, labels = torch.zeros(2, 1, 16, 16), torch.tensor([0, 1])
    theirs = v2.CutMix(alpha=1.0, num_classes=2)
    drawn = [float(theirs(images, labels)[1][0, 0]) for _ in range(2000)]
    many, alternating = torch.zeros(4000, 1, 16, 16), torch.arange(4000) % 2
    ours = Mixing(None, 1.0)(many, alternating, 2, 0)[1][::2, 0]
    assert float(ours.mean()) == pytest.approx(sum(drawn) / len(drawn), abs=0.03)
    blended = Mixing(0.4, None)(many, alternating, 2, 0)[1][::2, 0]
    assert float(blended.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(blended.var()) == pytest.approx(0.25 / (2 * 0.4 + 1), abs=0.02)


def test_a_batch_is_mixed_at_once_not_pair_by_pair() -> None:
    """64 calls of torchvision's, one a pair, took seven times as long as one of a batch."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        Mixing(0.2, None)(torch.rand(128, 3, 8, 8), torch.arange(128) % 8, 8, 0)
    assert sum(event.count for event in profile.key_averages()) < 128


def test_half_precision_images_stay_so() -> None:
    mixed, targets = Mixing(0.4, 1.0)(IMAGES.to(torch.bfloat16), LABELS, 8, 0)
    assert mixed.dtype == torch.bfloat16
    assert targets.dtype == torch.float32
