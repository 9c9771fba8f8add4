"""Faulty chains, made by editing a published one, and what the rules say of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from mobilenets.auditing.graph.nodes import Behaviour
from mobilenets.auditing.rules.context import Finding, Severity
from mobilenets.auditing.rules.findings import account, apply_rules
from mobilenets.auditing.structure.cost import chain_cost
from mobilenets.auditing.structure.layers import Chain, ChainLayer, TablePlace
from mobilenets.auditing.structure.nearest import compare
from mobilenets.auditing.structure.published import reference

Edit = Callable[[ChainLayer, TablePlace], ChainLayer | Sequence[ChainLayer] | None]


@dataclass(frozen=True)
class Verdict:
    """The findings about an edited chain; they must add up."""

    findings: tuple[Finding, ...]
    unexplained: tuple[int, int]
    difference: tuple[int, int]
    """Parameters and multiply-adds, found minus published."""

    def errors(self) -> list[str]:
        return [one.diagnostic.rule for one in self.findings if one.diagnostic.severity is Severity.ERROR]

    def notes(self) -> list[str]:
        return [one.diagnostic.rule for one in self.findings if one.diagnostic.severity is Severity.NOTE]

    def the(self, rule: str) -> Finding:
        (finding,) = [one for one in self.findings if one.diagnostic.rule == rule]
        return finding


@dataclass(frozen=True)
class Bench:
    """Makes chains and applies the rules to them."""

    def chain(
        self,
        name: str,
        edit: Edit = lambda layer, place: layer,
        *,
        width_mult: float = 1.0,
        image_size: int = 224,
        num_classes: int = 1000,
        imagenet_strides: bool = True,
        **changes: object,
    ) -> Chain:
        """The published chain with every layer through `edit` (None: gone; several: in its place)."""
        published = reference(
            name,
            width_mult=width_mult,
            image_size=image_size,
            num_classes=num_classes,
            imagenet_strides=imagenet_strides,
        )
        layers: list[ChainLayer] = []
        for layer, place in zip(published.chain.layers, published.places, strict=True):
            edited = edit(replace(layer, path=f"{place.block}.{place.part}"), place)
            layers += [] if edited is None else [edited] if isinstance(edited, ChainLayer) else edited
        found = replace(published.chain, layers=tuple(layers), **changes)  # type: ignore[arg-type]
        costs = chain_cost(found)
        return replace(found, parameters=costs.parameters, macs=costs.macs)

    def apply(
        self,
        found: Chain,
        expect: str | None = None,
        *,
        width_mult: float | None = None,
        seen: Behaviour | None = None,
        front_end: str = "torch.export",
        unused: tuple[tuple[str, int], ...] = (),
    ) -> Verdict:
        """What the rules say, with costs; every verdict adds up, and diagnostics each difference once."""
        comparison = compare(found, expect=expect, width_mult=width_mult)
        diagnostics = apply_rules(comparison, seen=seen, front_end=front_end, unused=unused)
        claimed = [id(one) for diagnostic in diagnostics for one in diagnostic.differences if one.attribute != "unused"]
        assert sorted(claimed) == sorted(id(one) for one in comparison.differences)
        findings, parameters, macs = account(comparison, diagnostics)
        published = comparison.reference.chain
        difference = (found.parameters - published.parameters, found.macs - published.macs)
        assert sum(one.parameters for one in findings) + parameters == difference[0]
        assert sum(one.macs for one in findings) + macs == difference[1]
        return Verdict(findings, (parameters, macs), difference)

    def mistake(self, name: str, edit: Edit, *, width_mult: float = 1.0, **chain: int) -> Verdict:
        """The verdict on the published network of this name with an edit, which is expected to be it."""
        return self.apply(self.chain(name, edit, width_mult=width_mult, **chain), name, width_mult=width_mult)


@pytest.fixture
def bench() -> Bench:
    return Bench()
