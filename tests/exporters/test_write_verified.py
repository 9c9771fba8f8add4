from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from described import colour_onnx, describe

from mobilenets.artifact.container import read_artifact
from mobilenets.artifact.golden import GoldenPairs
from mobilenets.errors import ArtifactError
from mobilenets.exporters.export import write_verified


def test_a_file_that_gives_its_golden_answers_is_written(tmp_path: Path) -> None:
    out = tmp_path / "new" / "net.onnx"
    artifact, difference = write_verified(out, {"model.onnx": colour_onnx()}, describe(), threads=1)
    assert (artifact.path, list(out.parent.iterdir())) == (out, [out])
    assert artifact.description.digest == read_artifact(out).description.digest
    assert 0 <= difference < 1e-3


def test_what_was_there_is_replaced_only_by_a_file_that_passed(tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    out.write_bytes(b"an earlier file")
    golden = describe().golden
    other = describe(golden=GoldenPairs(golden.images, golden.logits + np.float32(1), 0.01))
    with pytest.raises(ArtifactError, match=r"net\.onnx.*: its golden pairs no longer hold"):
        write_verified(out, {"model.onnx": colour_onnx()}, other, threads=1)
    assert out.read_bytes() == b"an earlier file"
    assert list(tmp_path.iterdir()) == [out]
