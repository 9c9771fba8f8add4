from __future__ import annotations

import pytest

from mobilenets.comparison.networks import compared_networks
from mobilenets.errors import ModelError
from mobilenets.models.registry import create_model


def test_every_model_at_every_width_and_size_once() -> None:
    found = compared_networks(["mobilenet_v1", "mobilenet_v2", "mobilenet_v1"], [0.5, 1.0], [32, 64])
    assert len(found) == len({one.label for one in found}) == 8
    assert {(one.model, one.width_mult, one.image_size) for one in found} == {
        (model, width, size) for model in ("mobilenet_v1", "mobilenet_v2") for width in (0.5, 1.0) for size in (32, 64)
    }


def test_a_label_names_the_size_only_where_sizes_differ_but_a_folder_always() -> None:
    alone = compared_networks(["mobilenet_v2"], [1.0], [32])[0]
    assert alone.label == "mobilenet_v2 x1"
    found = compared_networks(["mobilenet_v2"], [1.0], [32, 64])
    assert [one.label for one in found] == ["mobilenet_v2 x1 @32", "mobilenet_v2 x1 @64"]
    assert found[0].folder == alone.folder == "mobilenet_v2-x1-32px"


def test_its_arguments_build_the_network() -> None:
    one = compared_networks(["mobilenet_v2"], [0.5], [32])[0]
    config = create_model(**one.arguments(7)).config
    assert (config.name, config.num_classes, config.width_mult, config.image_size) == ("mobilenet_v2", 7, 0.5, 32)


@pytest.mark.parametrize(
    ("models", "widths", "sizes", "said"),
    [
        ([], [1.0], [32], "no network to compare"),
        (["mobilenet_v2"], [], [32], "no width to compare at"),
        (["mobilenet_v2", "mobilenet_v7"], [1.0], [32], "mobilenet_v7"),
        (["mobilenet_v2"], [0.0], [32], "width_mult is 0.0"),
        (["mobilenet_v2"], [1.0], [2], "image_size is 2"),
    ],
)
def test_what_cant_be_built_is_refused_before_anything_is_trained(
    models: list[str], widths: list[float], sizes: list[int], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        compared_networks(models, widths, sizes)
