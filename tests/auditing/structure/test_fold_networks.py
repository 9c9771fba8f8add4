"""The graph of a network folds into the chain its modules say it is, in odd forms too.

The common forms, torchvision's and timm's networks are folded in `test_clean_bill`, where they are audited.
"""

from __future__ import annotations

import pytest
from torch import nn

from mobilenets.auditing.graph.capture import export_graph
from mobilenets.auditing.structure.fold import fold
from mobilenets.auditing.structure.layers import Chain
from mobilenets.auditing.structure.published import reference, without_paths
from mobilenets.models.config import OptionValue
from mobilenets.models.registry import create_model

pytestmark = pytest.mark.slow


def folded(network: nn.Module, image_size: int, in_channels: int) -> Chain:
    return without_paths(fold(export_graph(network.eval(), (1, in_channels, image_size, image_size))))


@pytest.mark.parametrize(
    ("name", "width_mult", "image_size", "options"),
    [
        ("mobilenet_v1", 0.25, 128, {"activation": "relu6", "padding": "same", "norm_eps": 1e-3}),
        ("mobilenet_v1", 0.5, 33, {"padding": "same"}),
        ("mobilenet_v2", 1.4, 97, {}),
        ("mobilenet_v3_small", 1.25, 8, {}),
        ("mobilenet_v4_hybrid_medium", 1.1, 48, {"padding": "same"}),
    ],
)
def test_our_network_folds_at_any_width_and_size(
    name: str, width_mult: float, image_size: int, options: dict[str, OptionValue]
) -> None:
    common = {"width_mult": width_mult, "image_size": image_size, "num_classes": 7, "in_channels": 1}
    network = create_model(name, **common, **options)  # type: ignore[arg-type]
    assert folded(network, image_size, 1) == reference(name, **common, **options).chain  # type: ignore[arg-type]
