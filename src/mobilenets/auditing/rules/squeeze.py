"""Squeeze-and-excitation: whether it is there, where it stands, how wide and by which functions."""

from __future__ import annotations

from mobilenets.auditing.rules.case import Case, Item
from mobilenets.auditing.rules.finding import Claim, Severity
from mobilenets.auditing.rules.wording import LOADS, OTHER_SHAPES, claim, grouped, name_of, pairs, source_of
from mobilenets.auditing.structure.layers import SqueezeExcite
from mobilenets.models.layers import make_divisible

SECTION = "arXiv 1905.02244, section 5.3"
OTHER_FORM = "published weights don't fit: they have biases and no norms there"
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
    lost = [item for item in items if item.found.squeeze is None and item.block not in moved]
    gained = [item for item in items if item.found.squeeze is not None and item.block not in moved]
    claims += [_on_head(case, item) for item in gained if _is_papers_head(case, item)]
    gained = [item for item in gained if not _is_papers_head(case, item)]
    if lost:
        claims.append(
            claim(
                case,
                "se-missing",
                lost,
                expected="squeeze-and-excitation (SE marked in the table)",
                found="none",
                effect="the weights published for it have no place",
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


def _is_papers_head(case: Case, item: Item) -> bool:
    """The last 1x1 convolution of V3-Small, the one row outside the blocks for which a table marks SE."""
    return case.reference.name == "mobilenet_v3_small" and item.part == "head"


def _on_head(case: Case, item: Item) -> Claim:
    return claim(
        case,
        "se-extra",
        [item],
        severity=Severity.NOTE,
        expected="none: the released code and weights leave it out",
        found="squeeze-and-excitation on the last 1x1 convolution, where the paper's table 2 marks it",
        source=f"{source_of(case, [item])}, SE; TF-slim mobilenet_v3.py builds none there",
        effect="the released weights have none for it",
        mend="nothing to follow the paper; leave it out to load released weights",
    )


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
            effect=LOADS + "the gate sees and scales values the activation has not yet cut",
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
                effect=OTHER_SHAPES,
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
                effect=LOADS + "the factors are others",
                mend=f"use {name_of(expected)}" + (" (torch.nn.Hardsigmoid)" if expected == "hard_sigmoid" else ""),
            )
        )
    return claims


def form(case: Case) -> list[Claim]:
    """Batch norms inside, or layers without biases: also of one that stands where none belongs."""
    items = case.items("squeeze.bias", "squeeze.norms", "squeeze.other")
    by_slot = grouped(items, lambda item: item.difference.slot)
    claims = []
    for found, groups in grouped(
        [members[0] for members in by_slot.values()], lambda item: _form(item.found.squeeze)
    ).items():
        members = [item for first in groups for item in by_slot[first.difference.slot]]
        norms = any(item.difference.attribute == "squeeze.norms" for item in members)
        claims.append(
            claim(
                case,
                "se-form",
                members,
                # Exporters leave out a bias that is zero, as a fresh network's are.
                severity=Severity.NOTE if case.is_file and not norms else Severity.ERROR,
                expected="two 1x1 layers with biases and without batch norm inside",
                found=found,
                source=SECTION + "; TF-slim mobilenet_v3.py",
                effect=OTHER_FORM,
                mend="two 1x1 layers with biases and without batch norm",
            )
        )
    return claims


def _form(squeeze: SqueezeExcite | None) -> str:
    """`no biases, 2 batch norms inside`."""
    assert squeeze is not None
    biases = "" if squeeze.bias else "a bias in one of its layers only" if squeeze.other > 0 else "no biases"
    norms = f"{squeeze.norms} batch norm{'s' if squeeze.norms > 1 else ''} inside" if squeeze.norms else ""
    return ", ".join(filter(None, [biases, norms])) or "weights of another number"


def pool(case: Case) -> list[Claim]:
    """A mean over a window of fixed size in place of the whole map."""
    items = case.items("squeeze.fixed_pool")
    if not items:
        return []
    windows = ", ".join(dict.fromkeys(f"{side}x{side}" for item in items if (side := item.difference.found)))
    return [
        claim(
            case,
            "se-pool-fixed",
            items,
            expected="a mean over the whole map",
            found=f"a window fixed in the code: {windows}",
            source="Hu et al. 2018, arXiv 1709.01507, section 3.1: global average pooling",
            effect="images of another size fail, or are pooled in pieces",
            mend="use nn.AdaptiveAvgPool2d(1), or x.mean((2, 3), keepdim=True)",
        )
    ]


def _function_key(item: Item) -> tuple[str, str, str]:
    one = item.difference
    return one.attribute, str(one.expected), str(one.found)
