from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mobilenets.auditing.graph.nodes import Behaviour

if TYPE_CHECKING:
    from conftest import Bench


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seen", "rule"),
    [
        ({"stays_in_training": ("drop",), "varies": True, "depends_on_batch": True}, "left-in-training"),
        ({"varies": True}, "varies"),
        ({"depends_on_batch": True}, "depends-on-batch"),
        ({"frozen_norms": ("norm",)}, "frozen-norms"),
        ({"dead_shortcuts": ("add",)}, "dead-shortcut"),
    ],
)
def test_each_is_one_error_and_costs_nothing(bench: Bench, seen: dict[str, Any], rule: str) -> None:
    verdict = bench.apply(bench.chain("mobilenet_v2"), seen=Behaviour(**seen))
    assert (verdict.errors(), verdict.notes()) == ([rule], [])
    assert verdict.the(rule).parameters == 0


def test_a_fixed_size_is_a_note_with_the_reason(bench: Bench) -> None:
    verdict = bench.apply(bench.chain("mobilenet_v2"), seen=Behaviour(fixed_size="mat1 and mat2"))
    assert (verdict.errors(), verdict.notes()) == ([], ["fixed-size"])
    assert "mat1 and mat2" in verdict.the("fixed-size").diagnostic.found


def test_norms_held_in_evaluation_mode_are_a_note(bench: Bench) -> None:
    verdict = bench.apply(bench.chain("mobilenet_v2"), seen=Behaviour(held_norms=("norm",)))
    assert (verdict.errors(), verdict.notes()) == ([], ["norms-held"])


def test_unused_parameters_explain_their_number(bench: Bench) -> None:
    verdict = bench.apply(bench.chain("mobilenet_v2"), unused=(("spare.weight", 40), ("spare.bias", 2)))
    finding = verdict.the("unused-parameters")
    assert finding.parameters == 42
    assert finding.diagnostic.where == ("spare.weight", "spare.bias")


def test_an_undisturbed_network_has_no_finding(bench: Bench) -> None:
    assert bench.apply(bench.chain("mobilenet_v2"), seen=Behaviour()).findings == ()
