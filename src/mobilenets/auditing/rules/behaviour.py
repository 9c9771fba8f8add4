"""What running a network shows, and what its graph says of evaluation: training left on, statistics, unused weights."""

from __future__ import annotations

from mobilenets.auditing.rules.case import RuleContext
from mobilenets.auditing.rules.finding import Diagnostic, Severity
from mobilenets.auditing.rules.wording import paper_of
from mobilenets.auditing.structure.differences import NetworkDifference
from mobilenets.auditing.structure.layers import ShortcutKind

FRAMEWORK = "torch.nn.Module.eval"


def _error(
    rule: str, where: tuple[str, ...], expected: str, found: str, effect: str, fix: str, source: str = FRAMEWORK
) -> Diagnostic:
    return Diagnostic(rule, Severity.ERROR, where, expected, found, source, effect, fix)


def training(context: RuleContext) -> list[Diagnostic]:
    """Training that goes on in evaluation: dropout, statistics of the batch, answers that vary."""
    seen = context.behaviour
    if seen is None:
        return []
    diagnostics = []
    if seen.stays_in_training:
        diagnostics.append(
            _error(
                "left-in-training",
                tuple(path or "the network's own forward" for path in seen.stays_in_training),
                "eval() switches dropout off and batch norm to its running statistics",
                "exported in training mode" if context.is_file else "still as in training after eval()",
                "answers are noisy and depend on the batch",
                "call model.eval() before the export"
                if context.is_file
                else "replace training=True in functional calls by self.training; don't override train() or eval()",
            )
        )
    elif seen.varies:
        diagnostics.append(
            _error(
                "varies",
                (),
                "the same answer for the same image",
                "two runs in evaluation mode differ",
                "no accuracy can be measured twice",
                "look for random operators in forward",
            )
        )
    if seen.depends_on_batch and not seen.stays_in_training:
        diagnostics.append(
            _error(
                "depends-on-batch",
                (),
                "an answer that depends on the image alone",
                "it changes with the other images of the batch, in evaluation mode",
                "answers at batch 1 differ from those measured",
                "let batch norm track running statistics (track_running_stats=True)",
            )
        )
    still = _frozen_without_reason(context, seen.frozen_norms)
    if still:
        diagnostics.append(
            _error(
                "frozen-norms",
                still,
                "running statistics that follow the data in training",
                "they do not move in a training step",
                "evaluation uses the statistics of the start: training looks right, evaluation does not",
                "give batch norm a momentum above 0 and track_running_stats=True, functional calls "
                "training=self.training",
            )
        )
    if seen.held_norms:
        diagnostics.append(
            Diagnostic(
                "norms-held",
                Severity.NOTE,
                seen.held_norms,
                "batch norm trains with the network",
                f"{len(seen.held_norms)} of them stay in evaluation mode after train()",
                FRAMEWORK,
                "right for fine-tuning from given weights; from fresh ones the statistics stay those of the start",
                "nothing if it is meant; to train from scratch let train() reach batch norm",
            )
        )
    return diagnostics


def _frozen_without_reason(context: RuleContext, frozen: tuple[str, ...]) -> tuple[str, ...]:
    """Those that neither a momentum of 0 nor a frozen form says already: these are findings of their own."""
    stopped = {
        norm.path
        for layer in context.found.layers
        for norm in layer.norms
        if norm.momentum == 0 or norm.frozen or norm.kind == "affine"
    }
    return tuple(path for path in frozen if path not in stopped)


def answers(context: RuleContext) -> list[Diagnostic]:
    """Shortcuts that are none when their branch is silent; a fixed size, where the pool does not say it already."""
    seen = context.behaviour
    if seen is None:
        return []
    diagnostics = []
    dead = _dead_unseen(context, seen.dead_shortcuts)
    if dead:
        diagnostics.append(
            _error(
                "dead-shortcut",
                dead,
                "with its branch silent, the sum is the block's input",
                "it is not",
                "the shortcut does not carry the input through",
                "add the block's own input, unchanged",
                paper_of(context),
            )
        )
    if seen.fixed_size and context.found.pooling.kind != "fixed":
        diagnostics.append(
            Diagnostic(
                "fixed-size",
                Severity.NOTE,
                (),
                "images of any size",
                f"a larger image fails: {seen.fixed_size}",
                FRAMEWORK,
                "",
                "pool the whole map (nn.AdaptiveAvgPool2d(1))",
            )
        )
    return diagnostics


def _dead_unseen(context: RuleContext, dead: tuple[str, ...]) -> tuple[str, ...]:
    """Those the structure does not tell already: a shortcut known to be scaled, say, is an error of its own."""
    told = {
        layer.shortcut.path
        for layer in context.found.layers
        if layer.shortcut is not None and layer.shortcut.kind is not ShortcutKind.IDENTITY
    }
    return tuple(path for path in dead if path not in told)


def unused(context: RuleContext) -> list[Diagnostic]:
    """Parameters no operator reads: layers built and forgotten in forward."""
    if not context.unused:
        return []
    return [
        Diagnostic(
            "unused-parameters",
            Severity.ERROR,
            tuple(path for path, _ in context.unused),
            "every parameter read",
            f"{sum(size for _, size in context.unused):,} parameters that no operator reads",
            "the graph of the network",
            "they count and are saved, and learn nothing",
            "use the layers in forward, or don't build them",
            (NetworkDifference(None, "unused", (), context.unused),),
        )
    ]
