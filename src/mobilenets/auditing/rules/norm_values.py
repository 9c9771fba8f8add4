"""Batch norm's eps and momentum: uniform usual values are a framework's choice, anything else a mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mobilenets.auditing.rules.case import Item, RuleContext
from mobilenets.auditing.rules.finding import Diagnostic
from mobilenets.auditing.rules.wording import diagnostic, note
from mobilenets.auditing.structure.layers import BatchNorm

EPS_RANGE = (1e-6, 1e-2)
"""From a tenth of PyTorch's default to ten times TensorFlow's."""
HIGHEST_MOMENTUM = 0.5
"""From here on the number is TensorFlow's decay (0.9, 0.99, 0.997): PyTorch's momentum is one minus that."""


@dataclass(frozen=True)
class _Value:
    """How one of the two numbers is read and judged."""

    attribute: str
    read: Callable[[BatchNorm], float | None]
    usual: Callable[[float], bool]
    words: str


EPS = _Value("eps", lambda norm: norm.eps, lambda eps: EPS_RANGE[0] <= eps <= EPS_RANGE[1], "eps")
MOMENTUM = _Value("momentum", lambda norm: norm.momentum, lambda momentum: 0 < momentum < HIGHEST_MOMENTUM, "momentum")


def eps(context: RuleContext) -> list[Diagnostic]:
    """Eps: a note when one usual value is everywhere, an error when unusual or mixed."""
    return _judged(context, EPS)


def momentum(context: RuleContext) -> list[Diagnostic]:
    """Momentum: a note when one usual value is everywhere, an error at 0, from 0.5 up, or mixed."""
    return _judged(context, MOMENTUM)


def _judged(context: RuleContext, value: _Value) -> list[Diagnostic]:
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
    strays = [item for item in usual if _numbers(value, item) != common]
    if (strays and len(strays) < len(usual)) or _minority(everywhere, usual):
        minority = strays or usual
        rest = [item for item in usual if not any(item is one for one in minority)]
        advice = f"use one {value.words} everywhere: the others have {common}"
        diagnostics.append(_error(context, value, minority, advice, EFFECTS[value.attribute]))
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
    return note(
        context,
        f"norm-{value.words}",
        items,
        expected=_published(value, items),
        found=f"{_numbers(value, items[0])} everywhere",
        source=FRAMEWORKS[value.attribute],
        effect=EFFECTS[value.attribute],
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


def _error(context: RuleContext, value: _Value, items: list[Item], advice: str, effect: str) -> Diagnostic:
    found = ", ".join(dict.fromkeys(_numbers(value, item) for item in items))
    return diagnostic(
        context,
        f"norm-{value.words}",
        items,
        expected=_published(value, items),
        found=found,
        source=FRAMEWORKS[value.attribute],
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


FRAMEWORKS = {
    "eps": "PyTorch's default is 1e-5, that of the authors' TensorFlow code 1e-3",
    "momentum": "PyTorch's default is 0.1; one minus TensorFlow's decay, which is 0.9997 or 0.997 in the authors' code "
    "and 0.99 in V3's paper",
}
EFFECTS = {
    "eps": "weights trained with another eps answer slightly otherwise",
    "momentum": "how fast the running statistics follow in training; no effect on answers",
}
