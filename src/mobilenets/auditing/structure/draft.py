"""A chain being written: each node of the network in turn becomes a layer, or is hung on the last one.

What has no place in a chain is kept with its path and parameters, never dropped and never a failure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

from mobilenets.auditing.graph.nodes import ChannelScale, Conv, Linear, Node, Norm, Pointwise, PoolOperation, Softmax
from mobilenets.auditing.graph.probe import name_activation
from mobilenets.auditing.structure.layers import (
    AttentionUnit,
    BatchNorm,
    ChainLayer,
    Pooling,
    Shortcut,
    SqueezeExcite,
    UnplacedOperator,
)
from mobilenets.auditing.structure.wiring import Wiring, conv_layer, conv_weights, is_blur, node_macs

SHARED = "weights shared with an earlier layer"


@dataclass(frozen=True)
class Own:
    """What the graph says of a layer: channels and side of the map that enters it, weights (no biases), multiply-adds.

    Of an attention block the counts are None: they are taken from the graph as they are.
    """

    channels: int
    size: int
    weights: int | None = None
    macs: int | None = None


class LayerChanges(TypedDict, total=False):
    """The fields of a layer that nodes behind its convolution set."""

    out_channels: int
    stride: int
    bias: bool
    norms: tuple[BatchNorm, ...]
    activation: str
    squeeze: SqueezeExcite | None
    shortcut: Shortcut | None
    layer_scale: bool
    attention: AttentionUnit | None
    anti_alias: bool
    other: tuple[int, int]


@dataclass
class Draft:
    """Layers so far, and the state that says what the next node means.

    Attributes:
        wiring: the simplified graph.
        is_file: it was read from a file: its shapes are fixed, and constants can't be told from weights.
        layers: from the stem on.
        own: of each layer what enters it and what its convolution costs, as the graph has it.
        strays: what has no place.
        placed: names of the nodes that have a place, or are among the strays.
        pooling: how the last map became a vector; None before.
        final: function after the last layer, when it is no plain activation.
        at_branch: a shortcut reads the value here, so that what follows belongs to the branch, not to the last layer.
    """

    wiring: Wiring
    is_file: bool
    layers: list[ChainLayer] = field(default_factory=list)
    own: list[Own] = field(default_factory=list)
    strays: list[UnplacedOperator] = field(default_factory=list)
    placed: set[str] = field(default_factory=set)
    pooling: Pooling | None = None
    final: str = "none"
    at_branch: bool = False
    _behind_pool: bool = False
    _input_norm: Node | None = None
    _wants_projection: bool = False

    def add(self, node: Node) -> None:
        """Take the next node of the chain."""
        self._drop_input_norm()
        match node.operator:
            case Conv():
                self._convolution(node, node.operator)
            case Linear():
                self._linear(node, node.operator)
            case Norm():
                self._norm(node, node.operator)
            case Pointwise():
                self._function(node, node.operator)
            case PoolOperation():
                self._pool(node, node.operator)
            case ChannelScale():
                self._channel_scale(node, node.operator)
            case Softmax():
                self._softmax(node, node.operator)
            case _:
                self.stray(node, describe(node))

    def stray(self, node: Node, what: str) -> None:
        """Keep a node that has no place in a chain, once."""
        if node.name not in self.placed:
            macs = node_macs(node, self.wiring.input_shape[0])
            self.strays.append(UnplacedOperator(node.path, what, node.parameters, macs))
            self.placed.add(node.name)

    def amend(self, **changes: Unpack[LayerChanges]) -> None:
        """Hang something on the last layer."""
        self.layers[-1] = replace(self.layers[-1], **changes)

    @property
    def takes_squeeze(self) -> bool:
        """Whether squeeze-and-excitation may hang on the last layer."""
        if not self.layers or self.at_branch or self._behind_pool:
            return False
        return self.layers[-1].squeeze is None and self.layers[-1].shortcut is None

    def add_attention(self, unit: AttentionUnit, map_shape: tuple[int, ...]) -> None:
        """Take an attention block on a map of this shape, `[B, C, H, W]`.

        A normalization in front and the 1x1 projection behind it become part of it.
        """
        norm = self._input_norm
        self._input_norm = None
        norms = () if norm is None else (_batch_norm(norm),)
        self.layers.append(ChainLayer(map_shape[1], norms=norms, attention=unit, path=unit.path))
        self.own.append(Own(map_shape[1], map_shape[2] if len(map_shape) > 2 else 1))
        self.at_branch, self._behind_pool, self._wants_projection = False, False, True

    def finish(self) -> None:
        """Take leave of what still waits for a node that did not come."""
        self._drop_input_norm()

    def _drop_input_norm(self) -> None:
        if self._input_norm is not None:
            norm, self._input_norm = self._input_norm, None
            self.placed.discard(norm.name)
            self.stray(norm, "normalization in front of a convolution")

    def _convolution(self, node: Node, operator: Conv) -> None:
        if self._projects(node, operator):
            return
        if self.layers and is_blur(node, self.wiring, is_file=self.is_file) and self._takes_stride(operator.stride):
            self.placed.add(node.name)
            return
        layer = conv_layer(node, operator, self.wiring.shape(node.inputs[0]))
        self._append(node, operator, replace(layer, pooled=self.pooling is not None))

    def _linear(self, node: Node, operator: Linear) -> None:
        if self._projects(node, operator):
            return
        shape = self.wiring.shape(node.inputs[0])
        places = math.prod(shape[2:])
        if self.pooling is None and (places == 1 or operator.in_features == shape[1] * places):
            self.pooling = Pooling("flatten", shape[2] if len(shape) > 2 else 1, node.path)
        pooled = self.pooling is not None
        self._append(
            node, operator, ChainLayer(operator.out_features, bias=operator.bias, pooled=pooled, path=node.path)
        )

    def _append(self, node: Node, operator: Conv | Linear, layer: ChainLayer) -> None:
        if node.parameters == 0:
            # Counted where they are first read; taken off again, so that the sums stay exact.
            self.strays.append(UnplacedOperator(node.path, SHARED, -conv_weights(operator)))
        self.layers.append(layer)
        self.own.append(self._own(node, operator, pooled=layer.pooled))
        self.placed.add(node.name)
        self.at_branch, self._behind_pool, self._wants_projection = False, False, False

    def _own(self, node: Node, operator: Conv | Linear, *, pooled: bool) -> Own:
        channels = operator.in_channels if isinstance(operator, Conv) else operator.in_features
        shape = self.wiring.shape(node.inputs[0])
        size = 1 if pooled or len(shape) < 3 else shape[2]
        weights = conv_weights(replace(operator, bias=False))
        return Own(channels, size, weights, node_macs(node, self.wiring.input_shape[0]))

    def _projects(self, node: Node, operator: Conv | Linear) -> bool:
        """Take the 1x1 convolution behind attention as its output projection."""
        if not self._wants_projection or self.layers[-1].attention is None:
            return False
        self._wants_projection = False
        if isinstance(operator, Conv) and (operator.kernel != (1, 1) or operator.groups > 1):
            return False
        unit = self.layers[-1].attention
        macs = unit.macs + math.prod(node.shape[1:]) * (
            operator.in_channels if isinstance(operator, Conv) else operator.in_features
        )
        out_channels = operator.out_channels if isinstance(operator, Conv) else operator.out_features
        unit = replace(unit, parameters=unit.parameters + node.parameters, macs=macs)
        self.amend(attention=unit, out_channels=out_channels)
        self.placed.add(node.name)
        return True

    def _takes_stride(self, stride: tuple[int, int]) -> bool:
        """Let a blur or pool take the stride the last layer did not."""
        layer = self.layers[-1]
        if max(stride) == 1 or layer.stride > 1 or layer.anti_alias or layer.shortcut or self.at_branch:
            return False
        self.amend(stride=max(stride), anti_alias=True)
        return True

    def _norm(self, node: Node, operator: Norm) -> None:
        if self.at_branch and self._input_norm is None:
            # Before attention; anywhere else `add` finds that it has no place.
            self._input_norm = node
            self.placed.add(node.name)
            return
        if not self.layers and operator.kind == "affine":
            self._preamble(node)
        elif not self.layers:
            self.stray(node, "normalization in front of the first convolution")
        elif self._behind_pool or not _open(self.layers[-1]):
            self.stray(node, f"{operator.kind} normalization where none belongs")
        elif self.layers[-1].attention is not None:
            unit = self.layers[-1].attention
            self.amend(attention=replace(unit, parameters=unit.parameters + node.parameters))
            self.placed.add(node.name)
        else:
            if operator.frozen:
                pass  # buffers are no parameters, whoever reads them
            elif node.parameters == 0 and operator.affine:
                self.strays.append(UnplacedOperator(node.path, SHARED, -2 * operator.channels))
            elif operator.affine:
                # A norm over places too, or with a scale alone, has other parameters than two a channel.
                beyond = node.parameters - 2 * self.layers[-1].out_channels
                self.amend(other=(self.layers[-1].other[0] + beyond, 0))
            self.amend(norms=(*self.layers[-1].norms, _batch_norm(node)))
            self.placed.add(node.name)

    def _function(self, node: Node, operator: Pointwise) -> None:
        if not self.layers:
            self._preamble(node)
            return
        name = name_activation(operator.function)
        if name == "none" and not node.parameters:
            self.placed.add(node.name)
            return
        layer = self.layers[-1]
        if node.parameters:
            self.stray(node, f"{name} with weights of its own")
        if self.at_branch:
            self.stray(node, f"{name} on the branch alone, not on the shortcut beside it")
        self.placed.add(node.name)
        if self._behind_pool:
            self._append_final(node, name)
        elif layer.shortcut is not None:
            self._after_sum(node, layer.shortcut, name)
        elif layer.activation != "none":
            self._second_function(node, layer, name)
        elif layer.squeeze is not None:
            self.amend(activation=name, squeeze=replace(layer.squeeze, before_activation=True))
        else:
            self.amend(activation=name)

    def _append_final(self, node: Node, name: str) -> None:
        if node.name == self.wiring.output:
            self.final = name
        else:
            self.strays.append(UnplacedOperator(node.path, f"{name} behind the pool"))

    def _after_sum(self, node: Node, shortcut: Shortcut, name: str) -> None:
        if shortcut.activation_after == "none":
            self.amend(shortcut=replace(shortcut, activation_after=name))
        else:
            self.strays.append(UnplacedOperator(node.path, f"a second function, {name}, after the sum"))

    def _second_function(self, node: Node, layer: ChainLayer, name: str) -> None:
        if node.name == self.wiring.output:
            self.final = name
        else:
            self.strays.append(UnplacedOperator(node.path, f"{name} after {layer.activation}"))

    def _preamble(self, node: Node) -> None:
        """Scaling of the input in front of the first convolution: preprocessing, no part of the network."""
        if node.parameters:
            self.stray(node, "learnt scale of the input")
        self.placed.add(node.name)

    def _pool(self, node: Node, operator: PoolOperation) -> None:
        shape = self.wiring.shape(node.inputs[0])
        if self.pooling is not None and math.prod(shape[2:]) == 1:
            self.placed.add(node.name)  # of one place only: changes nothing
        elif self.layers and self.pooling is None and math.prod(node.shape[2:]) == 1:
            self.pooling = Pooling(self._pooling_kind(operator, shape), shape[2], node.path)
            self.placed.add(node.name)
            self._behind_pool = True
        elif self.layers and operator.kind == "average" and self._takes_stride(operator.stride):
            self.placed.add(node.name)
        else:
            self.stray(node, f"{operator.kind} pool of {operator.window[0]}x{operator.window[1]}")

    def _pooling_kind(self, operator: PoolOperation, shape: tuple[int, ...]) -> str:
        if operator.kind != "average":
            return "max"
        if operator.adaptive:
            return "global"
        covers = operator.window[0] >= shape[2] and operator.window[1] >= shape[3]
        # A file has one size of images: a window over the whole map is the global pool it was exported from.
        return "fixed" if not self.is_file else "global" if covers else "other"

    def _channel_scale(self, node: Node, operator: ChannelScale) -> None:
        if not self.layers:
            self._preamble(node)
            return
        layer = self.layers[-1]
        if operator.shift and node.parameters and self._takes_bias(layer):
            self.amend(bias=True)
            self.placed.add(node.name)
            return
        free = layer.shortcut is None and not layer.layer_scale and not self._behind_pool and not self.at_branch
        if operator.shift or not node.parameters or not free:
            self.stray(node, "learnt shift per channel" if operator.shift else "factor per channel")
        else:
            self.amend(layer_scale=True)
            self.placed.add(node.name)

    def _takes_bias(self, layer: ChainLayer) -> bool:
        """Whether a learnt shift is the bias of the last layer, written as a sum of its own: `x @ w.T + b`."""
        closed = layer.bias or layer.norms or layer.attention or self._behind_pool or self.at_branch
        return not closed and _open(layer)

    def _softmax(self, node: Node, operator: Softmax) -> None:
        if node.name == self.wiring.output:
            self.final = "log_softmax" if operator.log else "softmax"
            self.placed.add(node.name)
        else:
            self.stray(node, "softmax inside the network")


def describe(node: Node) -> str:
    """What a node is, for people: its kind, of an unknown one the framework's own name."""
    label: str = getattr(node.operator, "label", "")
    return label or type(node.operator).__name__.lower()


def _open(layer: ChainLayer) -> bool:
    """Whether a normalization may still follow directly."""
    return layer.activation == "none" and not (layer.squeeze or layer.shortcut or layer.layer_scale)


def _batch_norm(node: Node) -> BatchNorm:
    operator = node.operator
    assert isinstance(operator, Norm)
    return BatchNorm(operator.eps, operator.momentum, operator.kind, operator.affine, operator.frozen, path=node.path)
