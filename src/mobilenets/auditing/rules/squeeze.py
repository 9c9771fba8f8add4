"""Squeeze-and-excitation: whether it is there, where it stands, how wide and by which functions."""

from __future__ import annotations

from mobilenets.auditing.rules.context import Diagnostic, Item, RuleContext
from mobilenets.auditing.rules.registry import (
    ERROR,
    LOADS,
    NOTE,
    OTHER_SHAPES,
    TABLE,
    Aspect,
    check,
    diagnostic,
    grouped,
    name_of,
    pairs,
    rule,
    source_of,
)
from mobilenets.auditing.structure.layers import SqueezeExcite
from mobilenets.models.layers import make_divisible

SECTION = "arXiv 1905.02244, section 5.3; TF-slim mobilenet_v3.py"
ROUNDED = SECTION + " rounds it with make_divisible"
OTHER_FORM = "published weights don't fit: they have biases and no norms there"
REDUCTIONS = (2, 4, 8, 16, 24, 32)


@check(Aspect.SQUEEZE, reads=("squeeze",), reports=("se-place",))
@rule(
    "se-missing",
    ERROR,
    "no squeeze-and-excitation where the table marks SE",
    source=TABLE,
    effect="the weights published for it have no place",
    fix="add it behind the depthwise activation, reduction 4",
)
@rule(
    "se-extra",
    ERROR,
    "squeeze-and-excitation where the table marks none",
    source=TABLE,
    effect="the published network has no weights for it",
    fix="leave it out in these rows",
)
def presence(context: RuleContext) -> list[Diagnostic]:
    """Squeeze-and-excitation in the wrong place of a block, missing, or where the table has none."""
    items = [item for item in context.items("squeeze") if item.both]
    missing = {item.block: item for item in items if item.found.squeeze is None}
    extra = {item.block: item for item in items if item.found.squeeze is not None}
    moved = [block for block in missing if block in extra and block]
    diagnostics = []
    if moved:
        diagnostics.append(
            diagnostic(
                context,
                "se-place",
                [extra[block] for block in moved],
                follows=[missing[block] for block in moved],
                source=source_of(context, [extra[block] for block in moved]),
                effect="the gate scales another tensor than the published one",
                expected=f"behind the depthwise filter's activation ({missing[moved[0]].part} layer)",
                found=f"behind the {extra[moved[0]].part} layer",
                fix="put it between the depthwise activation and the projection",
            )
        )
    lost = [item for item in items if item.found.squeeze is None and item.block not in moved]
    gained = [item for item in items if item.found.squeeze is not None and item.block not in moved]
    diagnostics += [_on_head(context, item) for item in gained if _is_papers_head(context, item)]
    gained = [item for item in gained if not _is_papers_head(context, item)]
    if lost:
        diagnostics.append(
            diagnostic(
                context,
                "se-missing",
                lost,
                expected="squeeze-and-excitation (SE marked in the table)",
                found="none",
            )
        )
    if gained:
        diagnostics.append(
            diagnostic(
                context,
                "se-extra",
                gained,
                expected="no squeeze-and-excitation (SE not marked in the table)",
                found="one",
            )
        )
    return diagnostics


def _is_papers_head(context: RuleContext, item: Item) -> bool:
    """The last 1x1 convolution of V3-Small, the one row outside the blocks for which a table marks SE."""
    return context.reference.name == "mobilenet_v3_small" and item.part == "head"


def _on_head(context: RuleContext, item: Item) -> Diagnostic:
    return diagnostic(
        context,
        "se-extra",
        [item],
        severity=NOTE,
        expected="none: the released code and weights leave it out",
        found="squeeze-and-excitation on the last 1x1 convolution, where the paper's table 2 marks it",
        source=f"{source_of(context, [item])}, SE; TF-slim mobilenet_v3.py builds none there",
        effect="the released weights have none for it",
        fix="nothing to follow the paper; leave it out to load released weights",
    )


@check(Aspect.SQUEEZE, reads=("squeeze.before_activation",))
@rule(
    "se-place",
    ERROR,
    "squeeze-and-excitation in another place than behind the depthwise activation",
    source=SECTION,
    effect=LOADS + "the gate sees and scales values the activation has not yet cut",
    fix="apply the activation first, then squeeze-and-excitation",
)
def place(context: RuleContext) -> list[Diagnostic]:
    """It stands between norm and activation instead of behind both."""
    items = context.items("squeeze.before_activation")
    if not items:
        return []
    return [
        diagnostic(
            context,
            "se-place",
            items,
            expected="behind the depthwise activation",
            found="between the batch norm and the activation",
        )
    ]


@check(Aspect.SQUEEZE, reads=("squeeze.channels",))
@rule(
    "se-rounding",
    ERROR,
    "an inner width of a quarter of the hidden channels, not rounded to 8",
    source=ROUNDED,
    effect=OTHER_SHAPES,
    fix="squeeze to make_divisible(hidden_channels / 4, 8)",
)
@rule(
    "se-width",
    ERROR,
    "an inner width taken from other channels than the hidden ones",
    source=ROUNDED,
    effect=OTHER_SHAPES,
    fix="squeeze to make_divisible(hidden_channels / 4, 8)",
)
@rule(
    "se-reduction",
    ERROR,
    "another reduction than 4",
    source=ROUNDED,
    effect=OTHER_SHAPES,
    fix="squeeze to make_divisible(hidden_channels / 4, 8)",
)
def width(context: RuleContext) -> list[Diagnostic]:
    """The width inside: not rounded, or a quarter of something else than the hidden channels."""
    diagnostics = []
    for name, members in grouped(context.items("squeeze.channels"), lambda item: _width_name(context, item)).items():
        expected, found = pairs(members)
        words = {
            "se-rounding": "a quarter of the hidden channels, not rounded to 8",
            "se-width": "a part of other channels than the hidden ones",
            "se-reduction": "another reduction than 4",
        }
        diagnostics.append(
            diagnostic(
                context,
                name,
                members,
                expected=f"a quarter of the hidden channels, rounded to 8: {expected}",
                found=f"{words[name]}: {found}",
                source=ROUNDED,
                effect=OTHER_SHAPES,
                fix="squeeze to make_divisible(hidden_channels / 4, 8)",
            )
        )
    return diagnostics


