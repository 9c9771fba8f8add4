"""One node of an ONNX file with what is known of its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto, helper

from mobilenets.auditing.graph.nodes import ChannelScale, Operator

# Which inputs of an operator are weights; of any other, none.
_WEIGHTS: dict[str, slice] = {
    "Conv": slice(1, 3),
    "Gemm": slice(1, 3),
    "BatchNormalization": slice(1, 3),
    "LayerNormalization": slice(1, 3),
    "GroupNormalization": slice(1, 3),
    "InstanceNormalization": slice(1, 3),
    "PRelu": slice(1, 2),
    "MatMul": slice(0, 2),
    "Einsum": slice(0, None),
    "ConvInteger": slice(1, 2),
    "MatMulInteger": slice(1, 2),
}


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """An attribute's value, or `default`."""
    for item in node.attribute:
        if item.name == name:
            value = helper.get_attribute_value(item)
            return value.decode() if isinstance(value, bytes) else value
    return default


@dataclass(frozen=True)
class OnnxCall:
    """One node with what is known of its values.

    Attributes:
        node: as the file has it.
        flowing: its inputs that depend on the images, by name.
        constants: the others, by name and value.
        shapes: of the flowing inputs and of the outputs, as the file has them.
        nhwc: its first flowing input has channels last.
        opset: version of the file's standard operators; `Clip` had attributes before it had inputs.
        before_stem: no convolution came yet, so a scale per channel prepares the images.
    """

    node: NodeProto
    flowing: tuple[str, ...]
    constants: Mapping[str, NDArray[Any]]
    shapes: Mapping[str, tuple[int, ...]]
    nhwc: bool
    opset: int
    before_stem: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first flowing input."""
        return self.shapes[self.flowing[0]]

    def constant(self, position: int) -> NDArray[Any] | None:
        """The value of the input at a position; None when it is absent or flows."""
        name = self.node.input[position] if position < len(self.node.input) else ""
        return self.constants.get(name)

    def integers(self, position: int, name: str, default: Sequence[int] = ()) -> list[int]:
        """A list that older operator sets have as attribute and newer ones as input."""
        value = self.constant(position)
        return [int(item) for item in (attribute(self.node, name, default) if value is None else value.ravel())]

    def weight_inputs(self, operator: Operator) -> list[str]:
        """Names of the inputs that are parameters."""
        if self.node.op_type == "QLinearConv":
            names = [self.node.input[3], *self.node.input[8:9]]
        elif isinstance(operator, ChannelScale):
            names = list(self.constants)
        else:
            names = list(self.node.input[_WEIGHTS.get(self.node.op_type, slice(0, 0))])
        return [name for name in names if name in self.constants]
