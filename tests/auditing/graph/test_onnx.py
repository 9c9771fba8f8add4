from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision.models
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mobilenets.auditing.count import count
from mobilenets.auditing.graph.capture import export_graph
from mobilenets.auditing.graph.nodes import Conv, Dropout, Graph, Linear, Norm, Pad, PoolOperation
from mobilenets.auditing.graph.onnx import onnx_graph
from mobilenets.errors import AuditError
from mobilenets.exporters.export import export_onnx
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing

Words = Callable[[Graph], list[str]]
Macs = Callable[[Graph], int]


def written(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray] | None = None,
    shape: tuple[int | str, ...] = (1, 3, 8, 8),
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> Path:
    """A file of these nodes, from `x` to `y`."""
    stored = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_empty_tensor_value_info("y")],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    target = path / "network.onnx"
    target.write_bytes(model.SerializeToString())
    return target


def trained(network: nn.Module) -> nn.Module:
    """Norms with statistics, so that nothing folds to zero and is dropped by an exporter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    assert isinstance(tensor, torch.Tensor)
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.copy_(torch.rand(module.bias.shape, generator=generator))
    return network.eval()


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's V3 by PyTorch's older exporter, nothing folded, training-time norms kept."""
    path = tmp_path_factory.mktemp("legacy") / "v3.onnx"
    with warnings.catch_warnings():
        # The exporter is deprecated, and people's files come from it.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            torchvision.models.mobilenet_v3_small(),
            (torch.zeros(1, 3, 64, 64),),
            str(path),
            dynamo=False,
            opset_version=13,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    return path


@pytest.mark.slow
def test_the_older_exporters_file_of_v3(legacy: Path, macs: Macs) -> None:
    graph, network = onnx_graph(legacy), torchvision.models.mobilenet_v3_small()
    counted = count(network, (1, 3, 64, 64))
    assert macs(graph) == counted.macs
    assert graph.parameters == sum(node.parameters for node in graph.nodes) == counted.parameters
    norms = [node.operator for node in graph.nodes if isinstance(node.operator, Norm)]
    assert len(norms) == 34
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.001, 0.01)}


@pytest.mark.slow
def test_our_own_export_is_read_channels_first_behind_its_normalisation(
    tmp_path: Path, macs: Macs, words: Words
) -> None:
    network = trained(create_model("mobilenet_v1", width_mult=0.25, num_classes=10, image_size=64))
    path = tmp_path / "network.onnx"
    export_onnx(network, path, preprocessing=Preprocessing(image_size=64), classes=list("0123456789"))
    graph = onnx_graph(path)
    convolutions = [node.operator for node in graph.nodes if isinstance(node.operator, Conv)]
    norms = [node.operator for node in graph.nodes if isinstance(node.operator, Norm)]
    assert graph.input_shape == (1, 3, 64, 64)
    assert norms == [Norm("affine", 3, affine=False, eps=0.0, momentum=None, uses_batch=False)]
    assert all(conv.bias for conv in convolutions)
    assert macs(graph) == count(network, (1, 3, 64, 64)).macs
    folded = sum(module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    assert graph.parameters == count(network, (1, 3, 64, 64)).parameters - folded
    exported = [kind for kind in words(export_graph(network, (1, 3, 64, 64))) if kind not in ("Norm", "Dropout")]
    assert [kind for kind in words(graph) if kind not in ("Norm", "Reshape")] == [
        kind for kind in exported if kind != "Reshape"
    ]


@pytest.mark.parametrize(
    ("node", "weights", "opset", "expected"),
    [
        (helper.make_node("Relu", ["x"], ["y"]), {}, 17, "relu"),
        (helper.make_node("Clip", ["x"], ["y"], min=0.0, max=6.0), {}, 9, "relu6"),
        (helper.make_node("Clip", ["x", "lo", "hi"], ["y"]), {"lo": 0.0, "hi": 6.0}, 17, "relu6"),
        (helper.make_node("HardSigmoid", ["x"], ["y"]), {}, 17, "hard_sigmoid_keras"),
        (helper.make_node("HardSigmoid", ["x"], ["y"], alpha=1 / 6, beta=0.5), {}, 17, "hard_sigmoid"),
        (helper.make_node("HardSwish", ["x"], ["y"]), {}, 17, "hard_swish"),
        (helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.1), {}, 17, "leaky_relu"),
        (helper.make_node("Div", ["x", "c"], ["y"]), {"c": 6.0}, 17, "scale"),
        (helper.make_node("Sub", ["c", "x"], ["y"]), {"c": 1.0}, 17, "affine"),
        (helper.make_node("Mul", ["x", "x"], ["y"]), {}, 17, "Multiply"),
        (helper.make_node("Cos", ["x"], ["y"]), {}, 17, "Other"),
    ],
)
def test_functions(
    node: onnx.NodeProto, weights: dict[str, float], opset: int, expected: str, tmp_path: Path, words: Words
) -> None:
    constants = {name: np.array(value, dtype=np.float32) for name, value in weights.items()}
    graph = onnx_graph(written(tmp_path, [node], constants, opset=opset))
    assert words(graph) == [expected]
    assert graph.parameters == 0


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("SAME_UPPER", (0, 1, 0, 1)), ("SAME_LOWER", (1, 0, 1, 0)), ("VALID", (0, 0, 0, 0))],
)
def test_automatic_padding_in_pixels(mode: str, expected: tuple[int, int, int, int], tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=mode, strides=[2, 2])
    weight = np.zeros((4, 3, 3, 3), dtype=np.float32)
    graph = onnx_graph(written(tmp_path, [node], {"w": weight}, shape=("n", 3, "h", "w")), image_size=16)
    assert graph.input_shape == (1, 3, 16, 16)
    assert [item.operator for item in graph.nodes] == [
        Conv(3, 4, (3, 3), (2, 2), expected, (1, 1), 1, bias=False),
    ]


