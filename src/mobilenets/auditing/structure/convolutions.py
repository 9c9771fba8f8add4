"""A convolution alone: as a layer, its padding by name, its weights and multiply-adds; the blur that only looks so."""

from __future__ import annotations

import math

from mobilenets.auditing.graph.nodes import Attention, Conv, Linear, MatMul, Node, Norm, Pointwise
from mobilenets.auditing.structure.layers import Grouping, Layer, Padding
from mobilenets.auditing.structure.wiring import Wiring
from mobilenets.models.layers import same_padding


def conv_layer(node: Node, operator: Conv, map_shape: tuple[int, ...]) -> Layer:
    """The layer a convolution makes of a map of this shape, `[B, C, H, W]`, before anything hangs on it."""
    depthwise = operator.groups == operator.in_channels > 1
    grouped = operator.groups > 1 and not depthwise
    padding = padding_name(operator, map_shape)
    return Layer(
        out_channels=operator.out_channels,
        kernel=max(operator.kernel),
        stride=max(operator.stride),
        grouping=Grouping.DEPTHWISE if depthwise else Grouping.GROUPED if grouped else Grouping.DENSE,
        groups=operator.groups if grouped else 1,
        multiplier=operator.out_channels // operator.in_channels if depthwise else 1,
        dilation=max(operator.dilation),
        padding=padding,
        zeros=operator.padding[:2] if padding is Padding.OTHER else (0, 0),
        bias=operator.bias,
        path=node.path,
    )


def padding_name(operator: Conv, map_shape: tuple[int, ...]) -> Padding:
    """Where a convolution puts its zeros on a map of this shape; symmetric wherever SAME comes to the same."""
    (high, wide), (down, across), (reach_down, reach_across) = operator.kernel, operator.stride, operator.dilation
    reach = ((high - 1) * reach_down + 1, (wide - 1) * reach_across + 1)
    even = (reach[0] - 1) // 2, (reach[1] - 1) // 2
    if operator.padding == (even[0], even[0], even[1], even[1]):
        return Padding.SYMMETRIC
    same = (*same_padding(map_shape[2], reach[0], down), *same_padding(map_shape[3], reach[1], across))
    if operator.padding == same:
        return Padding.SAME
    return Padding.OTHER if any(operator.padding) else Padding.VALID


def conv_weights(operator: Conv | Linear) -> int:
    """Elements of the weight and the bias."""
    if isinstance(operator, Linear):
        return (operator.in_features + operator.bias) * operator.out_features
    per_output = operator.kernel[0] * operator.kernel[1] * operator.in_channels // operator.groups
    return (per_output + operator.bias) * operator.out_channels


def node_macs(node: Node, batch: int) -> int:
    """Multiply-adds of a node for one image: of convolutions, linear layers and attention's products; else 0."""
    operator = node.operator
    if isinstance(operator, Conv):
        per_output = operator.kernel[0] * operator.kernel[1] * operator.in_channels // operator.groups
        return math.prod(node.shape[1:]) * per_output
    if isinstance(operator, Linear):
        return math.prod(node.shape[1:]) * operator.in_features
    if isinstance(operator, MatMul | Attention):
        return operator.macs // batch
    return 0


def is_blur(node: Node, wiring: Wiring, *, is_file: bool) -> bool:
    """Whether a convolution is a fixed blur: a depthwise one whose weights are no parameters, with nothing behind it.

    A convolution that is called again owns no parameters either, but a normalization or activation follows it. A file
    does not tell weights from constants; there only the stride, taken after the function of a layer, marks a blur.
    """
    operator = node.operator
    if not isinstance(operator, Conv) or operator.bias or operator.groups != operator.in_channels:
        return False
    if operator.out_channels != operator.in_channels or operator.kernel == (1, 1):
        return False
    if not is_file and node.parameters:
        return False
    behind = [wiring.nodes[name].operator for name in wiring.readers.get(node.name, ())]
    if not is_file:
        return not any(isinstance(reader, Norm | Pointwise) for reader in behind)
    before = wiring.nodes.get(node.inputs[0])
    after_function = before is not None and isinstance(before.operator, Pointwise)
    return after_function and max(operator.stride) > 1 and all(isinstance(reader, Conv) for reader in behind)
