"""Wrong numbers of channels, told apart by the mistake that makes them: rounding, hidden width, head, V3's table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mobilenets.auditing.rules.case import Case, Item
from mobilenets.auditing.rules.finding import Claim
from mobilenets.auditing.rules.wording import OTHER_SHAPES, claim, grouped, pairs
from mobilenets.auditing.structure.layers import ShortcutKind
from mobilenets.auditing.structure.published import reference
from mobilenets.models.layers import make_divisible

Rounding = Callable[[float], int]

CODE = "TF-slim mobilenet.py, make_divisible: to the nearest multiple of 8, never more than 10 % down"
ENOUGH = 0.6
"""Share of the layers a rounding would change that must have changed so: other mistakes may cover the rest."""


def _nearest(channels: float) -> int:
    return max(8, int(channels + 4) // 8 * 8)


def _python_nearest(channels: float) -> int:
    return max(8, round(channels / 8) * 8)


def _down(channels: float) -> int:
    return max(8, int(channels) // 8 * 8)


def _up(channels: float) -> int:
    return max(8, -(-int(channels) // 8) * 8)


UNROUNDED: tuple[Rounding, ...] = (int, round, lambda channels: int(channels + 0.999))
WITHOUT_TEN_PERCENT: tuple[Rounding, ...] = (_nearest, _python_nearest, _down, _up)
ROUNDINGS = (*UNROUNDED, *WITHOUT_TEN_PERCENT, make_divisible)


def _channel_items(case: Case) -> list[Item]:
    """Open differences in channels of layers both networks have, the classifier's classes apart."""
    return [item for item in case.items("out_channels") if item.both and item.part != "classifier"]


def _table_channels(case: Case) -> dict[int, int]:
    """The table's own channels, before any width multiplier, by the index in the reference."""
    published = case.reference
    whole = reference(published.name, width_mult=1.0, image_size=published.chain.image_size)
    return {index: layer.out_channels for index, layer in enumerate(whole.chain.layers)}


def _table(case: Case, table: dict[int, int], item: Item) -> int | None:
    assert item.slot is not None
    return None if item.slot.reference_index is None else table.get(item.slot.reference_index)


def _expands(items: Sequence[Item]) -> list[Item]:
    return [item for item in items if item.part == "expand"]


def _ratio_widths(item: Item, channels: int | None) -> set[int]:
    """What an expansion of `channels` by the table's ratio gives, under any rounding."""
    if channels is None or item.place is None or not item.place.expand_ratio:
        return set()
    return {rounding(channels * item.place.expand_ratio) for rounding in ROUNDINGS}


def _followers(case: Case, items: Sequence[Item]) -> list[Item]:
    """Differences that come of other channels around them: squeezes a quarter as wide, shortcuts that fit or not."""
    blocks = {item.block for item in items if item.block}
    squeezes = [item for item in case.items("squeeze.channels") if item.block in blocks and _quarter(case, item)]
    shortcuts = [item for item in case.items("shortcut") if item.both and _fits(case, item)]
    # What leaves a block or the stem enters the next one, whose shortcut may then fit or not.
    blocks |= {item.block + 1 for item in items if item.block or item.part == "stem"}
    return squeezes + [item for item in shortcuts if item.block in blocks]


def _quarter(case: Case, item: Item) -> bool:
    assert item.slot is not None
    assert item.found.squeeze is not None
    return item.found.squeeze.channels == make_divisible(case.hidden(item.slot) / 4)


def _fits(case: Case, item: Item) -> bool:
    """The shortcut is there, or not, as the found channels and strides ask, though not as the table's do.

    One through a convolution, a pool or channels of zeros is a fault of its own, whatever the channels.
    """
    entering, leaving = case.block_input(item.block), case.block_output(item.block)
    asked = case.block_stride(item.block) == 1 and entering == leaving
    found = item.found.shortcut
    if found is not None and found.kind is not ShortcutKind.IDENTITY:
        return False
    return asked == (found is not None)


def hidden_from_output(case: Case) -> list[Claim]:
    """The hidden width is t times the channels that leave the block instead of those that enter it."""
    items = []
    for item in _expands(_channel_items(case)):
        inside, outside = case.block_input(item.block), case.block_output(item.block)
        found = item.found.out_channels
        if inside != outside and found in _ratio_widths(item, outside) and found not in _ratio_widths(item, inside):
            items.append(item)
    if not items:
        return []
    expected, found_widths = pairs(items)
    return [
        claim(
            case,
            "hidden-from-output",
            items,
            follows=_followers(case, items),
            expected=f"hidden width t x INPUT channels: {expected}",
            found=f"t x OUTPUT channels: {found_widths}",
            effect=OTHER_SHAPES,
            mend="compute hidden = in_channels * expand_ratio",
        )
    ]


