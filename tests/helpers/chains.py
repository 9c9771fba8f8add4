"""Chains as exporters leave them: with every batch norm folded into the convolution before it."""

from __future__ import annotations

from dataclasses import replace

from mobilenets.auditing.structure.layers import Chain, ChainLayer


def without_norms(chain: Chain) -> Chain:
    """What is left of a chain when norms are folded into biases: no norms, no dropout, other counts."""
    layers = tuple(_without_norms(layer) for layer in chain.layers)
    return replace(chain, layers=layers, parameters=0, dropout=None, folded_norms=False)


def _without_norms(layer: ChainLayer) -> ChainLayer:
    return replace(layer, norms=(), bias=layer.attention is None)
