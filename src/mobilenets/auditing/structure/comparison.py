"""The found chain beside the published one: slots, differences, and how sure the choice is."""

from __future__ import annotations

from dataclasses import dataclass

from mobilenets.auditing.structure.layers import Chain, Layer, Reference


@dataclass(frozen=True)
class Slot:
    """A place in the aligned chains: the published layer, the found one, or both. `index` is its number."""

    index: int
    expected: Layer | None
    found: Layer | None
    reference_index: int | None
    """Index in the reference's layers and places; None for an extra layer."""
    found_index: int | None


@dataclass(frozen=True)
class Difference:
    """One attribute in which the found network differs.

    Attributes:
        slot: of which slot; None for the network's own (`pooling`, `dropout`, `final`, `in_channels`).
        attribute: a field of `Layer` (of `Chain`, when slot is None), or `layer` for a missing or an extra layer.
        expected, found: the two values.
    """

    slot: int | None
    attribute: str
    expected: object
    found: object


@dataclass(frozen=True)
class Comparison:
    """The found chain beside the published one nearest to it.

    Attributes:
        found: the network.
        reference: the published one.
        slots: both, aligned.
        differences: all of them, in order of the slots.
        certainty: 0 to 1, how sure the choice of the reference is; 1 when the user named network and width.
        runner_up: the next nearest, for people: `mobilenet_v2 width 0.75`.
        expected_by_user: the user named the network.
    """

    found: Chain
    reference: Reference
    slots: tuple[Slot, ...]
    differences: tuple[Difference, ...]
    certainty: float
    runner_up: str
    expected_by_user: bool
