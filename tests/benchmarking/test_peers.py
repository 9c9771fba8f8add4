"""Someone else's files, opened with the runtimes' defaults."""

from pathlib import Path

import numpy as np
import pytest

from mobilenets.benchmarking.peers import open_with_defaults
from mobilenets.errors import BackendError

onnx = pytest.importorskip("onnx")
GOOGLES = Path(__file__).parents[3] / "shared" / "data" / "google"


def save(path: Path, shapes: list[list[int | str]], kind: int = onnx.TensorProto.FLOAT) -> Path:
    """A model that adds its inputs up."""
    inputs = [onnx.helper.make_tensor_value_info(f"x{i}", kind, shape) for i, shape in enumerate(shapes)]
    output = onnx.helper.make_tensor_value_info("y", kind, shapes[0])
    operator = "Identity" if len(shapes) == 1 else "Add"
    node = onnx.helper.make_node(operator, [one.name for one in inputs], ["y"])
    graph = onnx.helper.make_graph([node], "g", inputs, [output])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch", [1, 3])
def test_an_open_batch_takes_all_at_once(tmp_path, backend, batch):
    pytest.importorskip(backend)
    opened = open_with_defaults(save(tmp_path / "m.onnx", [["n", 3, 4, 4]]), backend, 1)
    answer = opened.prepare(batch)()
    assert np.asarray(next(iter(answer.values())) if backend == "openvino" else answer[0]).shape == (batch, 3, 4, 4)
    assert opened.precision in ("fp32", "bf16", "fp16")


def test_a_fixed_batch_is_asked_repeatedly(tmp_path):
    opened = open_with_defaults(save(tmp_path / "m.onnx", [[2, 3, 4, 4]]), "onnxruntime", None)
    assert opened.prepare(4)()[0].shape == (2, 3, 4, 4)
    with pytest.raises(BackendError, match="takes 2 images at once, which do not make a batch of 3"):
        opened.prepare(3)


def test_pixels_are_filled_with_pixels(tmp_path):
    opened = open_with_defaults(save(tmp_path / "m.onnx", [["n", 4, 4, 3]], onnx.TensorProto.UINT8), "onnxruntime", 1)
    (answer,) = opened.prepare(2)()
    assert answer.dtype == np.uint8
    assert answer.std() > 0


@pytest.mark.skipif(not GOOGLES.is_dir(), reason="Google's files are not here")
def test_googles_tflite_files_run():
    pytest.importorskip("ai_edge_litert")
    path = min(GOOGLES.glob("*.tflite"), key=lambda file: file.stat().st_size)
    opened = open_with_defaults(path, "litert", 1)
    assert np.asarray(opened.prepare(2)()).shape[-1] in (1000, 1001)


def test_bad_files(tmp_path):
    with pytest.raises(BackendError, match="no such file"):
        open_with_defaults(tmp_path / "m.onnx", "onnxruntime", 1)
    path = save(tmp_path / "m.onnx", [["n", 3, 4, 4], ["n", 3, 4, 4]])
    with pytest.raises(BackendError, match="it has 2 inputs"):
        open_with_defaults(path, "onnxruntime", 1)
    with pytest.raises(BackendError, match="not in executorch"):
        open_with_defaults(path, "executorch", 1)
    with pytest.raises(BackendError, match="only the batch may be left open"):
        open_with_defaults(save(tmp_path / "m.onnx", [["n", 3, "h", "w"]]), "onnxruntime", 1).prepare(1)
    with pytest.raises(BackendError, match="images are float or uint8"):
        open_with_defaults(save(tmp_path / "m.onnx", [["n", 3]], onnx.TensorProto.INT64), "onnxruntime", 1)
