"""All rules in their order: those that know a mistake by name first, those that only name an attribute last."""

from __future__ import annotations

from mobilenets.auditing.graph.nodes import Behaviour
from mobilenets.auditing.rules import (
    activations,
    behaviour,
    channels,
    expansion,
    form,
    leftover,
    network,
    norm_values,
    norms,
    shortcuts,
    square,
    squeeze,
    stages,
    stranger,
    strides,
)
from mobilenets.auditing.rules.case import Rule, RuleContext
from mobilenets.auditing.rules.finding import Diagnostic
from mobilenets.auditing.structure.differences import NetworkComparison

# The order matters: a rule sees only what those before it have left.
STRUCTURE: tuple[Rule, ...] = (
    network.variant,
    norms.folded,
    expansion.first_version,
    expansion.expansion_kept,
    expansion.expanded_at_one,
    expansion.dense_for_depthwise,
    expansion.repeats,
    expansion.not_expanded,
    network.classes,
    network.no_classifier,
    channels.hidden_from_output,
    channels.scaled_table,
    channels.rounding,
    channels.head,
    stages.moved_borders,
    channels.expand_ratio,
    channels.channels,
    strides.in_extra_filter,
    strides.strides,
    strides.small_form,
    strides.last_map,
    shortcuts.shortcuts,
    shortcuts.after_the_sum,
    activations.activations,
    squeeze.presence,
    squeeze.place,
    squeeze.width,
    squeeze.functions,
    squeeze.form,
    squeeze.pool,
    norms.norms,
    norms.biases,
    norm_values.eps,
    norm_values.momentum,
    square.filters,
    form.kernels,
    form.padding_place,
    form.padding,
    network.pooling,
    form.others,
    form.anti_alias,
    square.maps,
    network.final,
    network.small_things,
    leftover.unfolded,
    leftover.layers,
    leftover.rest,
)
BEHAVIOUR: tuple[Rule, ...] = (behaviour.training, behaviour.answers, behaviour.unused)


def judge(
    comparison: NetworkComparison,
    *,
    seen: Behaviour | None = None,
    front_end: str = "torch.export",
    unused: tuple[tuple[str, int], ...] = (),
) -> tuple[Diagnostic, ...]:
    """Every difference and every odd behaviour as a diagnostic; each difference is in exactly one.

    Args:
        comparison: the network beside the published one.
        seen: what probing it showed; None where nothing was run.
        front_end: what read it, as `Graph.front_end`.
        unused: paths and sizes of parameters no operator reads.
    """
    context = RuleContext(comparison, seen, front_end, unused, comparison.differences)
    nothing_near = stranger.stranger(context)
    if nothing_near:
        # What else there is to say of it would be said against a network it was never meant to be.
        return tuple(nothing_near)
    diagnostics: list[Diagnostic] = []
    for rule in (*STRUCTURE, *BEHAVIOUR):
        recognized = rule(context)
        context = context.without(recognized)
        diagnostics += recognized
    return tuple(diagnostics)
