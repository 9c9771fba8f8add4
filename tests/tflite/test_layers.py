from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tflite_writer import Form, write_network

from mobilenets.errors import WeightsError
from mobilenets.models.registry import create_model
from mobilenets.tflite.layers import read_layers
from mobilenets.tflite.model import TfliteModel
from mobilenets.tflite.reader import read_model

Read = Callable[..., TfliteModel]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write_and_read(name: str, form: Form | None = None, **options: str) -> TfliteModel:
        torch.manual_seed(0)
        model = create_model(name, num_classes=3, width_mult=0.25, image_size=72, **options)
        write_network(model.eval(), tmp_path / "network.tflite", form)
        return read_model(tmp_path / "network.tflite")

    return write_and_read


def test_a_network_as_layers(read: Read) -> None:
    found = read_layers(read("mobilenet_v2", padding="same"))
    stem, depthwise, project = found.layers[:3]
    assert (stem.weight.shape, stem.stride, stem.pads) == ((8, 3, 3, 3), (2, 2), (0, 1, 0, 1))
    assert (stem.input_size, stem.activation, stem.depthwise, stem.shortcut) == ((72, 72), "relu6", False, False)
    assert (depthwise.weight.shape, depthwise.pads, depthwise.depthwise) == ((8, 1, 3, 3), (1, 1, 1, 1), True)
    assert (project.weight.shape, project.activation) == ((8, 8, 1, 1), "identity")
    # Ten of the paper, and the first block's: at this width its 8 channels stay 8.
    assert sum(layer.shortcut for layer in found.layers) == 11
    assert len(found.layers) == 53
    assert (found.input_scale, found.input_shift) == ((1.0,), (0.0,))


def test_a_pad_in_front_counts_to_its_layer(read: Read) -> None:
    model = read("mobilenet_v1", padding="symmetric")
    assert "PAD" in {operator.kind for operator in model.operators}
    stem = read_layers(model).layers[0]
    assert (stem.pads, stem.input_size) == ((1, 1, 1, 1), (72, 72))


def test_pieces_and_whole_operators_are_the_same_layers(read: Read) -> None:
    whole = read_layers(read("mobilenet_v3_small"))
    pieces = read_layers(read("mobilenet_v3_small", Form(in_pieces=True, average_pool=True, fully_connected=True)))
    assert [layer.activation for layer in pieces.layers] == [layer.activation for layer in whole.layers]
    assert {layer.activation for layer in whole.layers} == {"identity", "relu", "hard_swish", "hard_sigmoid"}
    for one, other in zip(whole.layers, pieces.layers, strict=True):
        np.testing.assert_allclose(one.weight, other.weight, rtol=1e-6)


def test_graphs_that_are_no_classifier_are_refused(read: Read) -> None:
    model = read("mobilenet_v1", padding="same")
    with pytest.raises(WeightsError, match="has 2 inputs"):
        read_layers(replace(model, inputs=model.inputs * 2))
    with pytest.raises(WeightsError, match="no layer with weights"):
        read_layers(replace(model, operators=()))
    weights = model.operators[0].inputs[1]
    emptied = tuple(replace(t, data=None) if t.index == weights else t for t in model.tensors)
    with pytest.raises(WeightsError, match="'stem/weights' are computed, not stored"):
        read_layers(replace(model, tensors=emptied))
    spoilt = tuple(replace(t, data=t.data * np.nan) if t.index == weights else t for t in model.tensors)
    with pytest.raises(WeightsError, match="'stem/weights' has NaN or infinity in its weights"):
        read_layers(replace(model, tensors=spoilt))
