"""TensorRT's written rules, held against every ONNX file called fit for it; it was not run, for want of a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mobilenets.exporters.onnx import broken_rules, tensorrt_sentence, to_onnx
from mobilenets.preprocessing import Preprocessing

pytestmark = pytest.mark.slow

NETWORKS = {
    "mobilenet_v1": {},
    "mobilenet_v2": {"padding": "same"},
    "mobilenet_v3_small": {},
    "mobilenet_v3_large": {},
    "mobilenet_v4_conv_small": {},
    "mobilenet_v4_hybrid_medium": {"width_mult": 0.1},
}
GREY = Preprocessing(image_size=32, channels=1, mean=(0.3,), std=(0.2,))


def file_of(model: nn.Module, preprocessing: Preprocessing, precision: str = "fp32") -> onnx.ModelProto:
    (content,) = to_onnx(model, preprocessing, precision=precision).payload.values()
    return onnx.load_from_string(content)


@pytest.mark.parametrize("name", NETWORKS)
def test_float_files_keep_them(name: str, shaken: Callable[..., nn.Module]) -> None:
    file = file_of(shaken(name, **NETWORKS[name]), Preprocessing(image_size=32))
    assert broken_rules(file) == ()
    # Written out once, since it is what the rule is about: the pictures, as they come, feed one cast and nothing else.
    assert [node.op_type for node in file.graph.node if "images" in node.input] == ["Cast"]


def test_grey_images_and_weights_of_half_the_bytes(shaken: Callable[..., nn.Module]) -> None:
    model = shaken("mobilenet_v2", in_channels=1)
    assert broken_rules(file_of(model, GREY)) == ()
    assert broken_rules(file_of(model, GREY, "fp16")) == ()


def made(nodes: list[Any], constants: dict[str, np.ndarray[Any, Any]], kind: int = TensorProto.FLOAT) -> Any:
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", kind, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def pair(scale: str, zero: tuple[str, ...]) -> list[Any]:
    return [
        helper.make_node("QuantizeLinear", ["x", scale, *zero], ["q"], name="first", axis=1),
        helper.make_node("DequantizeLinear", ["q", scale, *zero], ["y"], axis=1),
    ]


ONE, MANY = np.array(0.1, np.float32), np.array([0.1, 0.2], np.float32)


@pytest.mark.parametrize(
    ("file", "broken"),
    [
        (made(pair("s", ("z",)), {"s": ONE, "z": np.array(0, np.int8)}), None),
        (made(pair("s", ("z",)), {"s": ONE, "z": np.array(3, np.int8)}), "not symmetric int8 (first)"),
        (made(pair("s", ("z",)), {"s": ONE, "z": np.array(0, np.uint8)}), "uint8 values other than an input"),
        (made(pair("s", ()), {"s": ONE}), "uint8 values other than an input"),  # uint8 is what a pair is without
        (made(pair("s", ("z",)), {"s": MANY, "z": np.zeros(2, np.int8)}), "a scale for each channel (first)"),
        (
            made(
                [
                    helper.make_node("Transpose", ["x"], ["t"], name="turn", perm=[0, 2, 3, 1]),
                    helper.make_node("Cast", ["t"], ["y"], to=TensorProto.FLOAT),
                ],
                {},
                TensorProto.UINT8,
            ),
            "an input that feeds a Cast (Transpose turn)",
        ),
        (
            made(
                [
                    helper.make_node("Cast", ["x"], ["c"], to=TensorProto.FLOAT),
                    helper.make_node("Cast", ["c"], ["back"], to=TensorProto.UINT8),
                    helper.make_node("Cast", ["back"], ["y"], to=TensorProto.FLOAT),
                ],
                {},
                TensorProto.UINT8,
            ),
            "an input that feeds a Cast (back)",
        ),
        (made([helper.make_node("Conv", ["x", "x"], ["y"], name="odd")], {}), "weights that are computed (odd)"),
    ],
)
def test_each_rule_is_noticed(file: Any, broken: str | None) -> None:
    assert (broken_rules(file) == ()) is (broken is None)
    sentence = tensorrt_sentence({"model.onnx": file.SerializeToString()})
    assert (broken or "keeps its written rules; not run there") in sentence
