"""What PyTorch operators read and write while a graph is being recorded: tensors of the network, and constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

TensorFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Flowing:
    """A tensor that depends on the network's input: the node that makes it, and its shape."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Constant:
    """A tensor that does not: parameters, buffers, and all that is computed from them; `sources` names parameters."""

    value: Tensor
    sources: frozenset[str] = frozenset()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(self.value.shape)


Recorded = Flowing | Constant


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
