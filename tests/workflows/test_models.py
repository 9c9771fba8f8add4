"""`published_models`: what the command `models` lists, for Python."""

from __future__ import annotations

import json

import pytest

from mobilenets import published_models
from mobilenets.errors import ModelError


def test_the_networks_are_those_whose_names_begin_so() -> None:
    result = published_models("v1")
    assert {variant.network for variant in result.variants} == {"mobilenet_v1"}
    assert len(result.variants) < len(published_models().variants)
    row = next(row for row in result._rows() if (row["width_mult"], row["image_size"]) == (1.0, 224))
    assert (row["parameters"], row["macs"]) == (4_231_976, 568_740_352)
    assert row["weights"]
    assert repr(result).startswith("<PublishedModels: ")
    assert len(repr(result)) < 200
    assert json.loads(json.dumps(result.to_dict()))["variants"][0]["network"] == "mobilenet_v1"


def test_a_typo_suggests() -> None:
    with pytest.raises(ModelError, match="did you mean mobilenet_v2"):
        published_models("mobilnet_v2")
