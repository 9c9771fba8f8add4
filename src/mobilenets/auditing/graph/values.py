"""What PyTorch operators read and write while a graph is being recorded: tensors of the network, and constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from mobilenets.auditing.graph.nodes import Values

TensorFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Flowing:
    """A tensor that depends on the network's input: the node that makes it, and its shape."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Constant:
    """A tensor that does not: parameters, buffers, and all that is computed from them; `sources` names parameters.

    `eps` is the small number that was added to one of these on the way, as batch norm adds it to a variance; else 0.
    """

    value: Tensor
    sources: frozenset[str] = frozenset()
    eps: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(self.value.shape)


Recorded = Flowing | Constant
LARGEST_EPS = 0.1
"""The largest number that is taken for an eps."""


def eps_of(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float:
    """The eps in what a call computes of constants alone: the one it adds, or that of the constants it reads."""
    leaves = tree_leaves((list(args), dict(kwargs)))
    known = max((leaf.eps for leaf in leaves if isinstance(leaf, Constant)), default=0.0)
    if function._schema.name.rstrip("_") != "aten::add":
        return known
    added = [float(leaf) for leaf in leaves if isinstance(leaf, float) and 0 < leaf <= LARGEST_EPS]
    return max([known, *added])


@dataclass(frozen=True)
class Call:
    """One call of an ATen operator.

    Attributes:
        label: the operator's name without namespace, overload and the underscore of an in-place form: `conv2d`, `add`.
        function: the operator itself, to run it on values.
        arguments: by the names of its schema, defaults filled in; tensors are `Flowing` or `Constant`.
        shape: of its first output.
    """

    label: str
    function: Any
    arguments: Mapping[str, Any]
    shape: tuple[int, ...]

    @property
    def flowing(self) -> tuple[Flowing, ...]:
        """The network's tensors among the arguments, in order."""
        return tuple(leaf for leaf in tree_leaves(dict(self.arguments)) if isinstance(leaf, Flowing))

    @property
    def constants(self) -> tuple[Constant, ...]:
        """The constant tensors among the arguments, in order."""
        return tuple(leaf for leaf in tree_leaves(dict(self.arguments)) if isinstance(leaf, Constant))

    def run(self, replacements: Mapping[str, Tensor]) -> Any:
        """Run the operator on other values: `replacements` maps names of flowing tensors to tensors."""
        arguments = tree_map_only(Flowing, lambda value: replacements[value.name], dict(self.arguments))
        arguments = tree_map_only(Constant, lambda value: value.value, arguments)
        positional = [arguments[item.name] for item in self.function._schema.arguments if not item.kwarg_only]
        keywords = {item.name: arguments[item.name] for item in self.function._schema.arguments if item.kwarg_only}
        return self.function(*positional, **keywords)


def bind(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], shape: tuple[int, ...]) -> Call:
    """Name a call's arguments as the operator's schema does, whatever overload and spelling was used."""
    schema = function._schema
    arguments: dict[str, Any] = {}
    for position, item in enumerate(schema.arguments):
        if position < len(args):
            arguments[item.name] = args[position]
        elif item.name in kwargs:
            arguments[item.name] = kwargs[item.name]
        else:
            arguments[item.name] = item.default_value
    label = schema.name.split("::")[-1]
    return Call(label.rstrip("_") if not label.startswith("__") else label, function, arguments, shape)


def writes_in_place(function: Any) -> bool:
    """Whether the operator changes its first argument and returns it, as `relu_` does."""
    first = function._schema.arguments[0].alias_info if function._schema.arguments else None
    return first is not None and first.is_write


def is_view(function: Any) -> bool:
    """Whether its result shares memory with its first argument."""
    returned = function._schema.returns[0].alias_info if function._schema.returns else None
    return returned is not None and not returned.is_write


# Elementwise ATen operators as functions of one tensor, run for real: no table of activations is needed.


