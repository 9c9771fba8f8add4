from __future__ import annotations

import re

import pytest

from mobilenets.errors import MissingExtraError, MobilenetsError
from mobilenets.exporters.executorch import to_executorch
from mobilenets.exporters.onnx import to_onnx
from mobilenets.exporters.openvino import to_openvino
from mobilenets.exporters.subject import FORMATS, translator
from mobilenets.install import install_line


def test_formats_by_name() -> None:
    assert FORMATS == ("onnx", "openvino", "litert", "executorch")
    assert translator("onnx", "fp16") is to_onnx
    assert translator("openvino") is to_openvino
    assert translator("executorch") is to_executorch


@pytest.mark.parametrize(
    ("to", "precision", "message"),
    [
        ("onx", "fp32", "no format 'onx'; did you mean onnx\\? Valid: onnx, openvino, litert, executorch"),
        ("tensorrt", "fp32", "no format 'tensorrt'"),
        ("executorch", "fp16", "executorch is exported as fp32, not 'fp16'"),
        ("onnx", "int8", "'mobilenets quantize' makes int8"),
    ],
)
def test_what_there_is_not(to: str, precision: str, message: str) -> None:
    with pytest.raises(MobilenetsError, match=message):
        translator(to, precision)


def test_what_is_not_installed_is_told_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilenets.exporters.onnx.find_spec", lambda name: None)
    for to in ("onnx", "openvino"):
        with pytest.raises(MissingExtraError, match=re.escape(install_line("export"))):
            translator(to)