def scaled_table(case: Case) -> list[Claim]:
    """V3 at a width other than 1 with the expansions of the scaled table instead of a ratio of the scaled input.

    It is how torchvision scales V3; the released weights of width 0.75 have the other widths.
    """
    if not case.reference.name.startswith("mobilenet_v3") or case.reference.width_mult == 1:
        return []
    table, width = _table_channels(case), case.reference.width_mult
    items = []
    for item in _expands(_channel_items(case)):
        base = _table(case, table, item)
        if base is not None and item.found.out_channels == make_divisible(base * width):
            items.append(item)
    if len(items) < 2:
        return []
    expected, found = pairs(items)
    return [
        claim(
            case,
            "v3-scaled-table",
            items,
            follows=_followers(case, items),
            expected=f"exp sizes as a ratio of the scaled input: {expected}",
            found=f"the table's exp sizes times the width: {found}",
            source="TF-slim mobilenet_v3.py and its released 0.75 weights; torchvision scales the table instead",
            effect="published V3 weights of this width don't fit",
            mend="compute exp = make_divisible(in_channels * row.exp / row.in) from the scaled input",
        )
    ]


def head(case: Case) -> list[Claim]:
    """The last wide layer: scaled below its full width, not scaled above, or of another width altogether."""
    return [_head(case, item) for item in _channel_items(case) if _is_head(case, item)]


def _is_head(case: Case, item: Item) -> bool:
    """The layer that keeps its width below 1: V3's penultimate, otherwise the head."""
    parts = {place.part for place in case.reference.places}
    return item.part == ("penultimate" if "penultimate" in parts else "head")


def _head(case: Case, item: Item) -> Claim:
    width, expected, found = case.reference.width_mult, item.expected.out_channels, item.found.out_channels
    if width < 1 and found in {rounding(expected * width) for rounding in ROUNDINGS}:
        return claim(
            case,
            "head-scaled",
            [item],
            expected=f"{expected:,} channels: the head does not shrink below width 1",
            found=f"{found:,} channels, scaled by {width:g}",
            effect="fewer features for the classifier; published weights don't fit",
            mend=f"build it with make_divisible({expected} * max(1.0, width_mult))",
        )
    if width > 1 and expected in {rounding(found * width) for rounding in ROUNDINGS}:
        return claim(
            case,
            "head-not-scaled",
            [item],
            expected=f"{expected:,} channels: above width 1 the head grows",
            found=f"{found:,} channels",
            mend=f"build it with make_divisible({found} * max(1.0, width_mult))",
        )
    if width > 1 and found == int(found / width * width) and _unrounded_head(case, item):
        return claim(
            case,
            "rounding-missing",
            [item],
            expected=f"{expected:,}",
            found=f"{found:,} channels",
            source=CODE,
            mend="round channel counts with make_divisible(channels, 8)",
        )
    return claim(
        case,
        "head-width",
        [item],
        expected=f"{expected:,} channels",
        found=f"{found:,} channels",
        effect=OTHER_SHAPES,
        mend=f"make this layer {expected:,} wide",
    )


def _unrounded_head(case: Case, item: Item) -> bool:
    table = _table(case, _table_channels(case), item)
    return table is not None and item.found.out_channels in {
        rounding(table * case.reference.width_mult) for rounding in UNROUNDED
    }


def rounding(case: Case) -> list[Claim]:
    """Channel counts not rounded to multiples of 8, or rounded to the nearest without the 10 % rule."""
    table, width = _table_channels(case), case.reference.width_mult
    if not table or width == 1:
        return []
    candidates = [("rounding-missing", one) for one in UNROUNDED] + [
        ("rounding-ten-percent", one) for one in WITHOUT_TEN_PERCENT
    ]
    explained = [(len(items), rule, items) for rule, one in candidates if (items := _rounded_so(case, table, one))]
    if not explained:
        return []
    _, rule, items = max(explained, key=lambda candidate: candidate[0])
    hidden = [item for item in _expands(_channel_items(case)) if _follows_input(case, item, table)]
    expected, found = pairs(items)
    everywhere = [*items, *hidden]
    return [
        claim(
            case,
            rule,
            items,
            follows=[*hidden, *_followers(case, everywhere)],
            expected=f"multiples of 8: {expected}"
            if rule == "rounding-missing"
            else f"never more than 10 % down: {expected}",
            found=f"{'unrounded' if rule == 'rounding-missing' else 'rounded without the 10 % rule'}: {found}",
            source=CODE,
            effect="published weights of this width don't fit",
            mend="round channel counts with make_divisible(channels, 8), which never goes below 90 % of the unrounded",
        )
    ]


