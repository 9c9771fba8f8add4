"""Exported networks fold into the same chain: norms kept, norms folded away, and Google's quantized files.

More with norms folded away are in `test_clean_bill`, where they are audited.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from chains import without_norms
from torch import nn

from mobilenets.auditing.graph.onnx import onnx_graph
from mobilenets.auditing.graph.tflite import tflite_graph
from mobilenets.auditing.rules.context import Severity
from mobilenets.auditing.rules.findings import account, apply_rules
from mobilenets.auditing.structure.fold import fold
from mobilenets.auditing.structure.layers import Padding
from mobilenets.auditing.structure.nearest import compare
from mobilenets.auditing.structure.published import reference, without_paths
from mobilenets.models.registry import create_model

pytestmark = pytest.mark.slow

GOOGLE = Path(__file__).parents[4] / "shared" / "data" / "google"
SIZE = 32


def exported(network: nn.Module, path: Path, *, folded: bool) -> Path:
    """The network as ONNX; unless `folded`, by the older exporter that can keep every batch norm."""
    image = (torch.zeros(1, 3, SIZE, SIZE),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        if folded:
            torch.onnx.export(network.eval(), image, path, dynamo=True, verbose=False)
        else:
            kept = {"do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}
            torch.onnx.export(network.eval(), image, path, dynamo=False, **kept)
    return path


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large"])
def test_an_export_with_norms_is_the_same_chain(name: str, tmp_path: Path) -> None:
    path = exported(create_model(name, image_size=SIZE), tmp_path / "network.onnx", folded=False)
    published = reference(name, image_size=SIZE).chain
    assert replace(without_paths(fold(onnx_graph(path))), dropout=published.dropout) == published


def test_a_fresh_export_counts_as_folded_though_its_zero_biases_are_dropped(tmp_path: Path) -> None:
    path = exported(create_model("mobilenet_v2", image_size=SIZE), tmp_path / "network.onnx", folded=True)
    chain = fold(onnx_graph(path))
    assert chain.folded_norms
    published = reference("mobilenet_v2", image_size=SIZE).chain
    assert without_norms(without_paths(chain)).layers == without_norms(published).layers


@pytest.mark.skipif(not GOOGLE.is_dir(), reason="Google's files are not here")
@pytest.mark.parametrize(
    ("file", "name", "width_mult", "image_size"),
    [
        ("mobilenet_v1_0.25_128_quant.tflite", "mobilenet_v1", 0.25, 128),
        ("mobilenet_v2_1.0_224_quant.tflite", "mobilenet_v2", 1.0, 224),
    ],
)
def test_googles_files_are_the_published_networks(file: str, name: str, width_mult: float, image_size: int) -> None:
    found = without_paths(fold(tflite_graph(GOOGLE / file)))
    options = {"activation": "relu6"} if name == "mobilenet_v1" else {}
    published = reference(
        name, width_mult=width_mult, image_size=image_size, num_classes=1001, padding="same", **options
    ).chain
    assert (found.final, found.folded_norms, found.dropout, found.unfolded) == ("softmax", True, None, ())
    assert {layer.padding for layer in found.layers if layer.stride == 2} == {Padding.SAME}
    assert without_norms(replace(found, final="none")) == without_norms(published)


def test_a_fresh_hybrid_exported_and_folded_is_the_published_one(tmp_path: Path) -> None:
    # Its layer scales are equal vectors stored once, its zero biases are dropped, and its attention keeps its norms.
    path = exported(create_model("mobilenet_v4_hybrid_medium"), tmp_path / "hybrid.onnx", folded=True)
    comparison = compare(fold(onnx_graph(path)))
    findings, parameters, macs = account(comparison, apply_rules(comparison, front_end="ONNX"))
    assert {finding.diagnostic.rule for finding in findings if finding.diagnostic.severity is Severity.ERROR} <= {
        "last-map-1x1"
    }
    assert (parameters, macs) == (0, 0)
    assert comparison.found.macs == comparison.reference.chain.macs
