"""Mutants: a correct MobileNet, one to three bugs, a code style. The same seed gives the same mutants."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import nn

from .bug import Bug
from .bugs import BUGS
from .plan import FAMILIES, WIDTHS, Plan, plan, recipe
from .styles import STYLES, Style, build

SIZES, CLASSES = (224, 160, 128), (1000, 10, 100)


@dataclass(frozen=True)
class Mutant:
    """One faulty network, or a correct one when there are no bugs; `build()` makes it."""

    family: str
    width: float
    classes: int
    size: int
    small: bool
    style: Style
    bugs: tuple[Bug, ...]
    seed: int

    @property
    def name(self) -> str:
        bugs = " + ".join(bug.name for bug in self.bugs) or "correct"
        return f"{self.family} {self.width:g}, {self.size} px, {self.classes} classes, {self.style.name}: {bugs}"

    def plan(self) -> Plan:
        """Its layers, the bugs among them."""
        choices = recipe(self.family, width=self.width, classes=self.classes, size=self.size, small=self.small)
        for bug in self.bugs:
            choices = bug.recipe(choices) if bug.recipe else choices
        layers = plan(choices)
        for bug in self.bugs:
            layers = bug.plan(layers) if bug.plan else layers
        return layers

    def build(self) -> nn.Module:
        """The module, as its author would hand it over."""
        return build(self.plan(), self.style, seed=self.seed)


def mutants(count: int, *, seed: int = 0) -> Iterator[Mutant]:
    """`count` mutants: each bug in each of its families, then again in other styles; a third of them with several."""
    chance = random.Random(seed)
    pairs = [(bug, family) for bug in BUGS for family in bug.families]
    made = 0
    while made < count:
        chance.shuffle(pairs)
        for bug, family in pairs[: count - made]:
            others = _others(bug, family, chance) if chance.random() < 1 / 3 else ()
            yield _mutant(family, (bug, *others), chance)
            made += 1


def singles(*, seed: int = 0) -> Iterator[Mutant]:
    """Every bug once in each of its families."""
    chance = random.Random(seed)
    for bug in BUGS:
        for family in bug.families:
            yield _mutant(family, (bug,), chance)


def correct(*, seed: int = 0) -> Iterator[Mutant]:
    """Every family, width and style without a bug."""
    chance = random.Random(seed)
    for family in FAMILIES:
        for index, style in enumerate(STYLES):
            widths = WIDTHS[family]
            network = _mutant(family, (), chance)
            yield replace(network, style=style, width=widths[index % len(widths)])


def _mutant(family: str, bugs: Sequence[Bug], chance: random.Random) -> Mutant:
    fusible = all(bug.fusible for bug in bugs)
    style = chance.choice([style for style in STYLES if fusible or not style.fused])
    widths = [width for width in WIDTHS[family] if all(not bug.widths or width in bug.widths for bug in bugs)]
    wishes = [bug.small for bug in bugs if bug.small is not None]
    small = wishes[0] if wishes else chance.random() < 0.2
    size = 32 if small else chance.choice(SIZES)
    return Mutant(
        family, chance.choice(widths), chance.choice(CLASSES), size, small, style, tuple(bugs), chance.getrandbits(32)
    )


def _others(bug: Bug, family: str, chance: random.Random) -> tuple[Bug, ...]:
    """One or two more that work on other things and can stand in the same network."""
    chosen, wanted = [bug], chance.choice((2, 3))
    for other in chance.sample(BUGS, len(BUGS)):
        if len(chosen) == wanted:
            break
        if family in other.families and all(_together(one, other, family) for one in chosen):
            chosen.append(other)
    return tuple(chosen[1:])


def _together(one: Bug, other: Bug, family: str) -> bool:
    if set(one.touches) & set(other.touches) or (None not in (one.small, other.small) and one.small is not other.small):
        return False
    return any(
        (not one.widths or width in one.widths) and (not other.widths or width in other.widths)
        for width in WIDTHS[family]
    )