def test_pads_pools_and_a_classifier(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Pad", ["x", "p"], ["a"]),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Dropout", ["b", "r", "t"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["d"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    weights = {
        "p": np.array([0, 0, 1, 0, 0, 0, 0, 1]),
        "r": np.array(0.25, dtype=np.float32),
        "t": np.array(False),
        "w": np.zeros((3, 5), dtype=np.float32),
    }
    graph = onnx_graph(written(tmp_path, nodes, weights))
    assert [node.operator for node in graph.nodes] == [
        Pad((1, 0, 0, 1), (0, 0)),
        PoolOperation("max", (3, 3), (2, 2), (0, 0, 0, 0), adaptive=False),
        Dropout(0.25, active=False),
        PoolOperation("average", (4, 4), (4, 4), (0, 0, 0, 0), adaptive=True),
        Linear(3, 5, bias=False),
    ]
    assert graph.parameters == 15


def test_quantized_storage_is_seen_through(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["wq", "s", "z"], ["w"]),
        helper.make_node("Conv", ["xd", "w"], ["y"], group=3),
    ]
    weights = {
        "s": np.array(0.1, dtype=np.float32),
        "z": np.array(0, dtype=np.int8),
        "wq": np.ones((3, 1, 3, 3), dtype=np.int8),
    }
    graph = onnx_graph(written(tmp_path, nodes, weights))
    assert [node.operator for node in graph.nodes] == [
        Conv(3, 3, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 3, bias=False),
    ]
    assert graph.nodes[0].inputs == (graph.input,)
    assert graph.parameters == 27


def test_channels_last_images(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["c"], ["y"]),
    ]
    scale = np.array([1, 2, 3], dtype=np.float32)
    graph = onnx_graph(written(tmp_path, nodes, {"scale": scale}, ("n", 8, 8, 3), kind=TensorProto.UINT8))
    assert graph.input_shape == (1, 3, 8, 8)
    assert [node.shape for node in graph.nodes] == [(1, 3, 8, 8)] * 3 + [(1, 3, 1, 1)]
    assert graph.nodes[1].operator == Norm("affine", 3, affine=False, eps=0.0, momentum=None, uses_batch=False)
    assert graph.parameters == 0


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x07 not a model")
    with pytest.raises(AuditError, match=r"broken\.onnx can't be (read as ONNX|run)|has no input") as caught:
        onnx_graph(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(AuditError, match=r"nowhere\.onnx can't be read as ONNX"):
        onnx_graph(tmp_path / "nowhere.onnx")


def test_a_file_that_takes_no_images(tmp_path: Path) -> None:
    path = written(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], shape=(1, 8))
    with pytest.raises(AuditError, match="no image classifier"):
        onnx_graph(path)


def test_an_operator_the_runtime_does_not_have(tmp_path: Path) -> None:
    path = written(tmp_path, [helper.make_node("NoSuchOperator", ["x"], ["y"])])
    with pytest.raises(AuditError, match=r"can't be run by ONNX Runtime: .*; export it again"):
        onnx_graph(path)
