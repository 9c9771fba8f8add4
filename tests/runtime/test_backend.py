import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from described import CLASSES, SIZE, colour_logits, colour_onnx, describe, plain, write_onnx

from mobilenets.artifact.container import read_artifact, write_artifact
from mobilenets.artifact.description import RuntimeSettings
from mobilenets.errors import ArtifactError, BackendError, DataError, MissingExtraError
from mobilenets.install import install_line
from mobilenets.machine import usable_cores
from mobilenets.runtime import backend as backends
from mobilenets.runtime.backend import BACKENDS, RuntimeOption, choices, open_backend
from mobilenets.runtime.loaded_file import ResourcePool

IMAGES = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def artifact(tmp_path):
    return write_onnx(tmp_path / "net.onnx")


def without(monkeypatch, package):
    real = backends.find_spec
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name == package else real(name))


@pytest.mark.parametrize("dynamic", [True, False])
def test_every_installed_way_answers_the_same(tmp_path, dynamic):
    artifact = write_onnx(tmp_path / "net.onnx", dynamic_batch=dynamic)
    assert choices(artifact)[0] == RuntimeOption("onnxruntime", "fp32")
    for choice in choices(artifact):
        backend = open_backend(artifact, backend=choice.backend, precision=choice.precision, threads=1)
        assert (backend.name, backend.precision, backend.threads) == (choice.backend, choice.precision, 1)
        for count in (1, 3, 5, 1, 2):
            logits = backend.predict(IMAGES[:count])
            assert (logits.dtype, logits.shape) == (np.float32, (count, 3))
            tolerance = 1e-4 if choice.precision == "fp32" else 0.1
            np.testing.assert_allclose(logits, colour_logits(IMAGES[:count]), atol=tolerance)


@pytest.mark.slow
def test_an_answer_is_not_overwritten_by_the_next(artifact):
    for choice in choices(artifact):
        backend = open_backend(artifact, backend=choice.backend, precision=choice.precision)
        first = backend.predict(IMAGES[:1])
        before = first.copy()
        backend.predict(IMAGES[1:2])
        np.testing.assert_array_equal(first, before)


@pytest.mark.slow
def test_images_that_are_not_in_one_piece_of_memory(artifact):
    turned = np.ascontiguousarray(IMAGES.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    for choice in choices(artifact):
        backend = open_backend(artifact, backend=choice.backend, precision=choice.precision)
        np.testing.assert_array_equal(backend.predict(turned), backend.predict(IMAGES))


@pytest.mark.slow
def test_threads_are_always_said(artifact):
    assert open_backend(artifact).threads == usable_cores()
    options = open_backend(artifact, threads=1).session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "images",
    [IMAGES.astype(np.float32), IMAGES[:, :4], IMAGES[0], IMAGES[:0], IMAGES[..., :1]],
    ids=["float", "half", "one without a batch", "none", "grey"],
)
def test_other_images_than_the_file_takes(artifact, images):
    for choice in choices(artifact):
        with pytest.raises(DataError, match=r"net.onnx takes uint8 images \[B, 8, 8, 3\], not"):
            open_backend(artifact, backend=choice.backend, precision=choice.precision).predict(images)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"backend": "tensorrt"}, r"no backend tensorrt; onnx files run in onnxruntime and openvino"),
        ({"backend": "litert"}, r"litert does not run onnx files; onnxruntime and openvino can"),
        ({"precision": "bf16"}, r"onnxruntime does not run it in bf16 here; it can in fp32"),
        ({"precision": "fp7", "backend": "onnxruntime"}, r"does not run it in fp7"),
        ({"threads": 0}, r"at least 1 thread, not 0"),
    ],
)
def test_a_way_that_is_none_names_those_that_are(artifact, asked, said):
    with pytest.raises(BackendError, match=said):
        open_backend(artifact, **asked)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_runtime_that_is_not_installed_names_its_extra(tmp_path, monkeypatch, name):
    kind = {"onnxruntime": "onnx"}.get(name, name)
    payload = {"model.xml": b"x", "model.bin": b"x"} if name == "openvino" else {"file": colour_onnx()}
    suffix = {"onnxruntime": ".onnx", "openvino": "", "litert": ".tflite", "executorch": ".pte"}[name]
    artifact = write_artifact(tmp_path / f"net{suffix}", payload, describe(kind))
    without(monkeypatch, {"litert": "ai_edge_litert"}.get(name, name))
    assert all(choice.backend != name for choice in choices(artifact))
    with pytest.raises(MissingExtraError, match=f"{name} is not installed: pip install") as caught:
        open_backend(artifact, backend=name)
    assert str(caught.value).endswith(install_line("" if name == "onnxruntime" else name))
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert name == "onnxruntime" or name in project["optional-dependencies"]


