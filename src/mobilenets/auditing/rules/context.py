"""What the rules look at and report: the comparison, what earlier rules left of it, diagnostics and findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from mobilenets.auditing.graph.nodes import Behaviour
from mobilenets.auditing.structure.cost import chain_cost
from mobilenets.auditing.structure.differences import AlignedSlot, NetworkComparison, NetworkDifference
from mobilenets.auditing.structure.layers import Chain, ChainLayer, Grouping, Reference, TablePlace

FILES = ("ONNX", "TensorFlow Lite")
"""Front ends that read a file: shapes are fixed there and batch norms often folded, which is no fault."""


class Severity(StrEnum):
    """An error makes the network another one than published; a note is a legitimate variant, or a thing to know."""

    ERROR = "error"
    NOTE = "note"


@dataclass(frozen=True)
class Diagnostic:
    """What a rule recognizes: the differences it explains, and how to say it. The auditor adds the cost.

    Attributes:
        rule: short stable name, e.g. `expansion-kept`.
        severity: error or note.
        where: the user's own paths, one or several.
        expected, found: for people, short.
        source: paper and table, or the code that set the convention.
        effect: what it changes beside parameters and multiply-adds, with a source when it has a figure; may be empty.
        fix: what to do.
        differences: those it explains; each belongs to one diagnostic, of the first rule that explains it.
    """

    rule: str
    severity: Severity
    where: tuple[str, ...]
    expected: str
    found: str
    source: str
    effect: str
    fix: str
    differences: tuple[NetworkDifference, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A diagnostic with its cost: how many parameters and multiply-adds the found network has more because of it."""

    diagnostic: Diagnostic
    parameters: int
    macs: int
    detail: str = ""
    """How the parameters come about, e.g. `32x32 weights + 64 of batch norm`."""


@dataclass(frozen=True)
class Item:
    """A difference with the layers it is about; `place` is None for an extra layer and for the network's own."""

    difference: NetworkDifference
    slot: AlignedSlot | None
    place: TablePlace | None

    @property
    def expected(self) -> ChainLayer:
        """The published layer; only for slots that have one."""
        assert self.slot is not None
        assert self.slot.expected is not None
        return self.slot.expected

    @property
    def found(self) -> ChainLayer:
        """The network's layer; only for slots that have one."""
        assert self.slot is not None
        assert self.slot.found is not None
        return self.slot.found

    @property
    def both(self) -> bool:
        """The slot has a published and a found layer."""
        return self.slot is not None and self.slot.expected is not None and self.slot.found is not None

    @property
    def part(self) -> str:
        """The place's part, empty where there is none."""
        return self.place.part if self.place else ""

    @property
    def block(self) -> int:
        """The place's block, 0 where there is none."""
        return self.place.block if self.place else 0

    @property
    def path(self) -> str:
        """Where the user finds it; of a missing layer, a description of the place."""
        layer = self.slot.found if self.slot else None
        if layer is None:
            return self.label
        return _part_path(layer, self.difference.attribute) or layer.path or self.label

    @property
    def label(self) -> str:
        """The published place in words: `block 3, expand`."""
        if self.place is None:
            return "the network"
        return f"block {self.place.block}, {self.place.part}" if self.place.block else self.place.part


