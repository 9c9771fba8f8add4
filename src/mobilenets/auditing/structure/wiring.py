"""A graph prepared for folding: who reads whom, and the points every path between two nodes passes through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from mobilenets.auditing.graph.nodes import Node


@dataclass(frozen=True)
class DropoutPlace:
    """A dropout taken out of the graph: its rate, the node it read, and where the user finds it."""

    rate: float
    whole: bool
    source: str
    path: str


@dataclass(frozen=True)
class Wiring:
    """What is left of a graph after simplifying: nodes in order of execution, of which each matters.

    Attributes:
        nodes: by name, in order of execution; all lead to `output`.
        input: name of the input, which no node has.
        input_shape: `[B, C, H, W]`.
        output: name of the node with the answer.
        dropouts: in order; no longer among the nodes.
        dead: nodes that do not lead to the output.
    """

    nodes: dict[str, Node]
    input: str
    input_shape: tuple[int, ...]
    output: str
    dropouts: tuple[DropoutPlace, ...] = ()
    dead: tuple[Node, ...] = ()

    @cached_property
    def position(self) -> dict[str, int]:
        """The place of each node in the order of execution; the input is before all."""
        return {self.input: -1, **{name: place for place, name in enumerate(self.nodes)}}

    @cached_property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """The nodes that read each node (or the input), once each, in order."""
        return readers_of(self.nodes.values())

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a node's output, or of the input."""
        return self.input_shape if name == self.input else self.nodes[name].shape

    def between(self, source: str, sink: str) -> tuple[str, ...]:
        """The nodes on any path from `source` to `sink`, in order, with both; empty when there is no path."""
        start = self.position[source]
        back: set[str] = set()
        queue = [sink]
        while queue:
            name = queue.pop()
            if name in back or self.position.get(name, -2) < start:
                continue
            back.add(name)
            if name != source:
                queue.extend(self.nodes[name].inputs if name in self.nodes else ())
        if source not in back:
            return ()
        reached = {source}
        for name in sorted(back - {source}, key=self.position.__getitem__):
            if any(read in reached for read in self.nodes[name].inputs):
                reached.add(name)
        return tuple(sorted(reached, key=self.position.__getitem__))

    def waypoints(self, members: Sequence[str]) -> tuple[str, ...]:
        """Those of `members` (as `between` gives them) that every path from the first to the last passes through."""
        place = {name: index for index, name in enumerate(members)}
        passed = 0  # the furthest member that an edge from an earlier one reaches
        points = []
        for index, name in enumerate(members):
            if passed <= index:
                points.append(name)
            reached = (place[reader] for reader in self.readers.get(name, ()) if reader in place)
            passed = max(passed, *reached, index + 1)
        return tuple(points)


def readers_of(nodes: Iterable[Node]) -> dict[str, tuple[str, ...]]:
    """The nodes that read each name, once each, in order."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        for name in dict.fromkeys(node.inputs):
            found.setdefault(name, []).append(node.name)
    return {name: tuple(names) for name, names in found.items()}
