"""Activations: where none belongs, where one is missing, and similar functions."""

from __future__ import annotations

from mobilenets.auditing.rules.context import Diagnostic, Item, RuleContext
from mobilenets.auditing.rules.registry import (
    ERROR,
    NOTE,
    TABLE,
    Aspect,
    check,
    diagnostic,
    grouped,
    name_of,
    paper_of,
    rule,
)

H_SWISH_LIKE = ("swish", "gelu", "gelu_tanh", "mish", "hard_swish_half", "hard_swish_keras", "unknown")
V1_PAPER = "arXiv 1704.04861"
OTHER_FUNCTION = "published weights answer otherwise through another function"


@check(Aspect.ACTIVATIONS, reads=("activation",), reports=("final-activation",))
@rule(
    "bottleneck-activation",
    ERROR,
    "an activation behind the projection of a block, which the papers keep linear",
    source=TABLE,
    effect="it throws away what is negative in the narrow tensor",
    fix="remove the activation after the projection's batch norm",
    measured=True,
)
@rule(
    "activation-extra",
    ERROR,
    "an activation where the table has none",
    source=TABLE,
    effect=OTHER_FUNCTION,
    fix="remove the activation",
)
@rule(
    "activation-missing",
    ERROR,
    "no activation where the table has one",
    source=TABLE,
    effect="two linear layers in a row are one: the network can express less",
    fix="use the activation of the table",
)
@rule(
    "v1-relu6",
    NOTE,
    "MobileNetV1 with ReLU6 in every layer, as the authors' code has it",
    source="arXiv 1704.04861, section 3.2; TF-slim mobilenet_v1.py",
    effect="the released weights were trained with ReLU6, the paper says ReLU",
    fix="nothing; keep the one your weights were trained with",
)
@rule(
    "relu6-for-relu",
    ERROR,
    "ReLU6 in some layers where the table has ReLU",
    source=TABLE,
    effect=OTHER_FUNCTION,
    fix="use ReLU",
)
@rule(
    "relu-for-relu6",
    ERROR,
    "ReLU where the table has ReLU6",
    source=TABLE,
    effect="activations have no upper bound; ReLU6 gives them one, so that 8-bit arithmetic stays precise",
    fix="use ReLU6",
    measured=True,
)
@rule(
    "hard-swish-variant",
    ERROR,
    "a function near h-swish in its place: swish, GELU, Mish or another form of it",
    source=TABLE,
    effect=OTHER_FUNCTION,
    fix="use h-swish: x * ReLU6(x + 3) / 6",
)
@rule(
    "activation",
    ERROR,
    "any other function than the table's",
    source=TABLE,
    effect=OTHER_FUNCTION,
    fix="use the activation of the table",
)
def activations(context: RuleContext) -> list[Diagnostic]:
    """Activations by what is wrong, each pair of functions once with all its places."""
    items = [item for item in context.items("activation") if item.both]
    diagnostics = []
    for (name, expected, found), members in grouped(items, lambda item: _key(context, item, items)).items():
        if name == "v1-relu6":
            diagnostics.append(
                diagnostic(
                    context,
                    name,
                    members,
                    expected="ReLU, as the paper says",
                    found="ReLU6 throughout, as in the authors' code and released weights",
                )
            )
            continue
        diagnostics.append(
            diagnostic(
                context,
                name,
                members,
                expected=_expected(name, expected),
                found=name_of(found) if found != "none" else "no activation",
                effect=_effect(name, found),
                fix=_fix(name, expected),
                severity=NOTE if name == "final-activation" and context.is_file else None,
            )
        )
    return diagnostics


def _key(context: RuleContext, item: Item, items: list[Item]) -> tuple[str, str, str]:
    expected, found = item.expected.activation, item.found.activation
    return _name(context, item, items), expected, found


def _name(context: RuleContext, item: Item, items: list[Item]) -> str:
    expected, found = item.expected.activation, item.found.activation
    if item.part == "classifier":
        return "final-activation"
    if expected == "none":
        return "bottleneck-activation" if item.part == "project" else "activation-extra"
    if found == "none":
        return "activation-missing"
    if (expected, found) == ("relu", "relu6"):
        return "v1-relu6" if _uniform_v1(context, items) else "relu6-for-relu"
    if (expected, found) == ("relu6", "relu"):
        return "relu-for-relu6"
    if expected == "hard_swish" and (found in H_SWISH_LIKE or found.startswith("hard_swish")):
        return "hard-swish-variant"
    return "activation"


def _uniform_v1(context: RuleContext, items: list[Item]) -> bool:
    """V1 with ReLU6 in every layer that has an activation, other mistakes apart."""
    if V1_PAPER not in paper_of(context):
        return False
    functions = [
        slot.found.activation
        for slot in context.comparison.slots
        if slot.found is not None and slot.expected is not None and slot.expected.activation == "relu"
    ]
    return functions.count("relu") == 0 and 2 * functions.count("relu6") > len(functions)


def _expected(name: str, expected: str) -> str:
    if name == "bottleneck-activation":
        return "no activation: the bottleneck is linear"
    return name_of(expected) if expected != "none" else "no activation"


def _effect(name: str, found: str) -> str | None:
    """What the rule does not say: of a bottleneck's function, where it is no ReLU."""
    if name == "bottleneck-activation" and found not in ("relu", "relu6"):
        return "a function bends what the narrow tensor carries, which the paper keeps linear"
    return None


def _fix(name: str, expected: str) -> str | None:
    if name in ("bottleneck-activation", "final-activation", "activation-extra"):
        return None
    return f"use {name_of(expected)}" + (": x * ReLU6(x + 3) / 6" if expected == "hard_swish" else "")
