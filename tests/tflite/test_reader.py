from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_writer import Form, write_network

from mobilenets.errors import WeightsError
from mobilenets.models.registry import create_model
from mobilenets.tflite.layers import read_layers
from mobilenets.tflite.model import Quantization, TfliteTensor, dequantized
from mobilenets.tflite.reader import read_model


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tflite") / "v1.tflite"
    write_network(create_model("mobilenet_v1", num_classes=3, width_mult=0.25, image_size=16).eval(), path)
    return path


def changed(file: Path, path: Path, change: Callable[[Any], None]) -> Path:
    """The file with its object tree changed."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(file.read_bytes()), 0)
    change(model)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def test_what_a_file_says(file: Path) -> None:
    model = read_model(file)
    assert model.description == "a test"
    first = model.operators[0]
    assert first.kind == "CONV_2D"
    assert first.options == {"padding": "SAME", "stride": (1, 1), "dilation": (1, 1), "activation": "RELU"}
    image, weights, bias = (model.tensors[index] for index in first.inputs)
    assert (image.name, image.shape, image.dtype, image.data) == ("image", (1, 16, 16, 3), "FLOAT32", None)
    assert (weights.shape, bias.shape) == ((8, 3, 3, 3), (8,))
    assert model.inputs == (image.index,)
    assert model.tensors[model.outputs[0]].shape == (1, 3)
    assert (model.labels, model.normalization, model.metadata) == (None, None, ())
    assert [operator.kind for operator in model.operators].count("DEPTHWISE_CONV_2D") == 13
    assert dequantized(weights).dtype == np.float32
    with pytest.raises(WeightsError, match="'image' holds no weights"):
        dequantized(image)


@pytest.mark.parametrize("values", ["uint8", "int8"])
def test_integers_keep_their_scales(tmp_path: Path, values: str) -> None:
    path = tmp_path / "v2.tflite"
    write_network(
        create_model("mobilenet_v2", num_classes=3, width_mult=0.25, image_size=16).eval(), path, Form(values)
    )
    model = read_model(path)
    stem = model.tensors[model.operators[0].inputs[1]]
    assert stem.dtype == values.upper()
    assert stem.quantization is not None
    assert stem.quantization.per_channel == (values == "int8")
    assert len(stem.quantization.scales) == (8 if values == "int8" else 1)
    image = model.tensors[model.inputs[0]].quantization
    assert image is not None
    assert image.scales[0] == pytest.approx(2 / 255, rel=1e-6)


@given(
    st.lists(st.integers(-128, 127), min_size=6, max_size=6),
    st.lists(st.floats(1e-4, 10), min_size=3, max_size=3),
    st.lists(st.integers(-128, 127), min_size=3, max_size=3),
)
def test_a_scale_a_channel(stored: list[int], scales: list[float], points: list[int]) -> None:
    data = np.array(stored, np.int8).reshape(2, 3)
    tensor = TfliteTensor(0, "w", (2, 3), "INT8", Quantization(tuple(scales), tuple(points), 1), data)
    for row in range(2):
        for column in range(3):
            real = (int(data[row, column]) - points[column]) * scales[column]
            assert dequantized(tensor)[row, column] == np.float32(real)


def test_scales_that_do_not_fit_are_refused() -> None:
    data = np.zeros((2, 3), np.int8)
    tensor = TfliteTensor(0, "w", (2, 3), "INT8", Quantization((1.0, 1.0), (0, 0), 1), data)
    with pytest.raises(WeightsError, match=r"'w' has 2 scales along axis 1 of \(2, 3\)"):
        dequantized(tensor)


def test_a_missing_and_a_foreign_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        read_model(tmp_path / "none.tflite")
    (tmp_path / "foreign").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"is empty \(0 bytes\)"):
        read_model(tmp_path / "foreign")
    for content in (b"TFL3", b"PK\x03\x04" * 9):
        (tmp_path / "foreign").write_bytes(content)
        with pytest.raises(WeightsError, match="is no TensorFlow Lite file"):
            read_model(tmp_path / "foreign")


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_file_cut_short(file: Path, tmp_path: Path, share: float) -> None:
    whole = file.read_bytes()
    (tmp_path / "cut.tflite").write_bytes(whole[: max(8, int(share * len(whole)))])
    with pytest.raises(WeightsError, match="damaged or cut short") as caught:
        read_model(tmp_path / "cut.tflite")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_in_one_line(file: Path, data: st.DataObject) -> None:
    content = bytearray(file.read_bytes())
    # The structure lies at the end of what the builder writes, and its root at the start.
    places = st.one_of(st.integers(8, 4000), st.integers(len(content) - 4000, len(content) - 1))
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        content[min(place, len(content) - 1)] = data.draw(st.integers(0, 255))
    damaged = file.with_name("damaged.tflite")
    damaged.write_bytes(content)
    said = ""
    try:
        read_layers(read_model(damaged))
    except WeightsError as error:
        said = str(error)
    assert "\n" not in said


def test_several_graphs_are_refused(file: Path, tmp_path: Path) -> None:
    path = changed(file, tmp_path / "two.tflite", lambda model: model.subgraphs.append(model.subgraphs[0]))
    with pytest.raises(WeightsError, match="holds 2 graphs"):
        read_model(path)


def test_custom_operators_are_named(file: Path, tmp_path: Path) -> None:
    def customise(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = "MyConvolution"

    model = read_model(changed(file, tmp_path / "custom.tflite", customise))
    assert model.operators[0].kind == "CUSTOM:MyConvolution"
    with pytest.raises(WeightsError, match="custom operator 'MyConvolution'"):
        read_layers(model)


def metadata(label_file: str, mean: float, std: float) -> bytes:
    """A metadata flatbuffer with one label file and one normalization, built field by field."""
    builder = flatbuffers.Builder(0)

    def table(size: int, fields: dict[int, int]) -> int:
        builder.StartObject(size)
        for slot, offset in fields.items():
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        return builder.EndObject()

    def listed(offsets: list[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def floats(value: float) -> int:
        builder.StartVector(4, 1, 4)
        builder.PrependFloat32(value)
        return builder.EndVector()

    name = builder.CreateString(label_file)
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependInt8Slot(2, 2, 0)
    labels = listed([builder.EndObject()])
    options = table(2, {0: floats(mean), 1: floats(std)})
    builder.StartObject(2)
    builder.PrependUint8Slot(0, 1, 0)
    builder.PrependUOffsetTRelativeSlot(1, options, 0)
    units = listed([builder.EndObject()])
    images, answers = listed([table(7, {4: units})]), listed([table(7, {6: labels})])
    graphs = listed([table(5, {2: images, 3: answers})])
    builder.Finish(table(8, {3: graphs}), b"M001")
    return bytes(builder.Output())


def described(file: Path, path: Path, *, with_labels: bool) -> Path:
    def describe(model: Any) -> None:
        entry, buffer = schema.MetadataT(), schema.BufferT()
        buffer.data = np.frombuffer(metadata("labels.txt", 120.0, 60.0), np.uint8)
        entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [entry]

    changed(file, path, describe)
    if with_labels:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("labels.txt", "cat\ndog\nbird\n")
        path.write_bytes(path.read_bytes() + archive.getvalue())
    return path


def test_labels_and_normalization_of_the_metadata(file: Path, tmp_path: Path) -> None:
    model = read_model(described(file, tmp_path / "described.tflite", with_labels=True))
    assert model.labels == ("cat", "dog", "bird")
    assert model.normalization is not None
    assert (model.normalization.mean, model.normalization.std) == ((120.0,), (60.0,))
    assert model.metadata == ("TFLITE_METADATA",)


def test_metadata_whose_label_file_was_lost(file: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"names a label file 'labels\.txt' it does not hold"):
        read_model(described(file, tmp_path / "lost.tflite", with_labels=False))
