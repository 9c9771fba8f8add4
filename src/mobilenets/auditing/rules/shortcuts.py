"""Shortcuts that are missing, extra or other than the plain sum; and an activation after the sum."""

from __future__ import annotations

from mobilenets.auditing.rules.context import Diagnostic, Item, RuleContext
from mobilenets.auditing.rules.registry import ERROR, LOADS, TABLE, Aspect, check, diagnostic, grouped, name_of, rule
from mobilenets.auditing.structure.layers import Shortcut, ShortcutKind

RULE = "only where the block's stride is 1 and as many channels leave it as enter"
LEAVE_OUT = "leave the shortcut out unless stride == 1 and in_channels == out_channels"
PROJECTED = "the published network has no weights there, and the sum is another"
OTHER_SUM = LOADS + "the sum is another"
NAMES = {
    ShortcutKind.PROJECTED: "shortcut-projected",
    ShortcutKind.POOLED: "shortcut-downsampled",
    ShortcutKind.PADDED: "shortcut-padded",
    ShortcutKind.SCALED: "shortcut-scaled",
}
FOUND = {
    "shortcut-missing": "no shortcut",
    "shortcut-extra": "a shortcut",
    "shortcut-projected": "a shortcut through a convolution",
    "shortcut-downsampled": "a shortcut around a stride-2 step, its input made smaller to fit",
    "shortcut-padded": "a shortcut whose channels are padded or cut to fit",
    "shortcut-scaled": "a shortcut that is not the plain input: scaled, or gone when its branch is zeroed",
    "shortcut-place": "a shortcut from another layer",
}
INSTEAD = {
    "shortcut-projected": "add the block's input as it is: no convolution belongs where the stride is 1 and as many "
    "channels leave as enter",
    "shortcut-downsampled": "add the block's input as it is, and leave the block's stride at 1",
    "shortcut-padded": "add the block's input as it is, with all its channels",
}
"""The fix where a plain shortcut belongs and another kind was found."""


@check(Aspect.SHORTCUTS, reads=("shortcut",))
@rule(
    "shortcut-missing",
    ERROR,
    "a block without the shortcut that its stride and channels ask for",
    source=TABLE,
    effect=LOADS + "the block's input is not added",
    fix="add the block's input to its output where stride == 1 and in_channels == out_channels",
    measured=True,
)
@rule(
    "shortcut-extra",
    ERROR,
    "a shortcut in a block that has none in the paper",
    source=TABLE,
    effect=LOADS + "something is added where the published block ends with its projection",
    fix=LEAVE_OUT,
    measured=True,
)
@rule(
    "shortcut-projected",
    ERROR,
    "a shortcut through a convolution",
    source=TABLE,
    effect=PROJECTED,
    fix=LEAVE_OUT,
    measured=True,
)
@rule(
    "shortcut-downsampled",
    ERROR,
    "a shortcut around a stride-2 step, its input made smaller to fit",
    source=TABLE,
    effect=OTHER_SUM,
    fix=LEAVE_OUT,
    measured=True,
)
@rule(
    "shortcut-padded",
    ERROR,
    "a shortcut whose channels are padded or cut to fit",
    source=TABLE,
    effect=OTHER_SUM,
    fix=LEAVE_OUT,
)
@rule(
    "shortcut-scaled",
    ERROR,
    "a shortcut that is not the plain input: scaled, or gone when its branch is zeroed",
    source=TABLE,
    effect=OTHER_SUM,
    fix="add the block's input as it is",
)
@rule(
    "shortcut-place",
    ERROR,
    "a shortcut that starts at another layer than the block's first",
    source=TABLE,
    effect=OTHER_SUM,
    fix="add the block's own input: what enters its first layer",
)
def shortcuts(context: RuleContext) -> list[Diagnostic]:
    """Shortcuts by what is wrong with them, each kind once with all its places."""
    items = [item for item in context.items("shortcut") if item.both]
    diagnostics = []
    for (name, why), members in grouped(items, lambda item: (_name(context, item), _why(context, item))).items():
        asked = members[0].expected.shortcut is not None
        diagnostics.append(
            diagnostic(
                context,
                name,
                members,
                expected="the block's input added to its output" if asked else _no_shortcut(context),
                found=FOUND[name] + why,
                effect=_effect(members),
                fix=_fix(context, name, asked=asked),
                # What was measured are shortcuts where none belongs.
                measured=not asked or name == "shortcut-missing",
            )
        )
    return diagnostics


def _effect(members: list[Item]) -> str | None:
    """Layers on the shortcut have weights of their own."""
    weighted = any(
        item.found.shortcut and (item.found.shortcut.layers or item.found.shortcut.other) for item in members
    )
    return PROJECTED if weighted else None


def _fix(context: RuleContext, name: str, *, asked: bool) -> str | None:
    if asked and name in INSTEAD:
        return INSTEAD[name]
    return None if name in ("shortcut-missing", "shortcut-place", "shortcut-scaled") else _leave_out(context)


def _has_shortcuts(context: RuleContext) -> bool:
    return any(layer.shortcut is not None for layer in context.reference.chain.layers)


def _no_shortcut(context: RuleContext) -> str:
    return f"no shortcut: {RULE}" if _has_shortcuts(context) else "no shortcut: this network has none"


def _leave_out(context: RuleContext) -> str:
    if not _has_shortcuts(context):
        return "leave the shortcut out"
    return LEAVE_OUT


def _name(context: RuleContext, item: Item) -> str:
    expected, found = item.expected.shortcut, item.found.shortcut
    if found is None:
        return "shortcut-missing"
    if found.kind is ShortcutKind.IDENTITY:
        return "shortcut-extra" if expected is None else "shortcut-place"
    if _smaller(context, item, found):
        return "shortcut-downsampled"
    return NAMES[found.kind]


def _smaller(context: RuleContext, item: Item, found: Shortcut) -> bool:
    """It goes around a step that makes the map smaller."""
    around = any(layer.stride > 1 for layer in found.layers) or context.block_stride(item.block) > 1
    return found.kind is ShortcutKind.POOLED or (item.block > 0 and around)


def _why(context: RuleContext, item: Item) -> str:
    """The half of the condition that was looked at, where the other does not hold."""
    if item.found.shortcut is None or not item.block or item.expected.shortcut is not None:
        return ""
    same_size = context.block_stride(item.block) == 1
    same_channels = context.block_input(item.block) == context.block_output(item.block)
    if same_size and not same_channels:
        return " (taken on the stride alone: the channels differ)"
    if same_channels and not same_size:
        return " (taken on the channels alone: the stride is 2)"
    return "" if same_size else " (neither stride nor channels allow one)"


@check(Aspect.SHORTCUTS, reads=("shortcut.activation_after",))
@rule(
    "shortcut-activation",
    ERROR,
    "an activation on the sum of block and shortcut",
    source=TABLE,
    effect="what is negative in the narrow tensor is thrown away",
    fix="return the sum as it is: nothing follows the addition",
)
def after_the_sum(context: RuleContext) -> list[Diagnostic]:
    """An activation on the sum of block and shortcut: the bottleneck is not linear any more."""
    items = context.items("shortcut.activation_after")
    return [
        diagnostic(
            context,
            "shortcut-activation",
            members,
            expected="no activation after the sum" if expected == "none" else f"{name_of(expected)} after the sum",
            found=name_of(found),
        )
        for (expected, found), members in grouped(
            items, lambda item: (str(item.difference.expected), str(item.difference.found))
        ).items()
    ]