def test_an_8_bit_file_is_computed_in_8_bits_everywhere(tmp_path):
    artifact = write_onnx(tmp_path / "net.onnx", precision="int8")
    assert {choice.precision for choice in choices(artifact)} == {"int8"}


def test_weights_stored_in_fp16_are_computed_in_fp32(tmp_path):
    artifact = write_onnx(tmp_path / "net.onnx", precision="fp16")
    assert choices(artifact)[0] == RuntimeOption("onnxruntime", "fp32")
    assert open_backend(artifact, backend="onnxruntime").precision == "fp32"
    litert = write_artifact(tmp_path / "net.tflite", {"file": b"x"}, describe("litert", precision="fp16"))
    assert {choice.precision for choice in choices(litert)} <= {"fp32"}


def test_openvino_computes_weights_stored_in_fp16_in_fp16_where_it_can(tmp_path):
    pytest.importorskip("openvino")
    from mobilenets.runtime.openvino_backend import float_precisions

    opened = open_backend(write_onnx(tmp_path / "net.onnx", precision="fp16"), backend="openvino")
    assert opened.precision == ("fp16" if "fp16" in float_precisions() else "fp32")


class Full:
    """A runtime whose memory is full."""

    def __init__(self, inputs=()):
        self.inputs = inputs

    def get_inputs(self):
        return self.inputs

    def run(self, *_):
        raise RuntimeError("bad allocation\nmore of it")

    def infer(self, *_, **__):
        raise RuntimeError("Exception from src/somewhere\nbad allocation")


@pytest.mark.slow
def test_a_batch_too_large_for_onnx_runtime(artifact):
    backend = open_backend(artifact, threads=1)
    full = replace(backend, session=Full(backend.session.get_inputs()))
    with pytest.raises(
        BackendError,
        match=r"net.onnx: ONNX Runtime can't answer 5 images at once: bad allocation; try a smaller batch$",
    ):
        full.predict(IMAGES)
    with pytest.raises(BackendError, match=r"can't answer an image: bad allocation$"):
        full.predict(IMAGES[:1])


@pytest.mark.slow
def test_a_batch_too_large_for_openvino(artifact):
    pytest.importorskip("openvino")
    pool = ResourcePool(Full, 1)
    full = replace(open_backend(artifact, backend="openvino", threads=1), pools={5: pool})
    with pytest.raises(
        BackendError, match=r"net.onnx: OpenVINO can't answer 5 images at once: bad allocation; try a smaller batch$"
    ):
        full.predict(IMAGES)


def test_the_files_own_settings_are_followed_where_nothing_else_is_asked(tmp_path):
    artifact = write_onnx(tmp_path / "net.onnx", settings=RuntimeSettings("openvino", "fp32", 1))
    pytest.importorskip("openvino")
    followed = open_backend(artifact)
    assert (followed.name, followed.threads) == ("openvino", 1)
    assert open_backend(artifact, threads=2).threads == 2
    assert open_backend(artifact, backend="onnxruntime").name == "onnxruntime"


@pytest.mark.parametrize(
    "impossible", [RuntimeSettings("tensorrt", "fp32", 1), RuntimeSettings("onnxruntime", "bf16", 1)]
)
def test_settings_of_another_machine_are_left(tmp_path, impossible):
    backend = open_backend(write_onnx(tmp_path / "net.onnx", settings=impossible))
    assert (backend.name, backend.precision, backend.threads) == ("onnxruntime", "fp32", usable_cores())


