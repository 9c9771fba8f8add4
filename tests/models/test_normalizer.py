from __future__ import annotations

import numpy as np
import pytest
import torch

from mobilenets.models.normalizer import Normalizer
from mobilenets.preprocessing import Preprocessing


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(image_size=6),
        Preprocessing(image_size=6, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        Preprocessing(image_size=6, channels=1, mean=(0.1,), std=(0.3,)),
    ],
)
def test_it_gives_the_figures_of_preprocessing_without_pytorch(preprocessing: Preprocessing) -> None:
    shape = (4, 6, 6, preprocessing.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    mine = Normalizer(preprocessing)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(mine, preprocessing.normalize(images), atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "mean", "std"), [(3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), (1, (0.1,), (0.3,))]
)
def test_a_batch_has_the_very_values_in_the_same_layout(
    channels: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    preprocessing = Preprocessing(9, channels=channels, mean=mean, std=std)
    images = torch.randint(0, 256, (5, 7, 9, channels), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    normalize = Normalizer(preprocessing)
    found, expected = normalize.batch(images), normalize(images)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()
    assert torch.equal(normalize.batch(images[:, :, ::2]), normalize(images[:, :, ::2]))


def test_its_constants_are_no_weights() -> None:
    assert not Normalizer(Preprocessing(image_size=6)).state_dict()
