"""Which published MobileNet a chain is nearest to: the network, its width and its strides; and how sure that is.

What kinds of layers there are narrows the names down, the channels give the width (also where they were rounded
incorrectly), and the alignment decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from statistics import median

from mobilenets.auditing.structure.align import GAP_EXTEND, GAP_OPEN, Alignment, alignment
from mobilenets.auditing.structure.differences import NetworkComparison, NetworkDifference, differences
from mobilenets.auditing.structure.layers import Chain, ChainLayer, Reference
from mobilenets.auditing.structure.published import reference
from mobilenets.auditing.structure.variants import VARIANTS, catalogue, published_widths
from mobilenets.errors import AuditError
from mobilenets.models.registry import meant_names

WIDTHS = (0.1, 0.25, 0.35, 0.5, 0.75, 1.0, 1.1, 1.2, 1.25, 1.3, 1.4, 1.5, 2.0)
"""Width multipliers in public use; another one is taken when none of these is near."""
BACKGROUND = 1001
"""Outputs of TensorFlow's networks: 1,000 classes, and one for the background before them."""

_NAMES_OUTLINED = 5
_UNIFORM = 4
_NAMES_ALIGNED = 3
_WIDTHS_ALIGNED = 2
_ODD_WIDTH = 1.0
"""What an unpublished width costs in the choice: a rounding fault is likelier than such a width."""
_VARIANT = 0.5
"""What another's variant costs: a fault in the paper's network is likelier than one in that."""
_DIFFERENCE = 0.02
_FOLDED_NORM = 0.1
"""What a norm folded into the last layer may cost, where that has to be told from a classifier, which has none."""
_CONVENTIONS = ("eps", "momentum", "padding", "dropout")
"""Differences between one framework's copy of a network and another's."""


@dataclass(frozen=True)
class ReferenceCandidate:
    """A published network aligned with the found one.

    `cost` is the alignment's, with what an odd width adds, and a little for every difference: it decides between
    networks that differ in details only.
    """

    reference: Reference
    alignment: Alignment
    differences: tuple[NetworkDifference, ...]
    cost: float

    @property
    def label(self) -> str:
        """For people: `mobilenet_v2 width 0.75`."""
        return f"{self.reference.name} width {self.reference.width_mult:g}"


def compare(
    found: Chain, *, expect: str | None = None, width_mult: float | None = None, image_size: int | None = None
) -> NetworkComparison:
    """Lay a network beside the published one nearest to it, or the one expected.

    Args:
        found: the network.
        expect: name of the published network; None finds the nearest.
        width_mult: its width; None finds the nearest.
        image_size: side of the images it is for, in pixels; None takes those it was read with.

    Raises:
        AuditError: there is no published network of that name; the message suggests one.
    """
    names = tuple(catalogue())
    if expect is not None and expect not in names:
        raise AuditError(_unknown(expect, names))
    wanted = names if expect is None else (expect,)
    ranked = _ranked(found, wanted, width_mult, image_size)
    features = _as_features(found)
    if features is not None:
        others = _ranked(features, wanted, width_mult, image_size)
        if _is_nearer_as_features(others[0], ranked[0]):
            found, ranked = features, others
    best = ranked[0]
    rival = _rival(ranked, by_name=expect is None)
    sure = expect is not None and width_mult is not None
    return NetworkComparison(
        found=found,
        reference=best.reference,
        slots=best.alignment.slots,
        differences=best.differences,
        certainty=1.0 if sure else _certainty(best, rival, found),
        runner_up="" if rival is None else rival.label,
        expected_by_user=expect is not None,
    )


def _ranked(
    found: Chain, names: Sequence[str], width_mult: float | None, image_size: int | None
) -> list[ReferenceCandidate]:
    """The networks that may be meant, the nearest first."""
    form = _Form.of(found, image_size)
    outlines = _outlines(found, names, form)
    candidates = [candidate for outline in outlines for candidate in _at_widths(outline, found, width_mult, form)]
    return sorted(candidates, key=lambda candidate: candidate.cost)


def _as_features(found: Chain) -> Chain | None:
    """The chain read as one that ends with features instead of a classifier; None where it can't be.

    With its norm folded, a layer of features looks like a classifier: in front of the pool, or with the function behind
    it that the other layers have.
    """
    if found.num_classes is None:
        return None
    last, functions = found.layers[-1], {layer.activation for layer in found.layers[:-1]} - {"none"}
    if found.final not in functions and (last.pooled or found.final != "none"):
        return None
    return replace(
        found,
        layers=(*found.layers[:-1], replace(last, activation=found.final)),
        final="none",
        features_only=True,
    )


def _is_nearer_as_features(features: ReferenceCandidate, classifier: ReferenceCandidate) -> bool:
    """Whether the published network tells that the last layer is one of features: its classifier is still to come."""
    last = features.alignment.slots[-1]
    return features.cost <= classifier.cost + _FOLDED_NORM and last.found is None


