"""Activations: where none belongs, where one is missing, and functions that look alike."""

from __future__ import annotations

from mobilenets.auditing.rules.case import Item, RuleContext
from mobilenets.auditing.rules.finding import Diagnostic, Severity
from mobilenets.auditing.rules.wording import diagnostic, grouped, name_of, note, paper_of

H_SWISH_LIKE = ("swish", "gelu", "gelu_tanh", "mish", "hard_swish_half", "hard_swish_keras", "unknown")
V1_PAPER = "arXiv 1704.04861"
SIX = "activations have no upper bound; ReLU6 gives them one, so that 8-bit arithmetic stays precise"


def activations(context: RuleContext) -> list[Diagnostic]:
    """Activations by what is wrong, each pair of functions once with all its places."""
    items = [item for item in context.items("activation") if item.both]
    diagnostics = []
    for (name, expected, found), members in grouped(items, lambda item: _key(context, item, items)).items():
        if name == "v1-relu6":
            diagnostics.append(_v1_relu6(context, members))
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
                severity=Severity.NOTE if name == "final-activation" and context.is_file else Severity.ERROR,
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


def _v1_relu6(context: RuleContext, members: list[Item]) -> Diagnostic:
    return note(
        context,
        "v1-relu6",
        members,
        expected="ReLU, as the paper says",
        found="ReLU6 throughout, as in the authors' code and released weights",
        source="arXiv 1704.04861, section 3.2; TF-slim mobilenet_v1.py",
        fix="nothing; keep the one your weights were trained with",
    )


def _expected(name: str, expected: str) -> str:
    if name == "bottleneck-activation":
        return "no activation: the bottleneck is linear"
    return name_of(expected) if expected != "none" else "no activation"


def _effect(name: str, found: str) -> str:
    return {
        "bottleneck-activation": "it throws away what is negative in the narrow tensor"
        if found in ("relu", "relu6")
        else "a function bends what the narrow tensor carries, which the paper keeps linear",
        "activation-missing": "two linear layers in a row are one: the network can express less",
        "relu-for-relu6": SIX,
        "hard-swish-variant": "published weights answer otherwise through another function",
        "final-activation": "cross-entropy losses take logits: an activation here squashes them twice",
    }.get(name, "published weights answer otherwise through another function")


def _fix(name: str, expected: str) -> str:
    if name == "bottleneck-activation":
        return "remove the activation after the projection's batch norm"
    if name in ("final-activation", "activation-extra"):
        return "remove the activation"
    return f"use {name_of(expected)}" + (": x * ReLU6(x + 3) / 6" if expected == "hard_swish" else "")
