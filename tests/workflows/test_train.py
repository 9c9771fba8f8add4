"""What `train` and `shard` return, as notebooks and programs see it."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mobilenets import shard, train
from mobilenets.data.datasets import Dataset
from mobilenets.data.shards.index import ShardIndex
from mobilenets.errors import MissingExtraError
from mobilenets.evaluation.results import SeedRun
from mobilenets.result import Result
from mobilenets.training.recipe import Recipe


@pytest.fixture(scope="module")
def run(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> SeedRun:
    few = replace(digits, train=digits.train.take(range(60)), test=digits.test.take(range(20)))
    recipe = Recipe(epochs=1, batch_size=16, flip=False, precision="float32", memory_format="contiguous")
    out = tmp_path_factory.mktemp("runs") / "<b>run"
    return train("mobilenet_v3_small", few, out, recipe=recipe, width_mult=0.25, image_size=8, device="cpu")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    return shard("digits", tmp_path_factory.mktemp("shards") / "out", images_per_shard=400)


def test_a_run_is_a_line_a_table_of_epochs_and_a_dictionary(run: SeedRun) -> None:
    assert repr(run).startswith("<SeedRun: <b>run: test accuracy ")
    assert "(20 images), seed 0>" in repr(run)
    assert len(repr(run)) < 200
    assert "<b>" not in run._repr_html_()
    assert "&lt;b&gt;" in run._repr_html_()
    assert "learning_rate" in run._repr_html_()
    assert json.loads(json.dumps(run.to_dict()))["test"]["count"] == 20


def test_shards_are_a_line_a_table_of_shards_and_a_dictionary(index: ShardIndex, tmp_path: Path) -> None:
    assert repr(index) == "<ShardIndex: 5 shards: 1,438 training and 359 test images of 10 classes>"
    assert "train-000000.tar" in index._repr_html_()
    assert json.loads(json.dumps(index.to_dict()))["class_counts"]["test"]


@pytest.mark.parametrize("name", ["run", "index"])
def test_rows_go_into_a_frame_where_pandas_is_there(name: str, request: pytest.FixtureRequest) -> None:
    result: Result = request.getfixturevalue(name)
    if importlib.util.find_spec("pandas") is None:
        with pytest.raises(MissingExtraError, match="needs pandas"):
            result.to_frame()
    else:
        assert len(result.to_frame()) == len(result._rows()) > 0