def _rounded_so(case: Case, table: dict[int, int], rounding: Rounding) -> list[Item]:
    """The differences this rounding explains, when it explains enough of what it would change."""
    changed, explained = 0, []
    opened = {item.difference.slot: item for item in _channel_items(case)}
    for slot in case.comparison.slots:
        place = case.place(slot)
        if place is None or place.part in ("expand", "spatial", "classifier", "attention") or slot.expected is None:
            continue
        predicted = rounding(table[slot.reference_index or 0] * _factor(case, place.part))
        if predicted == slot.expected.out_channels or slot.found is None:
            continue
        changed += 1
        item = opened.get(slot.index)
        if item is not None and item.found.out_channels == predicted:
            explained.append(item)
    return explained if len(explained) >= ENOUGH * changed else []


def _factor(case: Case, part: str) -> float:
    """The width a part is scaled by: the widest head does not shrink."""
    width = case.reference.width_mult
    has_penultimate = any(place.part == "penultimate" for place in case.reference.places)
    return max(1.0, width) if part == ("penultimate" if has_penultimate else "head") else width


def _follows_input(case: Case, item: Item, table: dict[int, int] | None = None) -> bool:
    """The hidden width is right for the channels that really enter the block (or scaled like the table's row)."""
    found, base = item.found.out_channels, _table(case, table, item) if table else None
    scaled = set() if base is None else {rounding(base * case.reference.width_mult) for rounding in ROUNDINGS}
    return found in _ratio_widths(item, case.block_input(item.block)) | scaled


def expand_ratio(case: Case) -> list[Claim]:
    """Another expansion ratio than the table's t, the same in every block that differs."""
    claims = []
    items = [item for item in _expands(_channel_items(case)) if case.block_input(item.block)]
    items = [item for item in items if not _follows_input(case, item)]
    for (expected, found), members in grouped(items, lambda item: _ratios(case, item)).items():
        if len(members) > 1 and found == int(found):
            claims.append(
                claim(
                    case,
                    "expand-ratio",
                    members,
                    follows=_followers(case, members),
                    expected=f"expansion t={expected:g}",
                    found=f"t={found:g}",
                    mend=f"expand by the table's t={expected:g}",
                )
            )
    return claims


def _ratios(case: Case, item: Item) -> tuple[float, float]:
    entering = case.block_input(item.block) or 1
    return (item.place.expand_ratio if item.place else 0.0, item.found.out_channels / entering)


def channels(case: Case) -> list[Claim]:
    """Any other number of channels: one claim for layers of a row that differ alike, with the hidden widths after."""
    items = _channel_items(case)
    hidden = [item for item in _expands(items) if _follows_input(case, item)]
    causes = [item for item in items if not any(item is one for one in hidden)]
    if not causes and hidden:
        causes, hidden = hidden, []
    groups = grouped(causes, lambda item: (item.place.source if item.place else "", *_values(item)))
    claims = []
    for number, ((_, expected, found), members) in enumerate(groups.items()):
        follows = [one for one in hidden if _entered_from(members, one)] if number < len(groups) - 1 else hidden
        hidden = [one for one in hidden if not any(one is other for other in follows)]
        claims.append(
            claim(
                case,
                "channels",
                members,
                follows=[*follows, *_followers(case, [*members, *follows])],
                expected=f"{expected} channels",
                found=f"{found} channels",
                effect=OTHER_SHAPES,
                mend=f"make it {expected} wide",
            )
        )
    return claims


def _values(item: Item) -> tuple[int, int]:
    return item.expected.out_channels, item.found.out_channels


def _entered_from(members: Sequence[Item], hidden: Item) -> bool:
    """The hidden width is of a block one of these layers leads into."""
    return any(hidden.block in (item.block, item.block + 1) for item in members)
