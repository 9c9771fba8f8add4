"""A traced network walked node by node, each handed to the writer of its layer."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from mobilenets.errors import ExportError
from mobilenets.exporters.litert.file import Wire
from mobilenets.exporters.litert.layers import LayerWriter
from mobilenets.models.mobilenet_v4_blocks import LayerScale

FUSED = (nn.ReLU, nn.ReLU6, nn.Hardsigmoid)
"""Activations the operator of the layer before them can have inside."""
UNARY: Mapping[type[nn.Module], str] = {
    nn.ReLU: "RELU",
    nn.ReLU6: "RELU6",
    nn.Sigmoid: "LOGISTIC",
}
UNCHANGED = (nn.Dropout, nn.Identity)


class GraphWalk:
    """Writes a traced network behind the wire it is given.

    Args:
        network: `[B, C, H, W]` to `[B, K]`, in evaluation mode; batch norm folded as far as it can be.
        writer: of the file to write to.
    """

    def __init__(self, network: fx.GraphModule, writer: LayerWriter) -> None:
        self._network, self._writer = network, writer
        self._known: dict[fx.Node, Any] = {}

    def write(self, source: Wire) -> Wire:
        """Write all nodes; the wire of the network's output.

        Raises:
            ExportError: a layer or function that is not known here; the message names it.
        """
        for node in self._network.graph.nodes:
            if node in self._known:
                continue  # written inside the layer before it
            if node.op == "placeholder":
                self._known[node] = source
            elif node.op == "output":
                logits = self._writer.plain("logits", self._value(node.args[0]))
                # A vector is in order already; a flattened map, the end of a network cut short, is not.
                return self._writer.stored("logits", logits, range(len(logits.dims)))
            elif node.op == "call_module":
                self._module(node)
            elif node.op in ("call_function", "call_method"):
                self._known[node] = self._function(node)
            else:
                raise ExportError(f"LiteRT export can't write {node.op} {node.target}: export to onnx")
        raise ExportError("the network's graph has no output: nothing to export")

    def _value(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda node: self._known[node])

    def _module(self, node: fx.Node) -> None:
        layer, name = self._network.get_submodule(str(node.target)), str(node.target)
        wire, writer = self._value(node.args[0]), self._writer
        if isinstance(layer, nn.Conv2d | nn.Linear):
            activation, last = self._activation_behind(node)
            if isinstance(layer, nn.Conv2d):
                self._known[node] = self._known[last] = writer.convolution(name, layer, wire, activation)
            else:
                self._known[node] = self._known[last] = writer.linear(name, layer, wire, activation)
        elif type(layer) in UNARY:
            self._known[node] = writer.unary(UNARY[type(layer)], name, wire)
        elif isinstance(layer, nn.Hardswish):
            self._known[node] = writer.hard_swish(name, wire)
        elif isinstance(layer, nn.Hardsigmoid):
            self._known[node] = writer.hard_sigmoid(name, wire)
        elif isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
            self._known[node] = writer.global_pool(name, wire)
        elif isinstance(layer, nn.Flatten):
            self._known[node] = _flatten(writer, name, wire, layer.start_dim, layer.end_dim)
        elif isinstance(layer, UNCHANGED):
            self._known[node] = wire
        elif isinstance(layer, nn.BatchNorm2d | LayerScale):
            self._known[node] = writer.affine(name, wire, *_affine(name, layer))
        else:
            raise ExportError(f"LiteRT export knows no layer {type(layer).__name__} ({name}): export to onnx")

    def _activation_behind(self, node: fx.Node) -> tuple[nn.Module | None, fx.Node]:
        """The activation that alone uses the node, with its node; the node itself where there is none."""
        (user, *others) = node.users
        if others or user.op != "call_module":
            return None, node
        layer = self._network.get_submodule(str(user.target))
        return (layer, user) if type(layer) in FUSED else (None, node)

    def _function(self, node: fx.Node) -> Any:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        arguments, options = self._value(node.args), self._value(node.kwargs)
        if node.target is getattr and isinstance(arguments[0], Wire):
            if arguments[1] == "shape":
                return (None, *arguments[0].sizes)
        elif node.target is operator.getitem and not isinstance(arguments[0], Wire):
            return arguments[0][arguments[1]]
        elif str(name) in FUNCTIONS:
            try:
                return FUNCTIONS[str(name)](self._writer, node.name, *arguments, **options)
            except (TypeError, ValueError) as error:
                raise ExportError(f"LiteRT export can't write {name} ({node.name}): {error}; export to onnx") from error
        raise ExportError(f"LiteRT export knows no function {name} ({node.name}): export to onnx")


def _affine(name: str, layer: nn.BatchNorm2d | LayerScale) -> tuple[Any, Any]:
    if isinstance(layer, LayerScale):
        gamma = layer.gamma.detach().double().cpu().numpy()
        return gamma, np.zeros_like(gamma)
    if layer.running_mean is None or layer.running_var is None:
        raise ExportError(f"batch norm {name} keeps no statistics, so its answers depend on the batch: export to onnx")
    one = torch.ones(layer.num_features, dtype=torch.float64)
    weight = one if layer.weight is None else layer.weight.detach().double().cpu()
    bias = 0 * one if layer.bias is None else layer.bias.detach().double().cpu()
    scale = weight * (layer.running_var.double().cpu() + layer.eps).rsqrt()
    return scale.numpy(), (bias - layer.running_mean.double().cpu() * scale).numpy()


def _add(writer: LayerWriter, name: str, left: Wire, right: Wire) -> Wire:
    return writer.add(name, left, right)


def _multiply(writer: LayerWriter, name: str, left: Wire | float, right: Wire | float) -> Wire:
    if isinstance(left, Wire) and isinstance(right, Wire):
        return writer.multiply(name, left, right)
    wire, number = (left, right) if isinstance(left, Wire) else (right, left)
    if not isinstance(wire, Wire) or not isinstance(number, int | float):
        raise ValueError("a factor that is not a number")
    return Wire(wire.index, wire.shape, wire.axes, wire.dims, wire.factor * number)


def _flatten(writer: LayerWriter, name: str, wire: Wire, start_dim: int = 0, end_dim: int = -1) -> Wire:
    return _scalar(writer, name, wire).flatten(_place(wire, start_dim), _place(wire, end_dim))


def _unflatten(writer: LayerWriter, name: str, wire: Wire, dim: int, sizes: tuple[int, ...]) -> Wire:
    return _scalar(writer, name, wire).unflatten(_place(wire, dim), sizes)


def _transpose(writer: LayerWriter, name: str, wire: Wire, first: int, second: int) -> Wire:
    return _scalar(writer, name, wire).transpose(_place(wire, first), _place(wire, second))


def _softmax(writer: LayerWriter, name: str, wire: Wire, dim: int) -> Wire:
    if _place(wire, dim) != len(wire.dims) - 1:
        raise ValueError("it is not over the last dimension")
    return writer.softmax(name, wire)


def _getitem(writer: LayerWriter, name: str, wire: Wire, item: Any) -> Wire:
    whole, new = item[: len(wire.dims) + 1], item[len(wire.dims) + 1 :]
    if any(part != slice(None) for part in whole) or any(part is not None for part in new):
        raise ValueError("only dimensions of size 1 can be added")
    return _scalar(writer, name, wire).append_ones(len(new))


def _matrix_product(writer: LayerWriter, name: str, left: Wire, right: Wire) -> Wire:
    return writer.matrix_product(name, left, right)


def _scalar(writer: LayerWriter, name: str, wire: Wire) -> Wire:
    """A wire whose dimensions may be moved about: a factor for each channel would lose its place."""
    return writer.plain(name, wire) if wire.factor.ndim else wire


def _place(wire: Wire, dim: int) -> int:
    """Position among the dimensions behind the batch."""
    place = dim - 1 if dim >= 0 else len(wire.dims) + dim
    if not 0 <= place < len(wire.dims):
        raise ValueError("the batch must stay as it is")
    return place


FUNCTIONS: Mapping[str, Callable[..., Wire]] = {
    "add": _add,
    "add_": _add,
    "iadd": _add,
    "mul": _multiply,
    "flatten": _flatten,
    "unflatten": _unflatten,
    "transpose": _transpose,
    "bmm": _matrix_product,
    "softmax": _softmax,
    "getitem": _getitem,
}
"""PyTorch's functions by name, those of tensors included."""
