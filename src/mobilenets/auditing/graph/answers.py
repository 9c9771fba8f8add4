"""Which of a network's outputs is its answer, in whatever container and at whatever position it is returned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from mobilenets.auditing.graph.nodes import Conv, Linear, Node

_DEEPEST = 8
"""Containers within containers that are looked into: an output that holds itself must end."""


def tensors_of(outputs: Any, depth: int = _DEEPEST) -> Iterator[Tensor]:
    """The tensors in what `forward` returns, in order: of tuples, dictionaries, dataclasses and other records."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif depth:
        for part in _parts(outputs):
            yield from tensors_of(part, depth - 1)


def _parts(outputs: Any) -> Sequence[Any]:
    if isinstance(outputs, Mapping):
        return list(outputs.values())
    if isinstance(outputs, list | tuple | set):
        return list(outputs)
    if is_dataclass(outputs) and not isinstance(outputs, type):
        return [getattr(outputs, field.name) for field in fields(outputs)]
    if isinstance(outputs, str | bytes | type) or callable(outputs):
        return []
    return list(getattr(outputs, "__dict__", {}).values())


def place_of_answer(outputs: Sequence[tuple[str, tuple[int, ...]]], nodes: Sequence[Node]) -> int:
    """Which of several outputs is the answer: among vectors, else among maps, the one most layers lead to.

    A classifier's logits lie behind its features and an auxiliary head leaves before the last layers, wherever either
    stands among the outputs; of logits and their softmax the less processed is taken, of equals the first. A backbone's
    last map is the one most layers lead to.

    Args:
        outputs: name of the node and shape of each, at least one.
        nodes: of the graph, in order of execution.
    """
    vectors = [place for place, (_, shape) in enumerate(outputs) if _is_vector(shape)]
    maps = [place for place, (_, shape) in enumerate(outputs) if len(shape) > 1]
    candidates = vectors or maps or list(range(len(outputs)))
    if len(candidates) == 1:
        return candidates[0]
    known = {node.name: node for node in nodes}
    ranks = {place: _behind(outputs[place][0], known) for place in candidates}
    return max(candidates, key=lambda place: (ranks[place], -place))


def _is_vector(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))


def _behind(name: str, nodes: Mapping[str, Node]) -> tuple[int, int]:
    """How many layers with weights an output lies behind, and minus how many nodes."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in nodes and current not in seen:
            seen.add(current)
            waiting.extend(nodes[current].inputs)
    return sum(isinstance(nodes[one].operator, Conv | Linear) for one in seen), -len(seen)
