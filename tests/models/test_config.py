from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest

from mobilenets.errors import ModelError
from mobilenets.models.config import NetworkConfig

GOOD: dict[str, Any] = {
    "name": "mobilenet_v2",
    "num_classes": 10,
    "width_mult": 0.5,
    "image_size": 96,
    "dropout": 0.2,
    "in_channels": 3,
}
BAD = [
    *(("num_classes", value) for value in (-1, 2.0, True, "10", None)),
    *(("image_size", value) for value in (7, 0, -224, 4097, 10**10, 96.5, False, "96", None, (96, 96))),
    *(("in_channels", value) for value in (0, 1.5, True, None)),
    *(("width_mult", value) for value in (0, -0.5, math.nan, math.inf, 11, True, "0.5", None, 1j)),
    *(("dropout", value) for value in (-0.1, 1, 1.5, math.nan, False, "0.2")),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_value_is_named_with_what_is_valid(field: str, value: object) -> None:
    with pytest.raises(ModelError) as caught:
        NetworkConfig(**{**GOOD, field: value})
    message = str(caught.value)
    assert message.startswith(f"{field} is {value!r}: it must be a")
    assert "\n" not in message


def test_the_range_of_the_image_size_is_said() -> None:
    with pytest.raises(ModelError, match="a whole number, from 8 to 4096"):
        NetworkConfig(**{**GOOD, "image_size": 5000})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_classes", 0),
        ("image_size", 8),
        ("image_size", 4096),
        ("in_channels", 1),
        ("width_mult", 10),
        ("width_mult", 0.01),
        ("dropout", 0),
    ],
)
def test_the_edges_are_valid(field: str, value: Any) -> None:
    assert getattr(NetworkConfig(**{**GOOD, field: value}), field) == value


def test_numbers_of_other_kinds_become_pythons() -> None:
    config = NetworkConfig(
        "mobilenet_v2",
        np.int64(10),
        np.float32(0.5),
        np.int32(96),
        np.float64(0.25),
        np.uint8(3),  # type: ignore[arg-type]
    )
    assert json.loads(json.dumps(config.to_dict())) == {**GOOD, "dropout": 0.25}


def test_options_are_its_own_and_lie_flat_among_the_arguments() -> None:
    options = {"activation": "relu6"}
    config = NetworkConfig(**GOOD, options=options)
    options["activation"] = "relu"
    assert config.to_dict() == {**GOOD, "activation": "relu6"}


def test_equal_arguments_are_equal_records() -> None:
    config = NetworkConfig(**GOOD)
    assert config == NetworkConfig(**GOOD) == copy.deepcopy(config)
    assert hash(config) == hash(NetworkConfig(**GOOD))
    assert config != NetworkConfig(**{**GOOD, "width_mult": 1.0})
