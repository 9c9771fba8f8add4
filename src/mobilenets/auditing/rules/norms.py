"""Batch norm: missing, doubled, of another kind, folded away; and biases beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mobilenets.auditing.rules.context import Diagnostic, Item, RuleContext
from mobilenets.auditing.rules.registry import ERROR, NOTE, TABLE, Aspect, check, diagnostic, grouped, rule
from mobilenets.auditing.structure.layers import BatchNorm


@check(Aspect.NETWORK, reads=("norms",))
@rule(
    "norms-folded",
    NOTE,
    "no batch norm, and a bias in every convolution: folded for inference",
    source=TABLE,
    effect="a bias per channel counts as a parameter in place of scale and shift; the answers are the same",
    fix="nothing in an exported or fused network; one that is trained like this has lost its batch norms",
)
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
        diagnostic(
            context,
            "norms-folded",
            norms,
            follows=items,
            expected="batch norm behind every convolution",
            found="none, but a bias in every convolution: folded for inference",
        )
    ]


def _same_work(item: Item) -> bool:
    one, other = item.expected.attention, item.found.attention
    return one is not None and other is not None and one.macs == other.macs


@check(Aspect.NORMS, reads=("norms",))
@rule(
    "norm-missing",
    ERROR,
    "a convolution without its batch norm",
    source=TABLE,
    effect="the published norm's weights and statistics have no place",
    fix="put a batch norm behind the convolution, and leave the convolution's bias out",
    measured=True,
)
@rule(
    "norm-extra",
    ERROR,
    "a norm where the paper has none",
    source=TABLE,
    effect="the published network has no weights for it",
    fix="remove the norm; the layer keeps its bias",
)
@rule(
    "norm-doubled",
    ERROR,
    "two norms behind one convolution",
    source=TABLE,
    effect="the second norm only repeats the first",
    fix="keep one batch norm behind each convolution",
)
@rule(
    "norm-kind",
    ERROR,
    "another kind of norm: group, layer, instance",
    source=TABLE,
    effect="it takes other means and variances: what was trained with the published norm answers otherwise",
    fix="use batch norm",
)
@rule(
    "norm-affine",
    ERROR,
    "batch norm without scale and shift",
    source=TABLE,
    effect="the published scales and shifts have no place",
    fix="build the batch norm with affine=True",
)
@rule(
    "norms-frozen",
    NOTE,
    "batch norm frozen: a fixed scale and shift, no parameters",
    source=TABLE,
    effect="the same answers in evaluation; scale, shift and statistics stay as they are in training",
    fix="nothing for a backbone that is to stay as it is; use torch.nn.BatchNorm2d to train it",
)
@rule(
    "norm-written-out",
    NOTE,
    "batch norm written out as a scale and a shift",
    source=TABLE,
    effect="the same answers in evaluation; what it does in training can't be seen",
    fix="nothing, if its statistics follow in training as torch.nn.BatchNorm2d's do",
)
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
            )
        )
    return diagnostics


WITH_BIAS = ("norm-missing", "norm-extra")


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


@check(Aspect.NORMS, reads=("bias",))
@rule(
    "bias-with-norm",
    ERROR,
    "a bias in a convolution with a batch norm behind it",
    source=TABLE,
    effect="parameters that learn nothing: batch norm subtracts any constant, so no answer gains by them",
    fix="build the convolution with bias=False",
)
@rule(
    "bias-missing",
    ERROR,
    "no bias where the paper has one; a note in a file",
    source=TABLE,
    effect="published weights have a bias that finds no place",
    fix="build the layer with bias=True",
)
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
            )
        )
    if missing:
        diagnostics.append(
            diagnostic(
                context,
                "bias-missing",
                missing,
                severity=NOTE if context.is_file else None,
                expected="a bias",
                found="none (exporters leave out a bias that is zero)" if context.is_file else "none",
                fix="nothing, if it was zero" if context.is_file else None,
            )
        )
    return diagnostics


# Eps and momentum: one usual value everywhere is a framework's choice, anything else a mistake.


EPS_RANGE = (1e-6, 1e-2)
"""From a tenth of PyTorch's default to ten times TensorFlow's."""
HIGHEST_MOMENTUM = 0.5
"""From here on the number is TensorFlow's decay (0.9, 0.99, 0.997): PyTorch's momentum is one minus that."""


@dataclass(frozen=True)
class _Value:
    """How one of the two numbers is read, and which values are usual."""

    attribute: str
    read: Callable[[BatchNorm], float | None]
    usual: Callable[[float], bool]
    words: str


EPS = _Value("eps", lambda norm: norm.eps, lambda eps: EPS_RANGE[0] <= eps <= EPS_RANGE[1], "eps")
MOMENTUM = _Value("momentum", lambda norm: norm.momentum, lambda momentum: 0 < momentum < HIGHEST_MOMENTUM, "momentum")


@check(Aspect.NORMS, reads=("eps",))
@rule(
    "norm-eps",
    ERROR,
    "another eps in some batch norms, or an unusual one; a note where one usual value is everywhere",
    source="PyTorch's default is 1e-5, that of the authors' TensorFlow code 1e-3",
    effect="weights trained with another eps answer slightly otherwise",
    fix="use 1e-5 (PyTorch's) or 1e-3 (TensorFlow's) in every batch norm",
)
def eps(context: RuleContext) -> list[Diagnostic]:
    """Eps: a note when one usual value is everywhere, an error when unusual or mixed."""
    return _reported(context, EPS)


@check(Aspect.NORMS, reads=("momentum",))
@rule(
    "norm-momentum",
    ERROR,
    "another momentum in some batch norms, 0, or TensorFlow's decay; a note where one usual value is everywhere",
    source="PyTorch's default is 0.1; "
    "one minus TensorFlow's decay, which is 0.9997 or 0.997 in the authors' code and 0.99 in V3's paper",
    effect="how fast the running statistics follow in training; no effect on answers",
    fix="use 0.1 (PyTorch's default) or 0.01",
)
def momentum(context: RuleContext) -> list[Diagnostic]:
    """Momentum: a note when one usual value is everywhere, an error at 0, from 0.5 up, or mixed."""
    return _reported(context, MOMENTUM)


def _reported(context: RuleContext, value: _Value) -> list[Diagnostic]:
    items = [item for item in context.items(value.attribute) if item.both]
    if not items:
        return []
    everywhere = Counter(
        f"{number:.4g}"
        for layer in context.found.layers
        for norm in layer.norms
        if norm.kind in ("batch", "affine") and (number := value.read(norm)) is not None
    )
    usual = [item for item in items if all(_fine(value, norm) for norm in item.found.norms)]
    odd = [item for item in items if not any(item is one for one in usual)]
    diagnostics = [_error(context, value, odd, _advice(value, odd), _odd_effect(value, odd))] if odd else []
    if not usual:
        return diagnostics
    common = everywhere.most_common(1)[0][0]
    others = [item for item in usual if _numbers(value, item) != common]
    if (others and len(others) < len(usual)) or _minority(everywhere, usual):
        minority = others or usual
        rest = [item for item in usual if not any(item is one for one in minority)]
        advice = f"use one {value.words} everywhere: the others have {common}"
        diagnostics.append(_error(context, value, minority, advice))
        return diagnostics + ([_note(context, value, rest)] if rest else [])
    return [*diagnostics, _note(context, value, usual)]


def _fine(value: _Value, norm: BatchNorm) -> bool:
    number = value.read(norm)
    return number is None or value.usual(number)


def _numbers(value: _Value, item: Item) -> str:
    numbers = dict.fromkeys(value.read(norm) for norm in item.found.norms)
    return ", ".join(f"{number:.4g}" for number in numbers if number is not None)


def _minority(everywhere: Counter[str], usual: list[Item]) -> bool:
    """Fewer norms have the differing value than have the published one."""
    return 2 * len(usual) < sum(everywhere.values())


def _note(context: RuleContext, value: _Value, items: list[Item]) -> Diagnostic:
    return diagnostic(
        context,
        f"norm-{value.words}",
        items,
        severity=NOTE,
        expected=_published(value, items),
        found=f"{_numbers(value, items[0])} everywhere",
        fix="nothing; keep the value your weights were trained with",
    )


def _odd_effect(value: _Value, odd: list[Item]) -> str:
    if value is EPS:
        return "channels of small variance are scaled otherwise than the published ones"
    stopped = all(norm.momentum == 0 for item in odd for norm in item.found.norms)
    return (
        "the running statistics stay what they were at the start: good in training, bad in evaluation"
        if stopped
        else "the running statistics are little more than those of the last batch: evaluation hangs on which it was"
    )


def _error(
    context: RuleContext, value: _Value, items: list[Item], advice: str, effect: str | None = None
) -> Diagnostic:
    found = ", ".join(dict.fromkeys(_numbers(value, item) for item in items))
    return diagnostic(
        context,
        f"norm-{value.words}",
        items,
        expected=_published(value, items),
        found=found,
        effect=effect,
        fix=advice,
    )


def _published(value: _Value, items: list[Item]) -> str:
    numbers = dict.fromkeys(value.read(norm) for item in items for norm in item.expected.norms)
    return f"{value.words} " + ", ".join(f"{number:g}" for number in numbers if number is not None)


def _advice(value: _Value, odd: list[Item]) -> str:
    if value is EPS:
        return "use 1e-5 (PyTorch's) or 1e-3 (TensorFlow's) in every batch norm"
    numbers = [number for item in odd for norm in item.found.norms if (number := norm.momentum) is not None]
    if numbers and numbers[0] >= HIGHEST_MOMENTUM:
        return f"PyTorch's momentum is one minus TensorFlow's decay: use {1 - numbers[0]:.4g}"
    return "use 0.1 (PyTorch's default) or 0.01"
