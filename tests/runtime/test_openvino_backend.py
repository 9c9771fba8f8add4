import numpy as np
import pytest
from described import SIZE, colour_logits, colour_onnx, describe, write_onnx

from mobilenets.artifact.container import write_artifact
from mobilenets.errors import BackendError
from mobilenets.runtime.backend import open_backend

openvino = pytest.importorskip("openvino")
IMAGES = np.random.default_rng(0).integers(0, 256, (7, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bare.onnx").write_bytes(colour_onnx())
    model = openvino.Core().read_model(tmp_path / "bare.onnx")
    openvino.save_model(model, tmp_path / "saved/model.xml", compress_to_fp16=False)
    payload = {name: (tmp_path / "saved" / name).read_bytes() for name in ("model.xml", "model.bin")}
    return write_artifact(tmp_path / "net", payload, describe("openvino"))


def test_its_own_folder_answers(folder):
    backend = open_backend(folder, threads=1)
    assert (backend.name, backend.precision) == ("openvino", "fp32")
    np.testing.assert_allclose(backend.predict(IMAGES), colour_logits(IMAGES), atol=1e-4)


def test_the_arithmetic_is_always_said(tmp_path):
    """By itself it computes in bf16 on processors that can, and `fp32` would be a lie."""
    from mobilenets.runtime.openvino_backend import float_precisions

    artifact = write_onnx(tmp_path / "net.onnx")
    for precision in float_precisions():
        backend = open_backend(artifact, backend="openvino", precision=precision, threads=1)
        backend.predict(IMAGES[:1])
        with backend.pools[1].borrow() as request:
            compiled = request.get_compiled_model()
        hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        assert {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}[hint] == precision
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_two_batch_sizes_are_compiled_for_and_one_file_for_all_others(folder):
    backend = open_backend(folder, threads=1)
    for count in (1, 4, 2, 3, 7, 1, 4):
        np.testing.assert_allclose(backend.predict(IMAGES[:count]), colour_logits(IMAGES[:count]), atol=1e-4)
    assert sorted(backend.pools) == [-1, 1, 4]


def test_a_folder_that_is_no_network(tmp_path, capfd):
    artifact = write_artifact(tmp_path / "net", {"model.xml": b"<net>", "model.bin": b""}, describe("openvino"))
    with pytest.raises(BackendError, match=r"net: OpenVINO can't read it: \S") as caught:
        open_backend(artifact)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
