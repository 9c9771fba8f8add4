import numpy as np
import pytest
from onnx import TensorProto, helper

from mobilenets.errors import DataError, ExportError, MobilenetsError
from mobilenets.runtime.session import input_shape, open_session, predict_function, usable_cores


def test_answers_any_number_of_images_with_logits(onnx_file):
    session = open_session(onnx_file, threads=1)
    assert input_shape(session) == (16, 16, 3)
    predict = predict_function(session)
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    logits = predict(images)
    assert (logits.dtype, logits.shape) == (np.float32, (5, 3))
    np.testing.assert_allclose(predict(images[2:3]), logits[2:3], atol=1e-5)


def test_threads_are_pinned(onnx_file):
    assert open_session(onnx_file, threads=1).get_session_options().intra_op_num_threads == 1
    assert open_session(onnx_file).get_session_options().intra_op_num_threads == usable_cores() >= 1
    with pytest.raises(MobilenetsError, match="at least 1 thread"):
        open_session(onnx_file, threads=0)


def test_a_missing_or_damaged_file_is_named_in_one_line(onnx_file, tmp_path, capfd):
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match=r"model.onnx is no file"):
        open_session(path)
    whole = onnx_file.read_bytes()
    for content in (b"", b"not a network" * 20, whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ExportError, match=r"model.onnx can't be loaded, export it again: \S") as caught:
            open_session(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("dtype", "shape"), [(np.float32, (1, 16, 16, 3)), (np.uint8, (1, 3, 16, 16)), (np.uint8, (16, 16, 3))]
)
def test_other_images_than_the_file_takes(onnx_file, dtype, shape):
    predict = predict_function(open_session(onnx_file, threads=1))
    with pytest.raises(DataError, match=r"takes uint8 images \[B, 16, 16, 3\]"):
        predict(np.zeros(shape, dtype=dtype))


@pytest.mark.parametrize(
    ("element", "shape", "message"),
    [
        (TensorProto.FLOAT, ["b", 3, 8, 8], "not uint8 images"),
        (TensorProto.UINT8, ["b", "h", "w", 3], "does not fix its image size"),
    ],
)
def test_a_file_made_by_something_else(tmp_path, element, shape, message):
    ends = [helper.make_tensor_value_info(name, element, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "other", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=message):
        predict_function(open_session(tmp_path / "other.onnx"))
