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


def test_its_constants_are_no_weights() -> None:
    assert not Normalizer(Preprocessing(image_size=6)).state_dict()
