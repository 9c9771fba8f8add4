"""From a sequence of ATen calls to a `Graph`: names, constants, in-place writes, and who reads a parameter first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mobilenets.auditing.graph.aten import translate
from mobilenets.auditing.graph.nodes import (
    Add,
    Graph,
    Node,
    Operator,
    Other,
    Pointwise,
    Reshape,
    Slice,
    merged_affine,
    without_dead,
)
from mobilenets.auditing.graph.values import (
    Call,
    Constant,
    Flowing,
    Recorded,
    TensorFunction,
    as_values,
    bind,
    elementwise,
    is_elementwise,
    is_view,
    writes_in_place,
)

INPUT = "input"
_SLICE_ASSIGNMENT = "slice assignment"
# Their result has the shape of a tensor of the network but none of its values.
_SHAPE_ONLY = {
    "empty_like",
    "zeros_like",
    "ones_like",
    "full_like",
    "rand_like",
    "randn_like",
    "new_zeros",
    "new_ones",
    "new_empty",
    "new_full",
    "new_empty_strided",
}
_PARTS = {"chunk", "split", "split_with_sizes", "tensor_split", "unbind"}


class Recorder:
    """Collects nodes while a front end hands over one ATen call after another."""

    def __init__(self, module: nn.Module, input_shape: tuple[int, int, int, int]) -> None:
        self.input = Flowing(INPUT, input_shape)
        self._shape = input_shape
        # `named_parameters` names a shared parameter once; its other names lead to the same tensor.
        self._sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
        self._names = {id(parameter): name for name, parameter in module.named_parameters()}
        self._read: set[str] = set()
        self._nodes: list[Node] = []
        self._taken = {INPUT}
        self._newest: dict[str, Flowing] = {}
        self._view_of: dict[str, Flowing] = {}
        self._functions: dict[str, tuple[Flowing, TensorFunction]] = {}

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes so far, dead ones too."""
        return tuple(self._nodes)

    def constant(self, tensor: Tensor) -> Constant:
        """A parameter or a buffer of the module, or a tensor from elsewhere."""
        name = self._names.get(id(tensor))
        return Constant(tensor.detach(), frozenset() if name is None else frozenset({name}))

    def newest(self, value: Recorded) -> Recorded:
        """What a tensor holds now, after in-place writes."""
        while isinstance(value, Flowing) and value.name in self._newest:
            value = self._newest[value.name]
        return value

    def call(
        self,
        function: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        shapes: Sequence[tuple[int, ...]],
        path: str,
    ) -> list[Recorded] | None:
        """Record one call whose arguments hold `Flowing` and `Constant` in place of tensors.

        Returns:
            What its outputs are, one for each of `shapes`. None for a constant: nothing of the network went in, and
            the front end knows the values.
        """
        call = bind(function, [self._resolved(item) for item in args], self._resolved(dict(kwargs)), shapes[0])
        if not call.flowing or call.label in _SHAPE_ONLY:
            return None
        if call.label == "copy" and self._writes_back(call):
            return [self._written_back(call)]
        if call.label == "add" and len(call.flowing) == 2 and call.arguments.get("alpha", 1) != 1:
            return [self._weighted_sum(call, path)]
        if len(shapes) > 1 and call.label in _PARTS:
            return [self._add(call, Slice((1,) * len(shape)), shape, path) for shape in shapes]
        result = self._elementwise(call, path) if is_elementwise(call) else None
        if result is None:
            result = self._add(call, translate(call), shapes[0], path)
        self._alias(call, result, path)
        return [result, *[Flowing(result.name, shape) for shape in shapes[1:]]]

    def add(
        self, operator: Operator, inputs: tuple[Flowing, ...], shape: tuple[int, ...], path: str, hint: str
    ) -> Flowing:
        """Append a node that is no ATen call, and reads no parameters."""
        resolved = tuple(self.newest(value) for value in inputs)
        names = tuple(value.name for value in resolved if isinstance(value, Flowing))
        return self._append(Node(self._free_name(hint), operator, names, shape, path, 0))

    def overwrite(self, old: Flowing, new: Flowing) -> None:
        """From now on, whoever reads `old` reads `new`."""
        if old.name != new.name:
            self._newest[old.name] = new

    def graph(self, output: Recorded, front_end: str, notes: tuple[str, ...] = ()) -> Graph:
        """All that was recorded; `output` is the network's answer."""
        answer = self.newest(output)
        name = answer.name if isinstance(answer, Flowing) else INPUT
        nodes = merged_affine(without_dead(tuple(self._nodes), name), name)
        return Graph(
            nodes=nodes,
            input=INPUT,
            input_shape=self._shape,
            output=name if any(node.name == name for node in nodes) else (nodes[-1].name if nodes else INPUT),
            parameters=sum(self._sizes.values()),
            unused=tuple((name, size) for name, size in self._sizes.items() if name not in self._read),
            front_end=front_end,
            notes=notes,
        )

    def sources(self, tree: Any) -> frozenset[str]:
        """The parameters that constants among `tree` come from."""
        leaves = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Constant)]
        return frozenset().union(*(leaf.sources for leaf in leaves))

    def _resolved(self, tree: Any) -> Any:
        if isinstance(tree, (Flowing, Constant)):
            return self.newest(tree)
        if isinstance(tree, (list, tuple)):
            return [self._resolved(item) for item in tree]
        if isinstance(tree, dict):
            return {key: self._resolved(item) for key, item in tree.items()}
        return tree

    def _elementwise(self, call: Call, path: str) -> Flowing | None:
        """A function of one tensor; of several only if all of them are functions of one, as in `where(x > 0, x, 0)`."""
        found = elementwise(call, self._functions)
        if found is None:
            return None
        source, function = found
        node = self._add(call, Pointwise(call.label, as_values(function)), call.shape, path, (source.name,))
        self._functions[node.name] = (source, function)
        return node

    def _weighted_sum(self, call: Call, path: str) -> Flowing:
        """`add(x, y, alpha=a)` is x + a y: a factor, then a plain sum."""
        first, second = call.flowing
        alpha = call.arguments["alpha"]
        scale = Pointwise("mul", lambda values: values * float(alpha))
        scaled = self.add(scale, (second,), second.shape, path, "mul")
        return self.add(Add(), (first, scaled), call.shape, path, "add")

    def _add(
        self,
        call: Call,
        operator: Operator,
        shape: tuple[int, ...],
        path: str,
        inputs: tuple[str, ...] | None = None,
    ) -> Flowing:
        sources = self.sources(list(call.constants))
        new = sources - self._read
        self._read |= new
        # Functional code has no module to name: then its weight is where the user finds it.
        path = path or max(sorted(sources), key=self._sizes.__getitem__, default="")
        names = tuple(value.name for value in call.flowing) if inputs is None else inputs
        parameters = sum(self._sizes[name] for name in new)
        return self._append(Node(self._free_name(call.label), operator, names, shape, path, parameters))

    def _append(self, node: Node) -> Flowing:
        self._nodes.append(node)
        return Flowing(node.name, node.shape)

    def _free_name(self, hint: str) -> str:
        name, count = hint, 0
        while name in self._taken:
            count += 1
            name = f"{hint}_{count}"
        self._taken.add(name)
        return name

    def _alias(self, call: Call, result: Flowing, path: str) -> None:
        """An in-place write changes what the tensor's other names hold; a view remembers whose it is."""
        first = next(iter(call.arguments.values()))
        if not isinstance(first, Flowing):
            return
        if is_view(call.function):
            self._view_of[result.name] = first
        elif writes_in_place(call.function):
            self.overwrite(first, result)
            base = self._view_of.get(first.name)
            if base is not None:
                self._view_of[result.name] = base
                self._write_base(base, result, path)

    def _write_base(self, base: Flowing, written: Flowing, path: str) -> None:
        current = self.newest(base)
        if not isinstance(current, Flowing):
            return
        whole = _numel(base.shape) == _numel(written.shape)
        operator: Operator = Reshape() if whole else Other(_SLICE_ASSIGNMENT)
        inputs = (written,) if whole else (current, written)
        self.overwrite(current, self.add(operator, inputs, base.shape, path, "written"))

    def _writes_back(self, call: Call) -> bool:
        """`y[:, :c] += x` writes the sum into a view, and Python then assigns that view to itself."""
        target, source = call.arguments["self"], call.arguments["src"]
        base = self._view_of.get(target.name) if isinstance(target, Flowing) else None
        node = next((node for node in self._nodes if base is not None and node.name == base.name), None)
        return (
            node is not None
            and node.operator == Other(_SLICE_ASSIGNMENT)
            and isinstance(source, Flowing)
            and node.inputs[1] == source.name
            and source.shape == target.shape
        )

    def _written_back(self, call: Call) -> Flowing:
        source = call.arguments["src"]
        assert isinstance(source, Flowing)
        return source


def _numel(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