@dataclass(frozen=True)
class _Form:
    """What a reference takes over from the found network, so that it makes no difference: image size and classes."""

    image_size: int
    num_classes: int

    @classmethod
    def of(cls, found: Chain, image_size: int | None) -> _Form:
        classes = found.num_classes or 1000
        size = found.image_size if image_size is None else image_size
        return cls(size, 1000 if classes == BACKGROUND else classes)

    def usual(self, name: str) -> Reference:
        """The network at width 1, or at the one width a variant has."""
        return self.reference(name, next(iter(published_widths(name)), 1.0))

    def reference(self, name: str, width_mult: float, *, imagenet_strides: bool | None = True) -> Reference:
        return reference(
            name,
            width_mult=width_mult,
            image_size=self.image_size,
            num_classes=self.num_classes,
            imagenet_strides=imagenet_strides,
        )


def _unknown(name: str, names: Sequence[str]) -> str:
    close = meant_names(name, names)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(names)}"
    return f"there is no published network {name!r} to expect: {hint}"


@dataclass(frozen=True)
class _Outline:
    """A published name at its usual width, aligned with the found network whatever the channels."""

    usual: Reference
    alignment: Alignment


def _outlines(found: Chain, names: Iterable[str], form: _Form) -> list[_Outline]:
    """The names that may be meant: by the kinds of their layers first, then by the order of these."""
    own = _kinds(found.layers)
    every = [form.usual(name) for name in names]
    similar = sorted(every, key=lambda usual: _unlike(own, _kinds(usual.chain.layers)))[:_NAMES_OUTLINED]
    outlines = [
        _Outline(usual, alignment(usual.chain.layers, usual.places, found.layers, by_width=False)) for usual in similar
    ]
    return sorted(outlines, key=lambda outline: outline.alignment.cost)[:_NAMES_ALIGNED]


def _kinds(layers: Iterable[ChainLayer]) -> Counter[tuple[object, ...]]:
    """How many layers of each kind, and of each activation, squeeze and shortcut, there are."""
    kinds: Counter[tuple[object, ...]] = Counter()
    for layer in layers:
        kinds["layer", layer.grouping, layer.kernel, layer.pooled, layer.attention is not None] += 1
        kinds["activation", layer.activation] += 1
        kinds["squeeze", layer.squeeze is not None] += 1
        kinds["linear", layer.activation == "none", layer.kernel > 1] += 1
    return kinds


def _unlike(one: Counter[tuple[object, ...]], other: Counter[tuple[object, ...]]) -> int:
    """How many layers are of other kinds; a function that is wrong everywhere is one fault, and counts as a few."""
    unlike = 0
    for kind in one.keys() | other.keys():
        difference = abs(one[kind] - other[kind])
        unlike += difference if kind[0] == "layer" else min(difference, _UNIFORM)
    return unlike


def _at_widths(outline: _Outline, found: Chain, width_mult: float | None, form: _Form) -> list[ReferenceCandidate]:
    """The network at the widths that fit, each with the strides that fit."""
    name = outline.usual.name
    widths: Sequence[float] = (width_mult,) if width_mult is not None else published_widths(name)
    return [
        _with_strides(name, width, found, form, odd=width_mult is None and not _is_truncated(outline, width))
        for width in widths or _likely_widths(outline)
    ]


def _is_truncated(outline: _Outline, width: float) -> bool:
    """Every layer between blocks has exactly the table's channels times the width: no mistake leads there."""
    return all(
        slot.found.out_channels in (int(slot.expected.out_channels * width), round(slot.expected.out_channels * width))
        for slot in outline.alignment.slots
        if slot.expected is not None
        and slot.found is not None
        and outline.usual.places[slot.reference_index or 0].part in ("stem", "project")
    )


def _with_strides(name: str, width: float, found: Chain, form: _Form, *, odd: bool) -> ReferenceCandidate:
    """The nearest of the table's strides, those planned for this size and those for small images; or the first."""
    extra = (_ODD_WIDTH if odd and width not in WIDTHS else 0.0) + (_VARIANT if name in VARIANTS else 0.0)
    plans = {
        plan.chain.layers: plan
        for plan in (form.reference(name, width, imagenet_strides=strides) for strides in (False, None, True))
    }
    candidates = []
    for plan in reversed(plans.values()):
        aligned = alignment(plan.chain.layers, plan.places, found.layers)
        unlike = differences(aligned.slots, plan, found)
        faults = sum(one.attribute not in _CONVENTIONS for one in unlike)
        if not faults:
            # Nothing is likelier than the network itself, variant or odd width.
            return ReferenceCandidate(plan, aligned, unlike, 0.0)
        cost = aligned.cost + extra + _DIFFERENCE * faults
        candidates.append(ReferenceCandidate(plan, aligned, unlike, cost))
    return min(candidates, key=lambda candidate: candidate.cost)


