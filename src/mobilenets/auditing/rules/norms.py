"""Batch norm: missing, doubled, of another kind, folded away; and biases beside it."""

from __future__ import annotations

from mobilenets.auditing.rules.case import Item, RuleContext
from mobilenets.auditing.rules.finding import Diagnostic, Severity
from mobilenets.auditing.rules.wording import diagnostic, grouped, note
from mobilenets.auditing.structure.layers import BatchNorm


def folded(context: RuleContext) -> list[Diagnostic]:
    """No batch norm at all and biases in its place: as exporters and fusion leave a network.

    In a file some biases may be gone: exporters leave out those that are zero, as a fresh network's all are.
    """
    # The norm in front of an attention block follows no convolution it could be folded into; and one behind a linear
    # layer of a head exporters leave as it is.
    plain = [layer for layer in context.found.layers if layer.attention is None and not layer.pooled]
    in_file = context.is_file and not any(norm.kind == "batch" for layer in plain for norm in layer.norms)
    if not context.found.folded_norms and not in_file:
        return []
    items = [
        item
        for item in context.items("norms", "bias")
        if item.both and item.expected.norms and not item.found.norms and (item.found.bias or in_file)
    ]
    norms = [item for item in items if item.difference.attribute == "norms"]
    # Attention is counted whole: with its norms folded it has other parameters and does the same work.
    items += [item for item in context.items("attention") if item.both and _same_work(item)]
    # A layer scale is folded like a norm, and then nothing tells that there was one.
    items += [item for item in context.items("layer_scale") if item.both and item.expected.layer_scale]
    if not norms:
        return []
    return [
        note(
            context,
            "norms-folded",
            norms,
            follows=items,
            expected="batch norm behind every convolution",
            found="none, but a bias in every convolution: folded for inference",
            effect="a bias per channel counts as a parameter in place of scale and shift; the answers are the same",
            fix="nothing in an exported or fused network; one that is trained like this has lost its batch norms",
        )
    ]


def _same_work(item: Item) -> bool:
    one, other = item.expected.attention, item.found.attention
    return one is not None and other is not None and one.macs == other.macs


def norms(context: RuleContext) -> list[Diagnostic]:
    """Batch norms missing, doubled, extra or of another kind, each fault once with all its places."""
    diagnostics = []
    items = [item for item in context.items("norms") if item.both]
    for (name, expected, found), members in grouped(items, lambda item: _key(context, item)).items():
        slots = {item.difference.slot for item in members}
        # Without its norm a convolution may well have a bias; with one it needs none.
        biases = [item for item in context.items("bias") if item.difference.slot in slots and name in WITH_BIAS]
        diagnostics.append(
            diagnostic(
                context,
                name,
                members,
                follows=biases,
                expected=expected,
                found=found,
                severity=Severity.NOTE if name in ("norms-frozen", "norm-written-out") else Severity.ERROR,
                effect=EFFECTS.get(name, ""),
                fix=FIXES[name],
            )
        )
    return diagnostics


WITH_BIAS = ("norm-missing", "norm-extra")
EFFECTS = {
    "norms-frozen": "the same answers in evaluation; scale, shift and statistics stay as they are in training",
    "norm-written-out": "the same answers in evaluation; what it does in training can't be seen",
    "norm-missing": "the published norm's weights and statistics have no place",
    "norm-doubled": "the second norm only repeats the first",
    "norm-extra": "the published network has no weights for it",
    "norm-kind": "it takes other means and variances: what was trained with the published norm answers otherwise",
    "norm-affine": "the published scales and shifts have no place",
}
FIXES = {
    "norms-frozen": "nothing for a backbone that is to stay as it is; use torch.nn.BatchNorm2d to train it",
    "norm-written-out": "nothing, if its statistics follow in training as torch.nn.BatchNorm2d's do",
    "norm-missing": "put a batch norm behind the convolution, and leave the convolution's bias out",
    "norm-doubled": "keep one batch norm behind each convolution",
    "norm-extra": "remove the norm; the layer keeps its bias",
    "norm-kind": "use batch norm",
    "norm-affine": "build the batch norm with affine=True",
}


def _key(context: RuleContext, item: Item) -> tuple[str, str, str]:
    expected, found = item.expected.norms, item.found.norms
    kinds = " + ".join(f"{norm.kind} norm" for norm in found) or "no norm behind the convolution"
    wanted = " + ".join(f"{norm.kind} norm" for norm in expected) or "no norm"
    if not found:
        return "norm-missing", wanted, kinds
    if not expected:
        return "norm-extra", wanted, kinds
    if len(found) == len(expected) and all(_is_frozen(norm) for norm in found):
        return "norms-frozen", wanted, "batch norm frozen: a fixed scale and shift per channel, no parameters"
    # A file doesn't tell a learnt scale from a constant, nor what either was computed from.
    if len(found) == len(expected) and all(norm.kind == "affine" and (norm.eps or context.is_file) for norm in found):
        return "norm-written-out", wanted, "a scale and shift per channel: batch norm written out"
    if len(found) > len(expected):
        return "norm-doubled", wanted, kinds
    if {norm.kind for norm in found} == {norm.kind for norm in expected}:
        return "norm-affine", f"{wanted} with scale and shift", f"{kinds} without"
    return "norm-kind", wanted, kinds


def _is_frozen(norm: BatchNorm) -> bool:
    return norm.frozen or (norm.kind == "affine" and not norm.affine)


def biases(context: RuleContext) -> list[Diagnostic]:
    """A bias beside a batch norm, which subtracts it again; or none where nothing else shifts."""
    beside = [item for item in context.items("bias") if item.both and item.found.bias]
    missing = [item for item in context.items("bias") if item.both and not item.found.bias]
    diagnostics = []
    if beside:
        diagnostics.append(
            diagnostic(
                context,
                "bias-with-norm",
                beside,
                expected="no bias: batch norm subtracts it again",
                found="a bias in the convolution",
                effect="parameters that learn nothing: batch norm subtracts any constant, so no answer gains by them",
                fix="build the convolution with bias=False",
            )
        )
    if missing:
        diagnostics.append(
            diagnostic(
                context,
                "bias-missing",
                missing,
                severity=Severity.NOTE if context.is_file else Severity.ERROR,
                expected="a bias",
                found="none (exporters leave out a bias that is zero)" if context.is_file else "none",
                fix="nothing, if it was zero" if context.is_file else "build the layer with bias=True",
            )
        )
    return diagnostics
