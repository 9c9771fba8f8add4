import contextlib

import onnx
import pytest
from described import colour_onnx
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.artifact.container import read_property, with_property, without_properties

FILE = colour_onnx()


def test_the_package_onnx_reads_what_is_written_here():
    model = onnx.load_from_string(with_property(with_property(FILE, "a", "ü".encode()), "b", b"2"))
    onnx.checker.check_model(model)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"a": "ü", "b": "2"}


def test_what_the_package_onnx_writes_is_read_here():
    model = onnx.load_from_string(FILE)
    onnx.helper.set_model_props(model, {"a": "one", "b": "x" * 70_000, "c": ""})
    content = model.SerializeToString()
    assert read_property(content, "a") == b"one"
    assert read_property(content, "b") == b"x" * 70_000
    assert read_property(content, "c") == b""
    assert read_property(content, "d") is None
    assert onnx.load_from_string(without_properties(content)) == onnx.load_from_string(FILE)


@given(st.text(min_size=1), st.binary())
def test_a_property_comes_back_and_goes_again(key, value):
    content = with_property(FILE, key, value)
    assert read_property(content, key) == value
    assert without_properties(content) == FILE


@given(st.integers(1, len(FILE) - 1))
def test_no_cut_file_passes_for_the_whole(length):
    with contextlib.suppress(ValueError):
        assert without_properties(FILE[:length]) != FILE


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" * 9, b"\xff" * 30, b"\x0f\x00", b"\x00\x00"])
def test_other_files_are_refused(content):
    with pytest.raises(ValueError, match=r"\S"):
        read_property(content, "a")
