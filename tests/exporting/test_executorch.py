from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

pytest.importorskip("executorch")

from mobilenets.artifact.container import read_artifact, write_artifact
from mobilenets.errors import ExportError, MissingExtraError, MobilenetsError
from mobilenets.exporting.describe import Subject, describe, golden_pairs
from mobilenets.exporting.executorch import to_executorch
from mobilenets.exporting.parity import check_parity, network_predict
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.backend import open_backend

SMALL = Preprocessing(image_size=32)
CLASSES = tuple("0123456789")


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small"])
def test_the_program_answers_as_the_network_with_its_description_behind_it(
    tmp_path: Path,
    shaken: Callable[..., nn.Module],
    scans: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
    name: str,
) -> None:
    model = shaken(name)
    exported = to_executorch(model, SMALL)
    assert capfd.readouterr() == ("", "")
    images = scans(SMALL, 5)
    predict = network_predict(model, SMALL)
    golden = golden_pairs(images[:2], predict(images[:2]), "fp32")
    description = describe(Subject(model, CLASSES, SMALL, {}), "executorch", "fp32", exported, golden)
    write_artifact(tmp_path / "model.pte", exported.payload, description)
    backend = open_backend(read_artifact(tmp_path / "model.pte"), threads=1)
    check_parity(predict, backend.predict, images, 1e-4)
    # Depthwise filters and the rest are XNNPACK's: what is left over is the change of the pictures' type and layout.
    (content,) = exported.payload.values()
    assert b"XnnpackBackend" in content
    assert b"aten::convolution" not in content
    assert b"aten::_native_batch_norm" not in content


class Unexportable(nn.Module):
    def forward(self, images: Any) -> Any:
        return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))


def test_a_network_that_can_not_be_exported(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportError, match="can't be written for ExecuTorch") as caught:
        to_executorch(Unexportable(), SMALL)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_no_other_precision(tiny: nn.Module) -> None:
    with pytest.raises(MobilenetsError, match="as fp32, not fp16"):
        to_executorch(tiny, SMALL, precision="fp16")


def test_without_executorch(tiny: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilenets.exporting.executorch.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mobilenets\[executorch\]'"):
        to_executorch(tiny, SMALL)
