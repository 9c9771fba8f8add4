"""Elementwise ATen operators as functions of one tensor, run for real: no table of activations is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from mobilenets.auditing.graph.nodes import Values
from mobilenets.auditing.graph.values import Call, Constant, Flowing, TensorFunction

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
