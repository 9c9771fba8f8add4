"""What running a network shows, and what its graph says of evaluation: training left on, statistics, unused weights."""

from __future__ import annotations

from mobilenets.auditing.graph.nodes import Behaviour
from mobilenets.auditing.rules.context import Diagnostic, RuleContext
from mobilenets.auditing.rules.registry import ERROR, NOTE, PAPER, Aspect, check, diagnostic, rule
from mobilenets.auditing.structure.differences import NetworkDifference
from mobilenets.auditing.structure.layers import ShortcutKind

FRAMEWORK = "torch.nn.Module.eval"


@check(Aspect.BEHAVIOUR, reads=("behaviour",))
@rule(
    "left-in-training",
    ERROR,
    "dropout or batch statistics that stay on after eval(), or in an exported file",
    source=FRAMEWORK,
    effect="answers are noisy and depend on the batch",
    fix="replace training=True in functional calls by self.training; don't override train() or eval()",
)
@rule(
    "varies",
    ERROR,
    "two runs on the same image that differ",
    source=FRAMEWORK,
    effect="no accuracy can be measured twice",
    fix="look for random operators in forward",
)
@rule(
    "depends-on-batch",
    ERROR,
    "an output that changes with the other images of the batch, in evaluation mode",
    source=FRAMEWORK,
    effect="answers at batch 1 differ from those measured",
    fix="let batch norm track running statistics (track_running_stats=True)",
)
def evaluation(context: RuleContext) -> list[Diagnostic]:
    """Training that goes on in evaluation: dropout, statistics of the batch, outputs that vary."""
    seen = context.behaviour
    if seen is None:
        return []
    found = []
    if seen.stays_in_training:
        found.append(_left_in_training(context, seen))
    elif seen.varies:
        found.append(
            diagnostic(
                context,
                "varies",
                expected="the same answer for the same image",
                found="two runs in evaluation mode differ",
            )
        )
    if seen.depends_on_batch and not seen.stays_in_training:
        found.append(
            diagnostic(
                context,
                "depends-on-batch",
                expected="an answer that depends on the image alone",
                found="it changes with the other images of the batch, in evaluation mode",
            )
        )
    return found


def _left_in_training(context: RuleContext, seen: Behaviour) -> Diagnostic:
    return diagnostic(
        context,
        "left-in-training",
        where=tuple(path or "the network's own forward" for path in seen.stays_in_training),
        expected="eval() switches dropout off and batch norm to its running statistics",
        found="exported in training mode" if context.is_file else "still as in training after eval()",
        fix="call model.eval() before the export" if context.is_file else None,
    )


@check(Aspect.BEHAVIOUR, reads=("behaviour",))
@rule(
    "frozen-norms",
    ERROR,
    "running statistics that a training step does not move",
    source=FRAMEWORK,
    effect="evaluation uses the statistics of the start: training looks right, evaluation does not",
    fix="give batch norm a momentum above 0 and track_running_stats=True, functional calls training=self.training",
)
@rule(
    "norms-held",
    NOTE,
    "batch norm that the code keeps in evaluation mode after train()",
    source=FRAMEWORK,
    effect="right for fine-tuning from given weights; from fresh ones the statistics stay those of the start",
    fix="nothing if it is meant; to train from scratch let train() reach batch norm",
)
def norms_in_training(context: RuleContext) -> list[Diagnostic]:
    """Batch norm that does not learn its statistics."""
    seen = context.behaviour
    if seen is None:
        return []
    found = []
    still = _frozen_without_reason(context, seen.frozen_norms)
    if still:
        found.append(
            diagnostic(
                context,
                "frozen-norms",
                where=still,
                expected="running statistics that follow the data in training",
                found="they do not move in a training step",
            )
        )
    if seen.held_norms:
        found.append(
            diagnostic(
                context,
                "norms-held",
                where=seen.held_norms,
                expected="batch norm trains with the network",
                found=f"{len(seen.held_norms)} of them stay in evaluation mode after train()",
            )
        )
    return found


def _frozen_without_reason(context: RuleContext, frozen: tuple[str, ...]) -> tuple[str, ...]:
    """Those that neither a momentum of 0 nor a frozen form says already: these are findings of their own."""
    stopped = {
        norm.path
        for layer in context.found.layers
        for norm in layer.norms
        if norm.momentum == 0 or norm.frozen or norm.kind == "affine"
    }
    return tuple(path for path in frozen if path not in stopped)


@check(Aspect.BEHAVIOUR, reads=("behaviour",))
@rule(
    "dead-shortcut",
    ERROR,
    "a sum that is not the block's input when its branch gives zeros",
    source=PAPER,
    effect="the shortcut does not carry the input through",
    fix="add the block's own input, unchanged",
)
@rule(
    "fixed-size",
    NOTE,
    "a larger image fails",
    source=FRAMEWORK,
    effect="the network takes images of one size only",
    fix="pool the whole map (nn.AdaptiveAvgPool2d(1))",
)
def outputs(context: RuleContext) -> list[Diagnostic]:
    """Shortcuts that carry nothing; a fixed size, where the pool does not say it already."""
    seen = context.behaviour
    if seen is None:
        return []
    found = []
    dead = _dead_unseen(context, seen.dead_shortcuts)
    if dead:
        found.append(
            diagnostic(
                context,
                "dead-shortcut",
                where=dead,
                expected="with its branch silent, the sum is the block's input",
                found="it is not",
            )
        )
    if seen.fixed_size and context.found.pooling.kind != "fixed":
        found.append(
            diagnostic(
                context,
                "fixed-size",
                expected="images of any size",
                found=f"a larger image fails: {seen.fixed_size}",
            )
        )
    return found


def _dead_unseen(context: RuleContext, dead: tuple[str, ...]) -> tuple[str, ...]:
    """Those the structure does not show already: a shortcut known to be scaled, say, is an error of its own."""
    shown = {
        layer.shortcut.path
        for layer in context.found.layers
        if layer.shortcut is not None and layer.shortcut.kind is not ShortcutKind.IDENTITY
    }
    return tuple(path for path in dead if path not in shown)


@check(Aspect.BEHAVIOUR, reads=("unused",))
@rule(
    "unused-parameters",
    ERROR,
    "parameters that no operator reads: layers built and forgotten in forward",
    source="the graph of the network",
    effect="they count and are saved, and learn nothing",
    fix="use the layers in forward, or don't build them",
)
def unused(context: RuleContext) -> list[Diagnostic]:
    """Parameters no operator reads."""
    if not context.unused:
        return []
    return [
        diagnostic(
            context,
            "unused-parameters",
            where=tuple(path for path, _ in context.unused),
            expected="every parameter read",
            found=f"{sum(size for _, size in context.unused):,} parameters that no operator reads",
            differences=(NetworkDifference(None, "unused", (), context.unused),),
        )
    ]
