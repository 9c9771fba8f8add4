"""Activations: where none belongs, where one is missing, and functions that look alike."""

from __future__ import annotations

from mobilenets.auditing.rules.case import Case, Item
from mobilenets.auditing.rules.finding import Claim, Severity
from mobilenets.auditing.rules.wording import claim, grouped, name_of, note, paper_of

H_SWISH_LIKE = ("swish", "gelu", "gelu_tanh", "mish", "hard_swish_half", "hard_swish_keras", "unknown")
V1_PAPER = "arXiv 1704.04861"
SIX = "activations have no upper bound; ReLU6 gives them one, so that 8-bit arithmetic stays precise"


def activations(case: Case) -> list[Claim]:
    """Activations by what is wrong, each pair of functions once with all its places."""
    items = [item for item in case.items("activation") if item.both]
    claims = []
    for (name, expected, found), members in grouped(items, lambda item: _key(case, item, items)).items():
        if name == "v1-relu6":
            claims.append(_v1_relu6(case, members))
            continue
        claims.append(
            claim(
                case,
                name,
                members,
                expected=_expected(name, expected),
                found=name_of(found) if found != "none" else "no activation",
                effect=_effect(name, found),
                mend=_mend(name, expected),
                severity=Severity.NOTE if name == "final-activation" and case.is_file else Severity.ERROR,
            )
        )
    return claims


def _key(case: Case, item: Item, items: list[Item]) -> tuple[str, str, str]:
    expected, found = item.expected.activation, item.found.activation
    return _name(case, item, items), expected, found


def _name(case: Case, item: Item, items: list[Item]) -> str:
    expected, found = item.expected.activation, item.found.activation
    if item.part == "classifier":
        return "final-activation"
    if expected == "none":
        return "bottleneck-activation" if item.part == "project" else "activation-extra"
    if found == "none":
        return "activation-missing"
    if (expected, found) == ("relu", "relu6"):
        return "v1-relu6" if _uniform_v1(case, items) else "relu6-for-relu"
    if (expected, found) == ("relu6", "relu"):
        return "relu-for-relu6"
    if expected == "hard_swish" and (found in H_SWISH_LIKE or found.startswith("hard_swish")):
        return "hard-swish-variant"
    return "activation"


def _uniform_v1(case: Case, items: list[Item]) -> bool:
    """V1 with ReLU6 in every layer that has an activation, other mistakes apart."""
    if V1_PAPER not in paper_of(case):
        return False
    functions = [
        slot.found.activation
        for slot in case.comparison.slots
        if slot.found is not None and slot.expected is not None and slot.expected.activation == "relu"
    ]
    return functions.count("relu") == 0 and 2 * functions.count("relu6") > len(functions)


def _v1_relu6(case: Case, members: list[Item]) -> Claim:
    return note(
        case,
        "v1-relu6",
        members,
        expected="ReLU, as the paper says",
        found="ReLU6 throughout, as in the authors' code and released weights",
        source="arXiv 1704.04861, section 3.2; TF-slim mobilenet_v1.py",
        mend="nothing; keep the one your weights were trained with",
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


def _mend(name: str, expected: str) -> str:
    if name == "bottleneck-activation":
        return "remove the activation after the projection's batch norm"
    if name in ("final-activation", "activation-extra"):
        return "remove the activation"
    return f"use {name_of(expected)}" + (": x * ReLU6(x + 3) / 6" if expected == "hard_swish" else "")
