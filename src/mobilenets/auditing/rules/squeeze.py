"""Squeeze-and-excitation: whether it is there, where it stands, how wide and by which functions."""

from __future__ import annotations

from mobilenets.auditing.rules.case import Case, Item
from mobilenets.auditing.rules.finding import Claim, Severity
from mobilenets.auditing.rules.wording import claim, grouped, name_of, pairs
from mobilenets.models.layers import make_divisible

SECTION = "arXiv 1905.02244, section 5.3"
REDUCTIONS = (2, 4, 8, 16, 24, 32)


def presence(case: Case) -> list[Claim]:
    """Squeeze-and-excitation in the wrong place of a block, missing, or where the table has none."""
    items = [item for item in case.items("squeeze") if item.both]
    missing = {item.block: item for item in items if item.found.squeeze is None}
    extra = {item.block: item for item in items if item.found.squeeze is not None}
    moved = [block for block in missing if block in extra and block]
    claims = []
    if moved:
        claims.append(
            claim(
                case,
                "se-place",
                [extra[block] for block in moved],
                follows=[missing[block] for block in moved],
                expected=f"behind the depthwise filter's activation ({missing[moved[0]].part} layer)",
                found=f"behind the {extra[moved[0]].part} layer",
                mend="put it between the depthwise activation and the projection",
            )
        )
    lost = [item for block, item in missing.items() if block not in moved]
    gained = [item for block, item in extra.items() if block not in moved]
    if lost:
        claims.append(
            claim(
                case,
                "se-missing",
                lost,
                expected="squeeze-and-excitation (SE marked in the table)",
                found="none",
                effect="the paper's accuracy rests on it",
                mend="add it behind the depthwise activation, reduction 4",
            )
        )
    if gained:
        claims.append(
            claim(
                case,
                "se-extra",
                gained,
                expected="no squeeze-and-excitation (SE not marked in the table)",
                found="one",
                mend="leave it out in these rows",
            )
        )
    return claims


def place(case: Case) -> list[Claim]:
    """It stands between norm and activation instead of behind both."""
    items = case.items("squeeze.before_activation")
    if not items:
        return []
    return [
        claim(
            case,
            "se-place",
            items,
            expected="behind the depthwise activation",
            found="between the batch norm and the activation",
            source=SECTION + "; TF-slim mobilenet_v3.py",
            effect="same counts, other answers: published weights don't fit",
            mend="apply the activation first, then squeeze-and-excitation",
        )
    ]


def width(case: Case) -> list[Claim]:
    """The width inside: not rounded, or a quarter of something else than the hidden channels."""
    claims = []
    for name, members in grouped(case.items("squeeze.channels"), lambda item: _width_name(case, item)).items():
        expected, found = pairs(members)
        words = {
            "se-rounding": "a quarter of the hidden channels, not rounded to 8",
            "se-width": "a part of other channels than the hidden ones",
            "se-reduction": "another reduction than 4",
        }
        claims.append(
            claim(
                case,
                name,
                members,
                expected=f"a quarter of the hidden channels, rounded to 8: {expected}",
                found=f"{words[name]}: {found}",
                source=SECTION + "; TF-slim mobilenet_v3.py rounds it with make_divisible",
                effect="published weights don't fit",
                mend="squeeze to make_divisible(hidden_channels / 4, 8)",
            )
        )
    return claims


def _width_name(case: Case, item: Item) -> str:
    assert item.slot is not None
    assert item.found.squeeze is not None
    inside, hidden = item.found.squeeze.channels, case.hidden(item.slot)
    if inside in (hidden // 4, round(hidden / 4), -(-hidden // 4), int(hidden / 4 + 4) // 8 * 8):
        return "se-rounding"
    around = {case.block_input(item.block), case.block_output(item.block)} - {None}
    if any(inside in (wide // 4, make_divisible(wide / 4), wide) for wide in around if wide):
        return "se-width"
    if any(inside in (hidden // reduction, make_divisible(hidden / reduction)) for reduction in REDUCTIONS):
        return "se-reduction"
    return "se-width"


def functions(case: Case) -> list[Claim]:
    """The gate and the activation inside, and layers of another form."""
    claims = []
    for (attribute, expected, found), members in grouped(
        case.items("squeeze.gate", "squeeze.activation"), _function_key
    ).items():
        gate = attribute == "squeeze.gate"
        claims.append(
            claim(
                case,
                "hard-sigmoid-variant" if gate else "se-activation",
                members,
                expected=f"{name_of(expected)} as the {'gate' if gate else 'activation inside'}",
                found=name_of(found),
                source=SECTION + "; TF-slim mobilenet_v3.py",
                effect="same counts, other answers: published weights don't fit",
                mend=f"use {name_of(expected)}" + (" (torch.nn.Hardsigmoid)" if expected == "hard_sigmoid" else ""),
            )
        )
    for (attribute, expected, found), members in grouped(
        case.items("squeeze.bias", "squeeze.norms"), _function_key
    ).items():
        what = "biases in its two layers" if attribute == "squeeze.bias" else "batch norms inside"
        claims.append(
            claim(
                case,
                "se-form",
                members,
                # Exporters leave out a bias that is zero, as a fresh network's are.
                severity=Severity.NOTE if case.is_file and attribute == "squeeze.bias" else Severity.ERROR,
                expected=f"{what}: {_amount(expected)}",
                found=_amount(found),
                source=SECTION + "; TF-slim mobilenet_v3.py",
                mend="two 1x1 layers with biases and without batch norm",
            )
        )
    return claims


def _function_key(item: Item) -> tuple[str, str, str]:
    one = item.difference
    return one.attribute, str(one.expected), str(one.found)


def _amount(value: str) -> str:
    return {"True": "yes", "False": "no", "0": "none"}.get(value, value)
