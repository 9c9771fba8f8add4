from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mobilenets.auditing.structure.layers import BatchNorm, ChainLayer, TablePlace

if TYPE_CHECKING:
    from conftest import Bench, Edit

Norms = tuple[BatchNorm, ...]


def with_norms(change: Callable[[Norms], Norms], block: int | None = None) -> Edit:
    """Other norms wherever there are some, or in one block."""

    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        here = layer.norms and block in (None, place.block)
        return replace(layer, norms=change(layer.norms)) if here else layer

    return edit


@pytest.mark.parametrize(
    ("change", "block", "rule"),
    [
        (lambda norms: (), 5, "norm-missing"),
        (lambda norms: norms * 2, None, "norm-doubled"),
        (lambda norms: (replace(norms[0], kind="group"),), None, "norm-kind"),
        (lambda norms: (replace(norms[0], affine=False),), None, "norm-affine"),
        (lambda norms: (replace(norms[0], eps=0.1),), None, "norm-eps"),
        (lambda norms: (replace(norms[0], eps=1e-3),), 5, "norm-eps"),
        (lambda norms: (replace(norms[0], momentum=0.0),), None, "norm-momentum"),
        (lambda norms: (replace(norms[0], momentum=0.99),), None, "norm-momentum"),
        (lambda norms: (replace(norms[0], momentum=0.01),), 5, "norm-momentum"),
    ],
)
def test_each_mistake_is_one_error(
    bench: Bench, change: Callable[[Norms], Norms], block: int | None, rule: str
) -> None:
    verdict = bench.mistake("mobilenet_v2", with_norms(change, block))
    assert (verdict.errors(), verdict.notes()) == ([rule], [])


def test_a_decay_taken_for_a_momentum_is_converted(bench: Bench) -> None:
    verdict = bench.mistake("mobilenet_v2", with_norms(lambda norms: (replace(norms[0], momentum=0.997),)))
    assert verdict.the("norm-momentum").diagnostic.fix.endswith("use 0.003")


@pytest.mark.parametrize("value", [{"eps": 1e-3}, {"momentum": 0.01}, {"momentum": 0.003}])
def test_usual_values_everywhere_are_notes(bench: Bench, value: dict[str, float]) -> None:
    verdict = bench.mistake("mobilenet_v2", with_norms(lambda norms: (replace(norms[0], **value),)))  # type: ignore[arg-type]
    assert (verdict.errors(), verdict.notes()) == ([], [f"norm-{next(iter(value))}"])


def test_folded_norms_are_a_note_and_account_for_the_parameters(bench: Bench) -> None:
    def fold(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, norms=(), bias=True)

    verdict = bench.apply(bench.chain("mobilenet_v2", fold, folded_norms=True), "mobilenet_v2", width_mult=1.0)
    assert (verdict.errors(), verdict.notes()) == ([], ["norms-folded"])
    assert verdict.the("norms-folded").parameters == -34_112 // 2
    assert verdict.unexplained == (0, 0)


def test_a_bias_beside_a_norm_and_none_in_the_classifier(bench: Bench) -> None:
    verdict = bench.mistake("mobilenet_v2", lambda layer, place: replace(layer, bias=not layer.bias))
    assert verdict.errors() == ["bias-with-norm", "bias-missing"]
    assert verdict.the("bias-with-norm").parameters == 34_112 // 2
    assert verdict.the("bias-missing").parameters == -1000


def test_a_norm_behind_the_penultimate_layer(bench: Bench) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, norms=(BatchNorm(1e-3, 0.01),)) if place.part == "penultimate" else layer

    found = bench.chain("mobilenet_v3_large", edit)
    assert found.parameters == 5_485_592
    assert bench.apply(found, "mobilenet_v3_large", width_mult=1.0).errors() == ["norm-extra"]


def test_frozen_norms_and_norms_written_out_are_notes(bench: Bench) -> None:
    frozen = bench.mistake("mobilenet_v2", with_norms(lambda norms: (replace(norms[0], frozen=True),)))
    assert (frozen.errors(), frozen.notes()) == ([], ["norms-frozen"])
    written_out = bench.mistake("mobilenet_v2", with_norms(lambda norms: (replace(norms[0], kind="affine"),)))
    assert (written_out.errors(), written_out.notes()) == ([], ["norm-written-out"])
