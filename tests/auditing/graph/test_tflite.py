from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mobilenets.auditing.graph.nodes import Add, Conv, Graph, PoolOperation, Softmax
from mobilenets.auditing.graph.tflite import tflite_graph
from mobilenets.errors import WeightsError

GOOGLE = Path(__file__).parents[4] / "shared" / "data" / "google"
Words = Callable[[Graph], list[str]]

needs_files = pytest.mark.skipif(not GOOGLE.is_dir(), reason="the published TensorFlow Lite files are not here")


@needs_files
def test_mobilenet_v1(words: Words) -> None:
    graph = tflite_graph(GOOGLE / "mobilenet_v1_0.25_128_quant.tflite")
    convolutions = [node for node in graph.nodes if isinstance(node.operator, Conv)]
    assert graph.input_shape == (1, 3, 128, 128)
    assert words(graph) == ["Conv", "relu6"] * 27 + ["PoolOperation", "Conv", "Reshape", "Softmax"]
    # TensorFlow pads an even map at the end only.
    assert convolutions[0].operator == Conv(3, 8, (3, 3), (2, 2), (0, 1, 0, 1), (1, 1), 1, bias=True)
    assert convolutions[1].operator == Conv(8, 8, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 8, bias=True)
    assert convolutions[-1].shape == (1, 1001, 1, 1)
    assert graph.parameters == sum(node.parameters for node in graph.nodes)
    assert graph.nodes[-1].operator == Softmax(1)


@needs_files
def test_mobilenet_v2(macs: Callable[[Graph], int]) -> None:
    graph = tflite_graph(GOOGLE / "mobilenet_v2_1.0_224_quant.tflite")
    assert sum(isinstance(node.operator, Add) for node in graph.nodes) == 10
    pool = next(node.operator for node in graph.nodes if isinstance(node.operator, PoolOperation))
    assert pool == PoolOperation("average", (7, 7), (1, 1), (0, 0, 0, 0), adaptive=False)
    # torchvision's 3,504,872 with 17,056 norms folded (of two parameters a channel one is left), and one class more.
    assert graph.parameters == 3_504_872 - 17_056 + 1281
    assert macs(graph) == 300_774_272 + 1280
    assert graph.nodes[0].path == "MobilenetV2/Conv/Relu6"


def test_a_file_of_another_kind_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "network.tflite"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match=r"network\.tflite is no TensorFlow Lite file"):
        tflite_graph(path)