# PyTorch tags its elementwise operators, all but these.
_UNTAGGED = {
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "prelu",
    "_prelu_kernel",
    "relu",
    "relu6",
    "selu",
    "silu",
    "softplus",
    "softshrink",
    "hardshrink",
    "true_divide",
    "divide",
    "multiply",
    "subtract",
    "square",
    "rsub",
    "clip",
    "where",
}
# They change a tensor's type or place in memory, not its values.
_LAYOUT = {"to", "_to_copy", "clone", "contiguous", "copy", "detach", "alias", "float", "half", "type_as"}
_PRELU = {"prelu", "_prelu_kernel"}


def is_elementwise(call: Call) -> bool:
    """Whether each value of the result depends on the values at the same place only."""
    if call.label in _LAYOUT:
        return False
    return torch.Tag.pointwise in call.function.tags or call.label in _UNTAGGED


def elementwise(
    call: Call, functions: Mapping[str, tuple[Flowing, TensorFunction]]
) -> tuple[Flowing, TensorFunction] | None:
    """The tensor an elementwise call is a function of, and the function.

    Args:
        call: an elementwise operator.
        functions: earlier pointwise nodes: what each is a function of, and which.

    Returns:
        For one tensor of the network: that tensor. For several: the one they are all functions of; sums and products
        are left alone, since a shortcut and a gate look the same. None when constants differ from place to place, or
        when there is no such tensor.
    """
    if call.label not in _PRELU:
        filled = partial(_one_value, shape=call.shape)
        call = replace(call, arguments=tree_map_only(Constant, filled, dict(call.arguments)))
        if any(constant.value.numel() != 1 for constant in call.constants):
            return None
    names = {value.name: value for value in call.flowing}
    if len(names) == 1 and len(call.flowing) == 1:
        source = next(iter(names.values()))
        return source, lambda x: _run(call, {source.name: x})
    if call.label in {"add", "mul", "multiply"}:
        return None
    traced = {name: functions.get(name, (value, _identity)) for name, value in names.items()}
    # `where(x > 0, x, 0.1 * x)`: x itself stands beside functions of it.
    roots = {traced[name][0].name: traced[name][0] for name in traced}
    for root in (*roots.values(), *names.values()):
        chain = {name: _function_of(root, value, functions) for name, value in names.items()}
        if all(function is not None for function in chain.values()):
            steps = {name: function for name, function in chain.items() if function is not None}
            return root, lambda x, steps=steps: _run(call, {name: step(x) for name, step in steps.items()})
    return None


def as_values(function: TensorFunction) -> Callable[[Values], Values]:
    """The same function on NumPy values in float64."""

    def on_values(values: Values) -> Values:
        with torch.no_grad():
            result = function(torch.tensor(values, dtype=torch.float64))
        return result.to(torch.float64).numpy()

    return on_values


def _function_of(
    root: Flowing, value: Flowing, functions: Mapping[str, tuple[Flowing, TensorFunction]]
) -> TensorFunction | None:
    if value.name == root.name:
        return _identity
    if value.name not in functions:
        return None
    source, last = functions[value.name]
    before = _function_of(root, source, functions)
    return None if before is None else lambda x: last(before(x))


def _one_value(constant: Constant, shape: tuple[int, ...]) -> Constant:
    """A whole map of equal values, such as `zeros_like(x)`, as that value: it then fits a tensor of any shape.

    Parameters and vectors of channels stay: they are equal only until they are trained.
    """
    values = constant.value
    if constant.sources or constant.shape != shape or values.numel() < 2:
        return constant
    first = values.flatten()[0]
    return Constant(first) if bool((values == first).all()) else constant


def _identity(x: Tensor) -> Tensor:
    return x


def _run(call: Call, replacements: Mapping[str, Tensor]) -> Tensor:
    if call.label in _PRELU:
        # A slope per channel; the mean slope stands for all of them.
        slope = call.constants[0].value.mean().to(torch.float64)
        (x,) = replacements.values()
        return torch.where(x > 0, x, slope * x)
    # In-place forms must not change the caller's grid.
    result = call.run({name: tensor.clone() for name, tensor in replacements.items()})
    assert isinstance(result, Tensor)
    return result
