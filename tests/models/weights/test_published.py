from __future__ import annotations

import pytest
import timm
import torchvision
from timm.models import get_pretrained_cfg

from mobilenets.errors import WeightsError
from mobilenets.models.registry import list_models
from mobilenets.models.weights.published import PUBLISHED, PublishedWeights, published_file, published_weights

TORCHVISION = [row for row in PUBLISHED if "pytorch.org" in row.url]
TIMM = [row for row in PUBLISHED if "pytorch.org" not in row.url]


@pytest.mark.parametrize("row", TORCHVISION, ids=lambda row: row.file)
def test_torchvision_says_the_same(row: PublishedWeights) -> None:
    stated = {weights.url: weights for weights in torchvision.models.get_model_weights(row.model)}[row.url]
    transforms = stated.transforms()
    assert (transforms.crop_size, transforms.resize_size) == (
        [row.preprocessing.image_size],
        [row.preprocessing.resize_size],
    )
    assert tuple(transforms.mean) == row.preprocessing.mean
    assert tuple(transforms.std) == row.preprocessing.std
    assert transforms.interpolation.value == row.preprocessing.interpolation


@pytest.mark.parametrize("row", TIMM, ids=lambda row: row.file)
def test_timm_says_the_same(row: PublishedWeights) -> None:
    tagged = timm.list_pretrained("*mobilenetv*")
    stated = [
        config for config in map(get_pretrained_cfg, tagged) if config and _is_of(row, config.url, config.hf_hub_id)
    ]
    assert len(stated) == 1
    config = stated[0]
    size = config.input_size[-1]
    assert row.preprocessing.image_size == size
    assert row.preprocessing.resize_size == int(size / config.crop_pct)
    assert row.preprocessing.mean == tuple(config.mean)
    assert row.preprocessing.std == tuple(config.std)
    assert row.preprocessing.interpolation == config.interpolation


def _is_of(row: PublishedWeights, url: str, hub: str) -> bool:
    return row.url == url or f"/{hub}/resolve/" in row.url


def test_every_row_is_of_a_network_there_is_and_every_file_is_once() -> None:
    assert {row.model for row in PUBLISHED} <= set(list_models())
    assert len({row.file for row in PUBLISHED}) == len(PUBLISHED)
    for row in PUBLISHED:
        assert (row.hash_prefix is None) == row.url.startswith("https://huggingface.co/")
        assert published_file(row.file) == row


def test_a_width_without_weights_lists_those_with() -> None:
    with pytest.raises(WeightsError) as caught:
        published_weights("mobilenet_v1", 0.25)
    assert "no ImageNet weights are published for mobilenet_v1 at width 0.25" in str(caught.value)
    assert "mobilenet_v1 1, 1.25; mobilenet_v2 0.5, 1, 1.4; " in str(caught.value)