@dataclass(frozen=True)
class RuleContext:
    """What a check reads: the comparison, and the differences that are left.

    Attributes:
        comparison: found beside published.
        behaviour: what probing showed; None where nothing was run.
        front_end: what read the network, as `Graph.front_end`.
        unused: paths and sizes of parameters no operator reads.
        open: the differences that no rule has explained yet.
    """

    comparison: NetworkComparison
    behaviour: Behaviour | None
    front_end: str
    unused: tuple[tuple[str, int], ...]
    open: tuple[NetworkDifference, ...]

    @property
    def reference(self) -> Reference:
        """The published network."""
        return self.comparison.reference

    @property
    def found(self) -> Chain:
        """The network."""
        return self.comparison.found

    @property
    def is_file(self) -> bool:
        """It was read from a file rather than from a module."""
        return self.front_end in FILES

    def without(self, diagnostics: Iterable[Diagnostic]) -> RuleContext:
        """The context with the differences of these diagnostics closed."""
        closed = {id(difference) for diagnostic in diagnostics for difference in diagnostic.differences}
        return replace(self, open=tuple(one for one in self.open if id(one) not in closed))

    @cached_property
    def slots(self) -> dict[int, AlignedSlot]:
        """The slots by their index."""
        return {slot.index: slot for slot in self.comparison.slots}

    def item(self, difference: NetworkDifference) -> Item:
        """The difference with its slot and place."""
        slot = self.slots[difference.slot] if difference.slot is not None else None
        return Item(difference, slot, self.place(slot))

    def place(self, slot: AlignedSlot | None) -> TablePlace | None:
        """The place of a slot's published layer."""
        if slot is None or slot.reference_index is None:
            return None
        return self.reference.places[slot.reference_index]

    def has(self, attributes: Sequence[str]) -> bool:
        """Whether there is something to report on: an open difference in one of these attributes; `*` stands for any.

        `behaviour` stands for what probing showed, `unused` for unused parameters.
        """
        if "behaviour" in attributes and self.behaviour not in (None, Behaviour()):
            return True
        if "unused" in attributes and self.unused:
            return True
        return any(one.attribute in attributes or "*" in attributes for one in self.open)

    def items(self, *attributes: str) -> list[Item]:
        """Open differences of slots in these attributes, in order; `shortcut.` stands for all that begin so."""
        return [
            self.item(one)
            for one in self.open
            if one.slot is not None
            and any(
                one.attribute == name or (name[-1] == "." and one.attribute.startswith(name)) for name in attributes
            )
        ]

    def own(self, *attributes: str) -> list[Item]:
        """Open differences of the network itself in these attributes."""
        return [self.item(one) for one in self.open if one.slot is None and one.attribute.split(".")[0] in attributes]

    @cached_property
    def blocks(self) -> dict[int, list[AlignedSlot]]:
        """The slots of each published block that have a published layer, by the block's number."""
        members: dict[int, list[AlignedSlot]] = {}
        for slot in self.comparison.slots:
            place = self.place(slot)
            if place is not None and place.block:
                members.setdefault(place.block, []).append(slot)
        return members

    @cached_property
    def found_inputs(self) -> list[int]:
        """Channels that enter each found layer, by its index in the found chain."""
        entering, channels = [], self.found.in_channels
        for layer in self.found.layers:
            channels = channels if layer.enters is None else layer.enters[0]
            entering.append(channels)
            channels = leaving(layer, channels)
        return entering

    @cached_property
    def found_sizes(self) -> list[int]:
        """Side in pixels of the map that enters each found layer, by its index in the found chain."""
        return [layer.in_size for layer in chain_cost(self.found).layers]

    def block_input(self, block: int) -> int | None:
        """Channels that enter a block in the found network; None where it is missing."""
        first = self._ends(block)[0]
        return None if first is None else self.found_inputs[first]

    def block_output(self, block: int) -> int | None:
        """Channels that leave a block in the found network; None where it is missing."""
        last = self._ends(block)[1]
        return None if last is None else leaving(self.found.layers[last], self.found_inputs[last])

    def block_stride(self, block: int) -> int:
        """Product of the strides of a block in the found network, layers the paper has not included."""
        first, last = self._ends(block)
        stride = 1
        if first is not None and last is not None:
            for layer in self.found.layers[first : last + 1]:
                stride *= layer.stride
        return stride

    def _ends(self, block: int) -> tuple[int | None, int | None]:
        """Indices in the found chain of a block's first and last layer."""
        indices = [slot.found_index for slot in self.blocks.get(block, ()) if slot.found_index is not None]
        if not indices:
            return None, None
        return min(indices), max(indices)

    def hidden(self, slot: AlignedSlot) -> int:
        """Channels that leave a found layer, depthwise ones included."""
        assert slot.found is not None
        assert slot.found_index is not None
        return leaving(slot.found, self.found_inputs[slot.found_index])


def _part_path(layer: ChainLayer, attribute: str) -> str:
    """Path of what hangs on the layer and the attribute belongs to; empty when it is the layer itself, or not there."""
    if attribute in ("norms", "eps", "momentum") and layer.norms:
        return layer.norms[-1].path
    if attribute.startswith("squeeze") and layer.squeeze is not None:
        return layer.squeeze.path
    if attribute.startswith("shortcut") and layer.shortcut is not None:
        return layer.shortcut.path
    return ""


def leaving(layer: ChainLayer, entering: int) -> int:
    """Channels that leave a layer which `entering` channels enter."""
    return entering * layer.multiplier if layer.grouping is Grouping.DEPTHWISE else layer.out_channels
