from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mobilenets.auditing.structure.layers import ChainLayer, TablePlace

if TYPE_CHECKING:
    from conftest import Bench, Edit


def swapped(old: str, new: str, parts: tuple[str, ...] = ()) -> Edit:
    """Another function wherever the old one is, or only in these parts."""

    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        here = layer.activation == old and (not parts or place.part in parts)
        return replace(layer, activation=new) if here else layer

    return edit


@pytest.mark.parametrize(
    ("name", "old", "new", "parts", "rule"),
    [
        ("mobilenet_v2", "none", "relu6", ("project",), "bottleneck-activation"),
        ("mobilenet_v2", "relu6", "relu", (), "relu-for-relu6"),
        ("mobilenet_v2", "relu6", "none", ("spatial",), "activation-missing"),
        ("mobilenet_v3_large", "relu", "relu6", (), "relu6-for-relu"),
        ("mobilenet_v3_large", "hard_swish", "swish", (), "hard-swish-variant"),
        ("mobilenet_v3_small", "hard_swish", "hard_swish_half", (), "hard-swish-variant"),
        ("mobilenet_v3_small", "hard_swish", "relu", (), "activation"),
        ("mobilenet_v1", "relu", "relu6", ("spatial",), "relu6-for-relu"),
        ("mobilenet_v4_conv_small", "none", "relu", ("start",), "activation-extra"),
        ("mobilenet_v2", "none", "softmax", ("classifier",), "final-activation"),
    ],
)
def test_each_mistake_has_its_name(
    bench: Bench, name: str, old: str, new: str, parts: tuple[str, ...], rule: str
) -> None:
    verdict = bench.mistake(name, swapped(old, new, parts))
    assert (verdict.errors(), verdict.notes(), verdict.difference) == ([rule], [], (0, 0))


def test_v1_with_relu6_throughout_is_the_authors_code(bench: Bench) -> None:
    verdict = bench.mistake("mobilenet_v1", swapped("relu", "relu6"))
    assert (verdict.errors(), verdict.notes()) == ([], ["v1-relu6"])
