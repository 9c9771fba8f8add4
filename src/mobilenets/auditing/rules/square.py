"""What the square layers of the papers have no field for: images, maps and filters with two sides."""

from __future__ import annotations

from mobilenets.auditing.rules.case import Item, RuleContext
from mobilenets.auditing.rules.finding import Diagnostic
from mobilenets.auditing.rules.wording import OTHER_SHAPES, diagnostic, grouped, note, paper_of
from mobilenets.auditing.structure.cost import layer_cost


def filters(context: RuleContext) -> list[Diagnostic]:
    """Filters with two sides, 1x3 say, with the kernel and the multiply-adds that come of them."""
    items = [item for item in context.items("other") if item.both and _sides(context, item) is not None]
    kernels = {item.difference.slot: item for item in context.items("kernel")}
    diagnostics = []
    for (expected, sides), members in grouped(
        items, lambda item: (item.expected.kernel, _sides(context, item) or (0, 0))
    ).items():
        diagnostics.append(
            diagnostic(
                context,
                "kernel",
                members,
                follows=[kernels[item.difference.slot] for item in members if item.difference.slot in kernels],
                expected=f"a {expected}x{expected} filter",
                found=f"a filter that is not square: {sides[0]} by {sides[1]}, or the other way round",
                effect=OTHER_SHAPES,
                fix=f"set kernel_size={expected}, padding={(expected - 1) // 2}",
            )
        )
    return diagnostics


def _sides(context: RuleContext, item: Item) -> tuple[int, int] | None:
    """The shorter and the longer side of a filter, from the weights it has fewer than a square one."""
    difference = item.difference.found
    assert isinstance(difference, tuple)
    weights, macs = difference
    longer = item.found.kernel
    # Of norms with parameters of their own number no multiply-adds come.
    if not (weights < 0 and macs and longer > 1) or item.slot is None or item.slot.found_index is None:
        return None
    entering = context.found_inputs[item.slot.found_index]
    of_a_row = layer_cost(item.found, entering, 1).weights // longer
    return longer + weights // of_a_row, longer


def maps(context: RuleContext) -> list[Diagnostic]:
    """Maps with two sides: of such images, a note; of square ones, strides or zeros that differ by direction."""
    items = [item for item in context.items("other") if item.both and item.difference.found[0] == 0]  # type: ignore[index]
    if not items:
        return []
    if context.found.oblong:
        return [
            note(
                context,
                "image-shape",
                items,
                expected=f"square images, of {context.found.image_size} pixels: the published figures are theirs",
                found="images that are not square, with maps of the same shape",
                fix="nothing: the layers are the same",
                source=paper_of(context),
                # Maps of the same height may still be other maps than the chain says.
                follows=context.items("enters"),
            )
        ]
    return [
        diagnostic(
            context,
            "map-shape",
            items,
            follows=context.items("enters"),
            expected="square maps: strides and zeros alike in both directions",
            found="maps that are not square from here on",
            fix="give the layer in which it begins the same stride and padding in both directions",
            source=paper_of(context),
            effect="the maps behind have another size than the table's",
        )
    ]
