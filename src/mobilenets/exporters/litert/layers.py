"""Each layer of a network as LiteRT operators.

Every network of the project comes out in the fewest operators the format has for it:

- batch norm and layer scale are folded beforehand (`exporting.fold`), ReLU and ReLU6 are part of the layer before;
- h-swish is one `HARD_SWISH` (two operators in files to be quantized, see `LayerWriter.hard_swish`);
- the h-sigmoid of squeeze-and-excitation, `relu6(x + 3) / 6`, is none at all: the 3 goes into the bias before it, the
  ReLU6 into that layer, and the sixth into the weights of the layer that follows the gate;
- padding is the layer's own wherever it equals `SAME`; symmetric padding at stride 2 does not, and needs a `PAD`;
- views cost nothing (`exporting.litert_wire`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from torch import nn

from mobilenets.errors import ExportError
from mobilenets.exporters.litert.file import ANY_BATCH, ONE, FileBuilder, Wire
from mobilenets.models.layers import SameConv2d, same_padding


class WireWriter:
    """Appends operators that take and give wires; `name` is that of the layer they serve.

    Args:
        file: to write to.
    """

    def __init__(self, file: FileBuilder) -> None:
        self.file = file

    def plain(self, name: str, wire: Wire) -> Wire:
        """The same values with nothing left to multiply."""
        if (wire.factor == 1).all():
            return with_factor(wire, ONE)
        source = self.feature_map(name, wire) if wire.factor.ndim else wire
        factor = self.file.constant(f"{name}/factor", np.atleast_1d(source.factor).astype(np.float32))
        return self.elementwise("MUL", f"{name}/scaled", with_factor(source, ONE), schema.MulOptionsT(), factor)

    def elementwise(self, kind: str, name: str, wire: Wire, options: Any, *others: int) -> Wire:
        """An operator that takes value by value: the answer is arranged as `wire` is. `others` are tensors."""
        output = self.file.computed(name, wire.shape)
        self.file.operator(kind, [wire.index, *others], output, options)
        return Wire(output, wire.shape, wire.axes, wire.dims, wire.factor)

    def binary(self, kind: str, name: str, left: Wire, right: Wire, options: Any) -> Wire:
        """An operator on two tensors of one shape, or on a map `[C, H, W]` and a vector `[C, 1, 1]`."""
        if len(left.dims) == 3:
            left, right = self.feature_map(name, left), self.feature_map(name, right)
        elif (left.shape, left.axes, left.dims) != (right.shape, right.axes, right.dims):
            order = range(len(left.dims))
            left, right = self.stored(name, left, order), self.stored(name, right, order)
        larger, other = (left, right) if left.sizes >= right.sizes else (right, left)
        return self.elementwise(kind, name, larger, options, other.index)

    def feature_map(self, name: str, wire: Wire) -> Wire:
        """The same values stored `[B, H, W, C]`."""
        map_size(name, wire)
        return self.stored(name, wire, [1, 2, 0])

    def stored(self, name: str, wire: Wire, order: Sequence[int]) -> Wire:
        """The same values with the network's dimensions stored in this order, one axis each."""
        return self.arranged(name, wire, wire.order(order), tuple(wire.size(dim) for dim in order))

    def arranged(self, name: str, wire: Wire, axes: tuple[int, ...], shape: tuple[int, ...]) -> Wire:
        """The same values with the stored axes in this order, as a tensor of this shape."""
        if axes != tuple(range(len(wire.axes))):
            wire = self._transposed(name, self._reshaped(f"{name}/split", wire, wire.axes), axes)
        return self._reshaped(f"{name}/reshaped", wire, shape)

    def _reshaped(self, name: str, wire: Wire, shape: tuple[int, ...]) -> Wire:
        if wire.shape == shape:
            return wire
        output = self.file.computed(name, shape)
        self.file.operator("RESHAPE", [wire.index, self.file.numbers([ANY_BATCH, *shape])], output)
        return Wire(output, shape, wire.axes, wire.dims, wire.factor)

    def _transposed(self, name: str, wire: Wire, order: tuple[int, ...]) -> Wire:
        shape = tuple(wire.axes[axis] for axis in order)
        output = self.file.computed(f"{name}/transposed", shape)
        permutation = self.file.numbers([0, *(axis + 1 for axis in order)])
        self.file.operator("TRANSPOSE", [wire.index, permutation], output, schema.TransposeOptionsT())
        dims = tuple(tuple(order.index(axis) for axis in dim) for dim in wire.dims)
        return Wire(output, shape, shape, dims, wire.factor)


