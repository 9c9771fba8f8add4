"""What a bug is: a named edit of a recipe or a plan, with the rule that has to find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .plan import Block, Conv, Plan, Recipe, edit_blocks, edit_layers

V1, V2, LARGE, SMALL = "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"
V3 = (LARGE, SMALL)
BOTTLENECKS = (V2, *V3)
ALL = (V1, V2, *V3)


@dataclass(frozen=True)
class Bug:
    """A mistake.

    `rules`: names of findings that recognize it, the first the best. `families`: where it can be made. `touches`: what
    it works on. `fusible`: it can still be seen when batch norms are folded. `widths`: only these, where it shows.
    `also`: findings that correctly come with it, counted neither for nor against.
    """

    name: str
    rules: tuple[str, ...]
    families: tuple[str, ...]
    touches: tuple[str, ...]
    recipe: Callable[[Recipe], Recipe] | None = None
    plan: Callable[[Plan], Plan] | None = None
    fusible: bool = True
    widths: tuple[float, ...] = ()
    small: bool | None = None
    note: bool = False
    also: tuple[str, ...] = ()


def layers_where(change: Callable[[Conv], Conv], wanted: Callable[[Conv, Block], bool]) -> Callable[[Plan], Plan]:
    return lambda plan: edit_layers(plan, lambda layer, block: change(layer) if wanted(layer, block) else layer)


def blocks_where(change: Callable[[Block], Block], wanted: Callable[[Block], bool]) -> Callable[[Plan], Plan]:
    return lambda plan: edit_blocks(plan, lambda block: change(block) if wanted(block) else block)


def every(change: Callable[[Conv], Conv]) -> Callable[[Plan], Plan]:
    return layers_where(change, lambda layer, block: True)


def spatial(layer: Conv, block: Block) -> bool:
    """A block's filter, depthwise as it should be or not."""
    return block.role == "block" and layer.kernel > 1


def linear(layer: Conv, block: Block) -> bool:
    return block.role == "block" and layer.act == "none"
