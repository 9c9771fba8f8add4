from collections import Counter

import onnx
import pytest
import torch
from torch import nn

from mobilenets.exporters.onnx import MODEL, to_onnx
from mobilenets.exporters.prepare import exportable
from mobilenets.models.layers import ConvNormActivation, SqueezeExcitation
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing

pytestmark = pytest.mark.slow

PREPROCESSING = Preprocessing(image_size=32)


def test_weights_left_channels_last_by_training_make_the_same_graph() -> None:
    # A filter and a gate: the layers in which exporters spelled the layout out.
    layers = ConvNormActivation(3, 8, kernel=3), SqueezeExcitation(8, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential(*layers, nn.Linear(8, 3)).eval()
    plain = onnx.load_from_string(to_onnx(network, PREPROCESSING).payload[MODEL])
    trained = network.to(memory_format=torch.channels_last)
    file = onnx.load_from_string(to_onnx(trained, PREPROCESSING).payload[MODEL])
    assert Counter(node.op_type for node in file.graph.node) == Counter(node.op_type for node in plain.graph.node)


def test_the_network_itself_is_left_as_it_is() -> None:
    network = create_model("mobilenet_v1", num_classes=3, width_mult=0.25, image_size=32).train()
    network.to(memory_format=torch.channels_last)
    before = {name: (tensor.clone(), tensor.stride()) for name, tensor in network.state_dict().items()}
    prepared = exportable(network, PREPROCESSING)
    assert not prepared.training
    assert network.training
    assert not any(parameter.requires_grad for parameter in prepared.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name][0])
        assert tensor.stride() == before[name][1]