def _likely_widths(outline: _Outline) -> list[float]:
    """The public widths nearest to what the channels say, and that estimate itself when none is near."""
    estimate = _estimated_width(outline)
    near = sorted(WIDTHS, key=lambda width: abs(width - estimate) / width)[:_WIDTHS_ALIGNED]
    if abs(near[0] - estimate) / near[0] > 0.04:
        near += [round(estimate * 20) / 20, round(estimate, 2)]
    return near


def _estimated_width(outline: _Outline) -> float:
    """The median ratio of found to full-width channels, wide layers counting more: they are rounded least."""
    ratios = []
    for slot in outline.alignment.slots:
        expected, own = slot.expected, slot.found
        if expected is None or own is None:
            continue
        # Heads do not shrink below width 1, and what is inside a block has faults of its own.
        if outline.usual.places[slot.reference_index or 0].part in ("stem", "project"):
            ratios.append((own.out_channels / expected.out_channels, expected.out_channels))
    ratios.sort()
    half, seen = sum(weight for _, weight in ratios) / 2, 0
    for ratio, weight in ratios:
        seen += weight
        if seen >= half:
            return min(max(ratio, 0.05), 4.0)
    return 1.0


def _rival(ranked: Sequence[ReferenceCandidate], *, by_name: bool) -> ReferenceCandidate | None:
    """The next nearest that is another network: of another width where the name is given, else of another paper's name.

    Variants of one published network are no rivals of it: which of them it is nearest to is a detail.
    """
    best = ranked[0].reference
    for candidate in ranked[1:]:
        other = candidate.reference
        same = _paper(other.name) == _paper(best.name) if by_name else other.width_mult == best.width_mult
        if not same and other.chain.layers != best.chain.layers:
            return candidate
    return None


def _paper(name: str) -> str:
    return VARIANTS[name].base if name in VARIANTS else name


def _certainty(best: ReferenceCandidate, rival: ReferenceCandidate | None, found: Chain) -> float:
    """1 for a published network, 0 when nothing fits: how near it is, and how much nearer than the next.

    A chain half as far away as one that shares no layer is no MobileNet at all.
    """
    if not best.differences and best.alignment.cost == 0:
        return 1.0
    layers = len(found.layers) + len(best.reference.chain.layers)
    nothing_shared = 2 * GAP_OPEN + GAP_EXTEND * layers
    near = max(0.0, 1.0 - 2.0 * best.alignment.cost / nothing_shared)
    margin = 1.0 if rival is None or rival.cost == 0 else max(0.0, 1.0 - (best.cost / rival.cost) ** 2)
    return round(near * (1.0 + margin) / 2.0, 3)


# A published network whose first layers a chain begins with: what a detector or segmenter is built on.


ENOUGH = 0.6
"""Share of a network's layers up to its head that make a chain one built on it: others share a stem and two blocks."""


@dataclass(frozen=True)
class Backbone:
    """The published network a chain begins with.

    Attributes:
        name, width_mult: of the published network.
        shared: how many layers, from the stem on, have its filters and channels.
        layers: how many it has up to the end of its last block.
        more: how many layers follow the shared ones in the chain.
    """

    name: str
    width_mult: float
    shared: int
    layers: int
    more: int


def find_backbone(found: Chain) -> Backbone | None:
    """The published network of which the chain has the most first layers; None where no network's share is enough.

    Strides do not count: segmenters replace the last by dilation.
    """
    begun = [_begun(found, name, width) for name in catalogue() for width in _widths(found, name)]
    best = max(begun, key=lambda one: (one.shared, one.shared / one.layers), default=None)
    return best if best is not None and best.shared >= ENOUGH * best.layers else None


def _widths(found: Chain, name: str) -> list[float]:
    """The public widths nearest to what the layers say; none where these are of another form than the network's."""
    body = _body(name, next(iter(published_widths(name)), 1.0), found.image_size)
    similar = list(takewhile(lambda pair: _form(pair[0]) == _form(pair[1]), zip(body, found.layers, strict=False)))
    if len(similar) < ENOUGH * len(body):
        return []
    ratio = median(own.out_channels / layer.out_channels for layer, own in similar)
    return list(published_widths(name)) or sorted(WIDTHS, key=lambda width: abs(width - ratio) / width)[:2]


def _begun(found: Chain, name: str, width_mult: float) -> Backbone:
    body = _body(name, width_mult, found.image_size)
    pairs = zip(body, found.layers, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: _wide_form(pair[0]) == _wide_form(pair[1]), pairs))
    return Backbone(name, width_mult, shared, len(body), len(found.layers) - shared)


def _body(name: str, width_mult: float, image_size: int) -> list[ChainLayer]:
    """The published layers from the stem to the end of the last block."""
    published = reference(name, width_mult=width_mult, image_size=image_size)
    placed = zip(published.chain.layers, published.places, strict=True)
    return [layer for layer, place in placed if place.block or place.part == "stem"]


def _form(layer: ChainLayer) -> tuple[object, ...]:
    return layer.grouping, layer.kernel, layer.squeeze is None, layer.attention is None


def _wide_form(layer: ChainLayer) -> tuple[object, ...]:
    return *_form(layer), layer.out_channels