def _width_name(context: RuleContext, item: Item) -> str:
    assert item.slot is not None
    assert item.found.squeeze is not None
    inside, hidden = item.found.squeeze.channels, context.hidden(item.slot)
    if inside in (hidden // 4, round(hidden / 4), -(-hidden // 4), int(hidden / 4 + 4) // 8 * 8):
        return "se-rounding"
    around = {context.block_input(item.block), context.block_output(item.block)} - {None}
    if any(inside in (wide // 4, make_divisible(wide / 4), wide) for wide in around if wide):
        return "se-width"
    if any(inside in (hidden // reduction, make_divisible(hidden / reduction)) for reduction in REDUCTIONS):
        return "se-reduction"
    return "se-width"


@check(Aspect.SQUEEZE, reads=("squeeze.gate", "squeeze.activation"))
@rule(
    "hard-sigmoid-variant",
    ERROR,
    "another gate than the hard sigmoid ReLU6(x + 3) / 6",
    source=SECTION,
    effect=LOADS + "the factors are others",
    fix="use h-sigmoid ReLU6(x + 3) / 6 (torch.nn.Hardsigmoid)",
)
@rule(
    "se-activation",
    ERROR,
    "another activation inside than ReLU",
    source=SECTION,
    effect=LOADS + "the factors are others",
    fix="use ReLU",
)
def functions(context: RuleContext) -> list[Diagnostic]:
    """The gate and the activation inside, and layers of another form."""
    diagnostics = []
    for (attribute, expected, found), members in grouped(
        context.items("squeeze.gate", "squeeze.activation"), _function_key
    ).items():
        gate = attribute == "squeeze.gate"
        diagnostics.append(
            diagnostic(
                context,
                "hard-sigmoid-variant" if gate else "se-activation",
                members,
                expected=f"{name_of(expected)} as the {'gate' if gate else 'activation inside'}",
                found=name_of(found),
                source=SECTION,
                effect=LOADS + "the factors are others",
                fix=f"use {name_of(expected)}" + (" (torch.nn.Hardsigmoid)" if expected == "hard_sigmoid" else ""),
            )
        )
    return diagnostics


@check(Aspect.SQUEEZE, reads=("squeeze.bias", "squeeze.norms", "squeeze.other"))
@rule(
    "se-form",
    ERROR,
    "squeeze-and-excitation with batch norm inside, or without biases",
    source=SECTION,
    effect=OTHER_FORM,
    fix="two 1x1 layers with biases and without batch norm",
)
def form(context: RuleContext) -> list[Diagnostic]:
    """Batch norms inside, or layers without biases: also of one that stands where none belongs."""
    items = context.items("squeeze.bias", "squeeze.norms", "squeeze.other")
    by_slot = grouped(items, lambda item: item.difference.slot)
    diagnostics = []
    for found, groups in grouped(
        [members[0] for members in by_slot.values()], lambda item: _form(item.found.squeeze)
    ).items():
        members = [item for first in groups for item in by_slot[first.difference.slot]]
        norms = any(item.difference.attribute == "squeeze.norms" for item in members)
        diagnostics.append(
            diagnostic(
                context,
                "se-form",
                members,
                # Exporters leave out a bias that is zero, as a fresh network's are.
                severity=NOTE if context.is_file and not norms else None,
                expected="two 1x1 layers with biases and without batch norm inside",
                found=found,
            )
        )
    return diagnostics


def _form(squeeze: SqueezeExcite | None) -> str:
    """`no biases, 2 batch norms inside`."""
    assert squeeze is not None
    biases = "" if squeeze.bias else "a bias in one of its layers only" if squeeze.other > 0 else "no biases"
    norms = f"{squeeze.norms} batch norm{'s' if squeeze.norms > 1 else ''} inside" if squeeze.norms else ""
    return ", ".join(filter(None, [biases, norms])) or "weights of another number"


@check(Aspect.SQUEEZE, reads=("squeeze.fixed_pool",))
@rule(
    "se-pool-fixed",
    ERROR,
    "a mean over a window of fixed size in place of the whole map",
    source="Hu et al. 2018, arXiv 1709.01507, section 3.1: global average pooling",
    effect="images of another size fail, or are pooled in pieces",
    fix="use nn.AdaptiveAvgPool2d(1), or x.mean((2, 3), keepdim=True)",
)
def pool(context: RuleContext) -> list[Diagnostic]:
    """A mean over a window of fixed size in place of the whole map."""
    items = context.items("squeeze.fixed_pool")
    if not items:
        return []
    windows = ", ".join(dict.fromkeys(f"{side}x{side}" for item in items if (side := item.difference.found)))
    return [
        diagnostic(
            context,
            "se-pool-fixed",
            items,
            expected="a mean over the whole map",
            found=f"a window fixed in the code: {windows}",
        )
    ]


def _function_key(item: Item) -> tuple[str, str, str]:
    one = item.difference
    return one.attribute, str(one.expected), str(one.found)
