"""ONNX files that diagnostic what they have not, or reach for what is not theirs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mobilenets.auditing.graph.onnx import onnx_graph
from mobilenets.errors import AuditError


def model(weight: TensorProto, shape: tuple[Any, ...] = (1, 3, 8, 8)) -> onnx.ModelProto:
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
    answer = helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)
    node = helper.make_node("Conv", ["images", "weight"], ["answer"])
    graph = helper.make_graph([node], "g", [images], [answer], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def sound() -> TensorProto:
    return numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "weight")


def external(location: str, offset: str = "0", length: str = "432") -> TensorProto:
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[4, 3, 3, 3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=value)
    return tensor


def refused(path: Path, file: onnx.ModelProto) -> str:
    path.write_bytes(file.SerializeToString())
    with pytest.raises(AuditError) as caught:
        onnx_graph(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_external_data_lies_beside_the_file_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for place in (tmp_path / "data", folder / "data"):
        place.write_bytes(np.ones(108, np.float32).tobytes())
    (folder / "link").symlink_to(tmp_path / "data")
    path = folder / "m.onnx"
    path.write_bytes(model(external("data")).SerializeToString())
    assert onnx_graph(path).parameters == 108
    for location in ("../data", str(tmp_path / "data"), "a/../../data", "link", "..\\data", "C:\\data", ""):
        assert "outside of the file's folder" in refused(path, model(external(location)))
    assert "beyond the end" in refused(path, model(external("data", offset="400")))
    assert "beyond the end" in refused(path, model(external("data", length=str(10**18))))
    assert "can't be read as ONNX" in refused(path, model(external("data", length="-1")))
    assert "No such file" in refused(path, model(external("gone")))


@pytest.mark.parametrize("dims", [[10**18], [10**18, 10**18], [-1, 3, 3, 3], [2**31, 2, 3, 3], [4, 3, 3, 4000]])
def test_tensors_that_claim_more_than_they_hold(tmp_path: Path, dims: list[int]) -> None:
    weight = sound()
    del weight.dims[:]
    weight.dims.extend(dims)
    assert "can't be read as ONNX: " in refused(tmp_path / "m.onnx", model(weight))


@pytest.mark.parametrize("shape", [(1, 3, 10**18, 10**18), (10**18, 3, 8, 8), (1, 3, 60_000, 60_000), (1, 3, -5, 8)])
def test_images_beyond_all_reason(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert "takes images of shape" in refused(tmp_path / "m.onnx", model(sound(), shape))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.onnx")
    with pytest.raises(AuditError, match="it is a pipe"):
        onnx_graph(tmp_path / "m.onnx")
