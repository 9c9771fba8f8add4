from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mobilenets.auditing.structure.layers import BatchNorm, ChainLayer, Shortcut, ShortcutKind, TablePlace

if TYPE_CHECKING:
    from conftest import Bench, Edit

SIDE = ChainLayer(64, norms=(BatchNorm(1e-5, 0.1),))


def given(block: int, shortcut: Shortcut | None) -> Edit:
    """This shortcut on the block's last layer."""

    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        return replace(layer, shortcut=shortcut) if (place.block, place.part) == (block, "project") else layer

    return edit


def test_missing_everywhere_is_one_finding(bench: Bench) -> None:
    verdict = bench.mistake("mobilenet_v2", lambda layer, place: replace(layer, shortcut=None))
    assert verdict.errors() == ["shortcut-missing"]
    assert len(verdict.the("shortcut-missing").diagnostic.where) == 10


def test_extra_projected_downsampled_padded_scaled_elsewhere(bench: Bench) -> None:
    strided = replace(SIDE, stride=2)
    cases = {
        "shortcut-projected": given(11, Shortcut(ShortcutKind.PROJECTED, 3, (replace(SIDE, out_channels=96),))),
        "shortcut-downsampled": given(7, Shortcut(ShortcutKind.PROJECTED, 3, (strided,))),
        "shortcut-padded": given(17, Shortcut(ShortcutKind.PADDED, 3)),
        "shortcut-scaled": given(3, Shortcut(ShortcutKind.SCALED, 3)),
        "shortcut-place": given(3, Shortcut(ShortcutKind.IDENTITY, 6)),
    }
    for rule, edit in cases.items():
        assert bench.mistake("mobilenet_v2", edit).errors() == [rule]
    pooled = bench.mistake("mobilenet_v2", given(14, Shortcut(ShortcutKind.POOLED, 3)))
    assert pooled.errors() == ["shortcut-downsampled"]
    assert "taken on" not in pooled.the("shortcut-downsampled").diagnostic.found


def test_it_says_which_half_of_the_condition_was_looked_at(bench: Bench) -> None:
    edit = given(11, Shortcut(ShortcutKind.PROJECTED, 3, (replace(SIDE, out_channels=96),)))
    finding = bench.mistake("mobilenet_v2", edit).the("shortcut-projected")
    assert "taken on the stride alone" in finding.diagnostic.found
    assert finding.parameters == 64 * 96 + 2 * 96
    assert finding.macs == 64 * 96 * 14**2


def test_an_activation_after_the_sum(bench: Bench) -> None:
    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        if layer.shortcut is None:
            return layer
        return replace(layer, shortcut=replace(layer.shortcut, activation_after="relu6"))

    verdict = bench.mistake("mobilenet_v2", edit)
    assert verdict.errors() == ["shortcut-activation"]
    assert verdict.the("shortcut-activation").diagnostic.found == "ReLU6"


def test_a_plain_shortcut_where_none_belongs(bench: Bench) -> None:
    verdict = bench.mistake("mobilenet_v1", given_anywhere(8))
    assert verdict.errors() == ["shortcut-extra"]
    assert verdict.the("shortcut-extra").diagnostic.expected == "no shortcut: this network has none"


def given_anywhere(block: int) -> Edit:
    """A plain shortcut on the block's last layer, whatever its part."""

    def edit(layer: ChainLayer, place: TablePlace) -> ChainLayer:
        here = place.block == block and place.part == "project"
        return replace(layer, shortcut=Shortcut(ShortcutKind.IDENTITY, 2)) if here else layer

    return edit
