from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="the extra litert is not installed")

import tflite
from ai_edge_litert.interpreter import Interpreter

from mobilenets.exporters.litert.file import FileBuilder


def doubled() -> FileBuilder:
    file = FileBuilder("a test")
    source = file.computed("given", (3,))
    factor = file.constant("factor", np.full(3, 2, np.float32))
    file.operator("MUL", [source, factor], file.computed("twice", (3,)))
    return file


def test_a_file_runs_by_its_signature_with_any_batch() -> None:
    interpreter = Interpreter(model_content=doubled().finish({"x": 0}, {"y": 2}))
    runner = interpreter.get_signature_runner("serving_default")
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_array_equal(runner(x=values)["y"], 2 * values)


def test_stored_tensors_are_aligned() -> None:
    file = FileBuilder("a test")
    indices = [file.constant(f"odd{size}", np.zeros(size, np.uint8)) for size in (1, 3, 17, 5)]
    content = file.finish({}, {})
    model = tflite.Model.GetRootAs(content, 0)
    for index in indices:
        buffer = model.Buffers(model.Subgraphs(0).Tensors(index).Buffer())
        start = buffer._tab.Vector(buffer._tab.Offset(4))
        assert start % 16 == 0


def test_names_are_unique_and_numbers_shared() -> None:
    file = doubled()
    assert file.numbers([1, 2]) == file.numbers([1, 2]) != file.numbers([[1, 2]])
    file.computed("twice", (3,))
    graph = tflite.Model.GetRootAs(file.finish({"x": 0}, {"y": 2}), 0).Subgraphs(0)
    names = [graph.Tensors(index).Name() for index in range(graph.TensorsLength())]
    assert len(names) == len(set(names))


def test_files_for_int8_declare_the_boundaries_for_old_readers() -> None:
    file = FileBuilder("a test", for_int8=True)
    model = tflite.Model.GetRootAs(file.finish({}, {}), 0)
    codes = [model.OperatorCodes(number).DeprecatedBuiltinCode() for number in range(model.OperatorCodesLength())]
    assert codes == [tflite.BuiltinOperator.QUANTIZE, tflite.BuiltinOperator.DEQUANTIZE]