def with_factor(wire: Wire, factor: NDArray[np.float64] | float) -> Wire:
    """The same tensor, with this to be multiplied with."""
    return Wire(wire.index, wire.shape, wire.axes, wire.dims, np.asarray(factor, np.float64))


def map_size(name: str, wire: Wire) -> tuple[int, int]:
    """Height and width of a feature map.

    Raises:
        ExportError: it is none.
    """
    if len(wire.dims) != 3:
        raise ExportError(f"layer {name} wants a feature map and gets {list(wire.sizes)}: LiteRT export can't place it")
    return wire.size(1), wire.size(2)


Array = NDArray[np.float64]
_FUSED = schema.ActivationFunctionType
HARD_SIGMOID_SHIFT, HARD_SIGMOID_FACTOR = 3.0, 1 / 6


class LayerWriter(WireWriter):
    """Appends layers to a file. Methods take and give wires; `name` is that of the layer in the network.

    Args:
        file: to write to.
        split_hard_swish: write h-swish as a sum and a product; see `hard_swish`.
    """

    def __init__(self, file: FileBuilder, *, split_hard_swish: bool = False) -> None:
        super().__init__(file)
        self._split_hard_swish = split_hard_swish

    def images(self, name: str, size: int, scale: Array, shift: Array) -> Wire:
        """The graph's input, pixels uint8 `[B, H, W, C]`, normalized: `pixel * scale + shift` for each channel."""
        shape = (size, size, len(scale))
        pixels = self.file.computed(name, shape, np.uint8)
        wide = self.file.computed(f"{name}/float", shape)
        cast = schema.CastOptionsT()
        cast.inDataType, cast.outDataType = schema.TensorType.UINT8, schema.TensorType.FLOAT32
        self.file.operator("CAST", [pixels], wide, cast)
        # pixel * scale + shift = (pixel + shift / scale) * scale: the factor is for the first layer's weights. The
        # addition has to come first, since that layer pads with the zeros of normalized images.
        moved = self.file.computed(f"{name}/centred", shape)
        summand = self.file.constant(f"{name}/shift", (shift / scale).astype(np.float32))
        self.file.operator("ADD", [wide, summand], moved, schema.AddOptionsT())
        return with_factor(Wire.feature_map(moved, size, size, len(scale)), scale)

    def convolution(self, name: str, layer: nn.Conv2d, wire: Wire, activation: nn.Module | None) -> Wire:
        """A convolution or depthwise convolution, and the activation behind it where the operator can have it inside.

        Raises:
            ExportError: it is dilated, grouped but not depthwise, or padded otherwise than with zeros.
        """
        height, width = map_size(name, wire)
        source = self.feature_map(name, wire)
        depthwise = _checked(name, layer)
        weight = layer.weight.detach().double().cpu().numpy()
        factor = np.broadcast_to(source.factor, (layer.in_channels,))
        if depthwise:
            weight = weight * np.repeat(factor, layer.out_channels // layer.in_channels)[:, None, None, None]
            stored, options = weight.transpose(1, 2, 3, 0), schema.DepthwiseConv2DOptionsT()
            options.depthMultiplier = layer.out_channels // layer.in_channels
        else:
            stored, options = (weight * factor[:, None, None]).transpose(0, 2, 3, 1), schema.Conv2DOptionsT()
        index, options.padding, padded = self._padding(name, layer, source, (height, width))
        options.strideH, options.strideW = layer.stride
        options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction, shift, after = _inside(activation)
        bias = _bias(layer, layer.out_channels) + shift
        inputs = [index, self.file.weights(f"{name}/weight", stored), self._bias_tensor(name, bias)]
        height, width = (
            (side - kernel) // stride + 1
            for side, kernel, stride in zip(padded, layer.kernel_size, layer.stride, strict=True)
        )
        output = self.file.computed(name, (height, width, layer.out_channels))
        self.file.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", inputs, output, options)
        return with_factor(Wire.feature_map(output, height, width, layer.out_channels), after)

    def linear(self, name: str, layer: nn.Linear, wire: Wire, activation: nn.Module | None) -> Wire:
        """A fully connected layer, `[B, C]` to `[B, K]`, from a vector or a 1x1 map that became one."""
        if len(wire.dims) != 1:
            raise ExportError(f"layer {name} is linear and gets a map of {list(wire.sizes)}: flatten it first")
        # The operator itself flattens what it gets, so a 1x1 map needs no reshaping.
        index = wire.index if wire.order([0]) == tuple(range(len(wire.axes))) else self.stored(name, wire, [0]).index
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction, shift, after = _inside(activation)
        weight = layer.weight.detach().double().cpu().numpy() * np.broadcast_to(wire.factor, (layer.in_features,))
        bias = _bias(layer, layer.out_features) + shift
        inputs = [index, self.file.weights(f"{name}/weight", weight), self._bias_tensor(name, bias)]
        output = self.file.computed(name, (layer.out_features,))
        self.file.operator("FULLY_CONNECTED", inputs, output, options)
        return with_factor(Wire.vector(output, layer.out_features), after)

    def hard_sigmoid(self, name: str, wire: Wire) -> Wire:
        """`relu6(x + 3) / 6` where it does not follow a layer that could have it inside."""
        options = schema.AddOptionsT()
        options.fusedActivationFunction = _FUSED.RELU6
        three = self.file.constant(f"{name}/three", np.array([HARD_SIGMOID_SHIFT], np.float32))
        return with_factor(self.elementwise("ADD", name, self.plain(name, wire), options, three), HARD_SIGMOID_FACTOR)

    def hard_swish(self, name: str, wire: Wire) -> Wire:
        """`x * relu6(x + 3) / 6`: one operator; or a sum and a product, the sixth left to the next layer.

        In float the one operator is faster. In int8 it is not: XNNPACK, which runs LiteRT files on a CPU, has it in
        float only, so each stops the fast path and goes on in a slow one, while it has int8 sums and products.
        """
        if not self._split_hard_swish:
            return self.unary("HARD_SWISH", name, wire)
        source = self.plain(name, wire)
        return self.multiply(name, source, self.hard_sigmoid(f"{name}/gate", source))

    def unary(self, kind: str, name: str, wire: Wire) -> Wire:
        """`RELU`, `RELU6`, `HARD_SWISH`, `LOGISTIC`: value by value."""
        options = schema.HardSwishOptionsT() if kind == "HARD_SWISH" else None
        return self.elementwise(kind, name, self.plain(name, wire), options)

    def affine(self, name: str, wire: Wire, scale: Array, shift: Array) -> Wire:
        """`x * scale + shift`, a number for each channel of a map: a batch norm that could not be folded."""
        source = self.feature_map(name, wire)
        factor = self.file.constant(f"{name}/scale", (scale * source.factor).astype(np.float32))
        scaled = self.elementwise("MUL", f"{name}/scaled", with_factor(source, ONE), schema.MulOptionsT(), factor)
        if not shift.any():
            return scaled
        summand = self.file.constant(f"{name}/shift", shift.astype(np.float32))
        return self.elementwise("ADD", name, scaled, schema.AddOptionsT(), summand)

    def add(self, name: str, left: Wire, right: Wire) -> Wire:
        """A shortcut: two maps of one shape."""
        return self.binary("ADD", name, self.plain(name, left), self.plain(name, right), schema.AddOptionsT())

    def multiply(self, name: str, left: Wire, right: Wire) -> Wire:
        """A map times a gate `[C, 1, 1]`, or times a map of its shape."""
        product = self.binary("MUL", name, with_factor(left, ONE), with_factor(right, ONE), schema.MulOptionsT())
        return with_factor(product, left.factor * right.factor)

    def global_pool(self, name: str, wire: Wire) -> Wire:
        """The mean of each channel: `[C, H, W]` to `[C, 1, 1]`."""
        source = self.feature_map(name, wire)
        options = schema.ReducerOptionsT()
        options.keepDims = True
        channels = wire.size(0)
        output = self.file.computed(name, (1, 1, channels))
        self.file.operator("MEAN", [source.index, self.file.numbers([1, 2])], output, options)
        return with_factor(Wire.feature_map(output, 1, 1, channels), source.factor)

    def matrix_product(self, name: str, left: Wire, right: Wire) -> Wire:
        """`[B, N, D]` times `[B, D, M]`; each may be stored with its two dimensions in either order."""
        # Rows may stand in any order as long as the answer's are noted in the same one.
        rows = tuple(sorted(left.dims[0]))
        first = self.arranged(f"{name}/left", left, (*rows, *left.dims[1]), (left.size(0), left.size(1)))
        across = right.order([1, 0]) == tuple(range(len(right.axes)))
        order = [1, 0] if across else [0, 1]
        second = self.stored(f"{name}/right", right, order)
        options = schema.BatchMatMulOptionsT()
        options.adjX, options.adjY = False, across
        shape = (left.size(0), right.size(1))
        output = self.file.computed(name, shape)
        self.file.operator("BATCH_MATMUL", [first.index, second.index], output, options)
        axes = (*(left.axes[axis] for axis in rows), *(right.axes[axis] for axis in right.dims[1]))
        dims = (tuple(rows.index(axis) for axis in left.dims[0]), tuple(range(len(rows), len(axes))))
        return Wire(output, shape, axes, dims, left.factor * right.factor)

    def softmax(self, name: str, wire: Wire) -> Wire:
        """Over the last dimension."""
        source = self.plain(name, wire)
        last = source.dims[-1]
        if last != tuple(range(len(source.axes) - len(last), len(source.axes))):
            source = self.stored(name, source, range(len(source.dims)))
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self.elementwise("SOFTMAX", name, source, options)

    def _padding(
        self, name: str, layer: nn.Conv2d, source: Wire, sides: tuple[int, int]
    ) -> tuple[int, int, tuple[int, int]]:
        """The tensor to convolve, how the operator itself pads, and the sides with all padding."""
        amounts = _amounts(layer, sides)
        (top, bottom), (left, right) = amounts
        padded = (sides[0] + top + bottom, sides[1] + left + right)
        if amounts == _same(layer, sides):
            return source.index, schema.Padding.SAME, padded
        if not any((top, bottom, left, right)):
            return source.index, schema.Padding.VALID, padded
        output = self.file.computed(f"{name}/padded", (*padded, layer.in_channels))
        pairs = self.file.numbers([[0, 0], [top, bottom], [left, right], [0, 0]])
        self.file.operator("PAD", [source.index, pairs], output, schema.PadOptionsT())
        return output, schema.Padding.VALID, padded

    def _bias_tensor(self, name: str, bias: Array) -> int:
        return self.file.constant(f"{name}/bias", bias.astype(np.float32))


def _checked(name: str, layer: nn.Conv2d) -> bool:
    """Whether the convolution is depthwise."""
    if layer.dilation != (1, 1) or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ExportError(f"layer {name} is dilated or padded in a way LiteRT export does not write: export to onnx")
    if layer.groups not in (1, layer.in_channels):
        raise ExportError(f"layer {name} has {layer.groups} groups, which is not depthwise: export to onnx")
    return layer.groups > 1


def _amounts(layer: nn.Conv2d, sides: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    if isinstance(layer, SameConv2d):
        return _same(layer, sides)
    assert not isinstance(layer.padding, str)
    return (layer.padding[0],) * 2, (layer.padding[1],) * 2


def _same(layer: nn.Conv2d, sides: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    return (
        same_padding(sides[0], layer.kernel_size[0], layer.stride[0]),
        same_padding(sides[1], layer.kernel_size[1], layer.stride[1]),
    )


def _inside(activation: nn.Module | None) -> tuple[int, float, float]:
    """The operator's own activation, what to add before it, and what is left to multiply with after it."""
    if isinstance(activation, nn.Hardsigmoid):
        return _FUSED.RELU6, HARD_SIGMOID_SHIFT, HARD_SIGMOID_FACTOR
    if isinstance(activation, nn.ReLU6):
        return _FUSED.RELU6, 0.0, 1.0
    return (_FUSED.RELU if isinstance(activation, nn.ReLU) else _FUSED.NONE), 0.0, 1.0


def _bias(layer: nn.Conv2d | nn.Linear, outputs: int) -> Array:
    if layer.bias is None:
        return np.zeros(outputs)
    return np.asarray(layer.bias.detach().double().cpu().numpy())
