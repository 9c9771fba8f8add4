"""Known bugs in generated networks: a quick share of what `benchmarks/audit_mutants.py` measures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from mutants.bugs import BUGS
from mutants.generate import Mutant, mutants, singles
from mutants.plan import FAMILIES, WIDTHS, plan, recipe
from mutants.styles import STYLES, Style, build

from mobilenets.auditing.count import count
from mobilenets.models.registry import create_model
from mobilenets.workflows.audit import audit

QUICK = (
    "expansion kept at t=1",
    "stride shifted",
    "head scaled down",
    "no 10 % rule",
    "one shortcut missing",
    "bottleneck not linear",
    "SE before the activation",
    "bias beside norm",
)
"""Bugs audited here, each in one family; the benchmark has them all."""


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("style", "size", "small"), [(STYLES[0], 224, False), (STYLES[1], 32, True), (STYLES[2], 160, False)]
)
def test_the_correct_form_is_the_published_network(family: str, style: Style, size: int, small: bool) -> None:
    width = WIDTHS[family][0]
    own = count(create_model(family, width_mult=width, image_size=size, num_classes=10))
    network = build(plan(recipe(family, width=width, classes=10, size=size, small=small)), style)
    found = count(network, (1, 3, size, size))
    assert (found.parameters, found.macs) == (own.parameters, own.macs)


def test_every_bug_changes_its_network_alone_and_among_others() -> None:
    for mutant in mutants(400, seed=1):
        for bug in mutant.bugs:
            rest = replace(mutant, bugs=tuple(other for other in mutant.bugs if other is not bug)).plan()
            whole = mutant.plan()
            # The small form with the table's strides differs from the paper's in its image size alone.
            same_layers = replace(rest, recipe=whole.recipe) == whole
            assert same_layers == (bug.name == "1x1 last map" and rest.blocks == whole.blocks), mutant.name


def test_the_same_seed_gives_the_same_mutants() -> None:
    assert [mutant.name for mutant in mutants(30, seed=3)] == [mutant.name for mutant in mutants(30, seed=3)]


def test_bug_names_are_told_apart_by_family() -> None:
    keys = [(bug.name, family) for bug in BUGS for family in bug.families]
    assert len(keys) == len(set(keys))


def _quick() -> list[Mutant]:
    first: dict[str, Mutant] = {}
    for mutant in singles(seed=2):
        first.setdefault(mutant.bugs[0].name, mutant)
    return [first[name] for name in QUICK]


@pytest.mark.slow
@pytest.mark.parametrize("mutant", _quick(), ids=lambda mutant: mutant.bugs[0].name)
def test_the_bug_is_found_and_nothing_else(mutant: Mutant) -> None:
    answer = audit(mutant.build(), image_size=mutant.size)
    (bug,) = mutant.bugs
    assert {finding.diagnostic.rule for finding in answer.findings} & set(bug.rules)
    assert {finding.diagnostic.rule for finding in answer.errors} <= {*bug.rules, *bug.also}
    assert (answer.unexplained_parameters, answer.unexplained_macs) == (0, 0)
