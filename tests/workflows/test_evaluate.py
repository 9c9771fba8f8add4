"""`evaluate` as Python calls it: a network in memory, a file, and what the result says of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mobilenets
from mobilenets.data.datasets import Dataset
from mobilenets.errors import DataError, MobilenetsError
from mobilenets.evaluation.predictions import Evaluation
from mobilenets.exporters.export import export_onnx
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent


class Heard(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture(scope="module")
def network() -> SavedNetwork:
    torch.manual_seed(0)
    model = create_model("mobilenet_v1", num_classes=10, width_mult=0.1, image_size=8).eval()
    return SavedNetwork(model, tuple("0123456789"), Preprocessing(image_size=8), {})


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Dataset:
    return replace(digits, test=digits.test.take(np.arange(0, 360, 6)))


@pytest.fixture(scope="module")
def scored(network: SavedNetwork, few: Dataset) -> Evaluation:
    return mobilenets.evaluate(network, few, device="cpu")


@pytest.mark.slow
def test_a_file_scores_as_its_network(network: SavedNetwork, few: Dataset, scored: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "digits.onnx"
    export_onnx(network.model, path, preprocessing=network.preprocessing, classes=network.classes)
    heard = Heard()
    found = mobilenets.evaluate(path, few, mistakes=tmp_path / "wrong.csv", threads=1, progress=heard)
    assert found.metrics.top1 == scored.metrics.top1
    assert found.metrics.count == 60
    assert (tmp_path / "wrong.csv").read_text().count("\n") == 1 + len(found.mistakes)
    assert f"{len(found.mistakes)} images misclassified" in heard.messages[-1]


def test_the_result_is_short_and_holds_what_json_prints(scored: Evaluation) -> None:
    assert repr(scored).startswith("<Evaluation: top-1 ")
    assert len(repr(scored)) < 200
    assert json.loads(json.dumps(scored.to_dict()))["count"] == 60
    assert scored._repr_html_().count("<tr>") == 1 + 10


def test_what_it_does_not_take(network: SavedNetwork, few: Dataset, tmp_path: Path) -> None:
    with pytest.raises(MobilenetsError, match="`threads` is for an artifact; the network is none"):
        mobilenets.evaluate(network, few, threads=1)
    with pytest.raises(DataError, match="there is no split 'valid'; valid: test, validation, train, all"):
        mobilenets.evaluate(network, few, split="valid")
    with pytest.raises(DataError, match=r"\.csv or \.json"):
        mobilenets.evaluate(network, few, mistakes=tmp_path / "wrong.txt")