def test_settings_for_a_runtime_that_is_not_here_are_left(tmp_path, monkeypatch):
    without(monkeypatch, "openvino")
    artifact = write_onnx(tmp_path / "net.onnx", settings=RuntimeSettings("openvino", "fp32", 1))
    assert open_backend(artifact).name == "onnxruntime"
    assert choices(artifact) == (RuntimeOption("onnxruntime", "fp32"),)


@pytest.mark.slow
def test_a_runtime_is_imported_only_when_it_is_opened(artifact, monkeypatch):
    monkeypatch.delitem(sys.modules, "mobilenets.runtime.openvino_backend", raising=False)
    without(monkeypatch, "openvino")
    open_backend(artifact)
    assert "mobilenets.runtime.openvino_backend" not in sys.modules


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_file_the_runtime_refuses(tmp_path, name, capfd):
    pytest.importorskip(name)
    unheard_of = colour_onnx().replace(b"ReduceMean", b"ReduceMood")
    artifact = write_artifact(tmp_path / "net.onnx", {"file": unheard_of}, describe())
    with pytest.raises(BackendError, match=r"can't (run|read|compile) it: \S") as caught:
        open_backend(artifact, backend=name)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("description", "said"),
    [
        ({"classes": ("a", "b"), "columns": 2}, r"answers with 3 logits, but its description names 2 classes"),
        ({"classes": CLASSES, "size": 9}, r"not the uint8 images \[B, 9, 9, 3\] its description says"),
    ],
)
def test_a_file_that_is_not_what_its_description_says(tmp_path, name, description, said):
    from mobilenets.artifact.golden import GoldenPairs
    from mobilenets.preprocessing import Preprocessing

    pytest.importorskip(name)
    size, classes = description.get("size", SIZE), description["classes"]
    golden = GoldenPairs(np.zeros((1, size, size, 3), np.uint8), np.zeros((1, len(classes)), np.float32), 1.0)
    described = describe(classes=classes, golden=golden, preprocessing=Preprocessing(image_size=size))
    artifact = write_artifact(tmp_path / "net.onnx", {"file": colour_onnx()}, described)
    with pytest.raises(ArtifactError, match=said):
        open_backend(artifact, backend=name)


@pytest.mark.slow
def test_equal_pictures_of_a_colour_answer_equally(artifact):
    logits = open_backend(artifact).predict(plain((200, 10, 10), 4))
    np.testing.assert_array_equal(logits, np.repeat(logits[:1], 4, axis=0))


@pytest.mark.parametrize("size", [10**12, 10**18])
@pytest.mark.parametrize("operator", ["Expand", "ConstantOfShape", "Tile", "Resize"])
def test_an_operator_that_takes_more_memory_than_there_is(tmp_path, operator, size):
    path = tmp_path / "net.onnx"
    write_artifact(path, {"model.onnx": growing_onnx(operator, size)}, describe())
    # ONNX Runtime before 1.27 computes what is constant while it loads the file, and names no operator then.
    where = rf"an image: its {operator}|can't run it: it"
    with pytest.raises(BackendError, match=rf"({where}) takes more memory than there is$"):
        open_backend(read_artifact(path), threads=1).predict(plain((1, 2, 3)))


def growing_onnx(operator, size):
    """The file of colours, whose answer also takes the mean of `size` numbers."""
    file = onnx.load_from_string(colour_onnx())
    side = int(size**0.5)
    sizes = {"Expand": [size], "ConstantOfShape": [size], "Tile": [1, side, side, 1], "Resize": [1, side, side, 1]}
    dtype = np.float32 if operator == "Resize" else np.int64
    first = {"Expand": ["scale"], "Tile": ["pixels"], "Resize": ["pixels", ""]}.get(operator, [])
    file.graph.initializer.append(onnx.numpy_helper.from_array(np.array(sizes[operator], dtype), "sizes"))
    cast, mean, times = list(file.graph.node)
    del file.graph.node[:]
    grown = onnx.helper.make_node(operator, [*first, "sizes"], ["grown"])
    small = onnx.helper.make_node("ReduceMean", ["grown"], ["small"], keepdims=0)
    times.input[1] = "small"
    file.graph.node.extend([cast, mean, grown, small, times])
    return file.SerializeToString()
