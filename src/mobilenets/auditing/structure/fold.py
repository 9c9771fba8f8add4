"""A graph folded into a chain of layers, by structure alone: no class, module or attribute name is read.

The points every path from input to output passes through cut the network into single nodes, which `Draft` takes one by
one, and regions: between the two points a sum is a shortcut around a branch, a product is squeeze-and-excitation,
products of matrices are attention. Branches are folded the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from mobilenets.auditing.graph.nodes import Add, Conv, Graph, Linear, Multiply, Node, Pointwise
from mobilenets.auditing.structure.cost import entering, layer_cost
from mobilenets.auditing.structure.draft import SHARED, Draft, Own, describe
from mobilenets.auditing.structure.layers import Chain, ChainLayer, Pooling, Shortcut, UnplacedOperator
from mobilenets.auditing.structure.simplify import simplify
from mobilenets.auditing.structure.wiring import (
    Wiring,
    attention_unit,
    is_attention,
    is_blur,
    node_macs,
    shortcut_kind,
    squeeze_excite,
)
from mobilenets.errors import AuditError

# Layers held against the graph they were folded from, so that what their fields do not say is not lost.
#
# A layer's costs follow from its fields and from what the layers before it leave. Where the graph has another map,
# another count of weights or of multiply-adds, the layer is told: a folded network then costs what its graph costs.


def resolved(
    layers: Sequence[ChainLayer], own: Sequence[Own], channels: int, size: int, pooling: str
) -> tuple[ChainLayer, ...]:
    """The layers with `enters` and `other` set where the graph is not what the other fields come to.

    Args:
        layers: in order.
        own: what the graph says of each.
        channels, size: of the map that enters the first, the side in pixels.
        pooling: kind of `Pooling` in front of the first pooled layer.
    """
    found = []
    for layer, seen in zip(layers, own, strict=True):
        if entering(layer, channels, size, pooling) != (seen.channels, seen.size):
            layer = replace(layer, enters=(seen.channels, seen.size))
        layer = _with_other(layer, seen)
        after = layer_cost(layer, seen.channels, seen.size)
        channels, size = after.out_channels, after.out_size
        found.append(layer)
    return tuple(found)


def _with_other(layer: ChainLayer, seen: Own) -> ChainLayer:
    """The layer with what its convolution has beyond its fields: of a filter or map that is not square."""
    if seen.weights is None or seen.macs is None:
        return layer
    bare = layer_cost(replace(layer, squeeze=None, other=(0, 0)), seen.channels, seen.size)
    weights, macs = seen.weights - bare.weights, seen.macs - bare.macs
    return replace(layer, other=(layer.other[0] + weights, layer.other[1] + macs))


FILES = ("ONNX", "TensorFlow Lite")
"""Front ends that read files: shapes are fixed, and dropout is gone."""


def fold(graph: Graph) -> Chain:
    """Fold a network's graph into its chain of layers.

    Raises:
        AuditError: no convolution lies between input and output.
    """
    is_file = graph.front_end in FILES
    wiring = simplify(graph)
    draft = Draft(wiring, is_file)
    _fold_way(draft, wiring.input, wiring.output)
    draft.finish()
    if not any(isinstance(wiring.nodes[name].operator, Conv) for name in draft.placed):
        raise AuditError("no convolutions lead from the image to the answer: not an image network a MobileNet could be")
    _gather_leftovers(draft)
    layers, final = _classifier_apart(draft)
    pooling = draft.pooling or Pooling("other", _last_map_size(wiring), "")
    return Chain(
        layers=resolved(layers, draft.own, graph.input_shape[1], graph.input_shape[2], pooling.kind),
        in_channels=graph.input_shape[1],
        image_size=graph.input_shape[2],
        pooling=pooling,
        dropout=_dropout(draft, is_file=is_file),
        drop_path=max((place.rate for place in wiring.dropouts if place.whole), default=0.0),
        final=final,
        parameters=graph.parameters,
        macs=_macs(wiring, graph.input_shape[0], is_file=is_file),
        unfolded=tuple(draft.strays),
        folded_norms=_norms_are_folded(layers, is_file=is_file),
        answers_in_maps=_is_of_maps(wiring.shape(wiring.output)),
        oblong=graph.input_shape[2] != graph.input_shape[3],
    )


def _is_of_maps(shape: tuple[int, ...]) -> bool:
    """Whether an answer has places: a vector has none, nor has a map of one place."""
    return len(shape) > 2 and any(size > 1 for size in shape[2:])


def _fold_way(draft: Draft, source: str, sink: str) -> None:
    """Fold what lies between two points, the first not included."""
    wiring = draft.wiring
    members = wiring.between(source, sink)
    place = {name: index for index, name in enumerate(members)}
    for start, end in pairwise(wiring.waypoints(members)):
        inside = [wiring.nodes[name] for name in members[place[start] + 1 : place[end]]]
        if inside or _reads_twice(wiring.nodes[end], start):
            _fold_region(draft, start, wiring.nodes[end], inside)
        else:
            draft.add(wiring.nodes[end])


def _reads_twice(node: Node, start: str) -> bool:
    return isinstance(node.operator, Add | Multiply) and node.inputs.count(start) > 1


def _fold_region(draft: Draft, start: str, end: Node, inside: Sequence[Node]) -> None:
    ways = [draft.wiring.between(start, name) for name in dict.fromkeys(end.inputs)]
    ways = [way for way in ways if way]
    region = [*inside, end]
    if isinstance(end.operator, Add) and len(ways) == 2:
        _fold_sum(draft, start, end, ways)
    elif isinstance(end.operator, Multiply) and len(ways) == 2 and _fold_squeeze(draft, start, end, ways):
        return
    elif is_attention(region):
        shape = draft.wiring.shape(start)
        draft.add_attention(attention_unit(region, shape, draft.wiring.input_shape[0]), shape)
        draft.placed.update(node.name for node in region)
    else:
        _fold_widest(draft, start, end, ways)


def _fold_squeeze(draft: Draft, start: str, end: Node, ways: Sequence[tuple[str, ...]]) -> bool:
    """Take a product as squeeze-and-excitation on the last layer, if it is that."""
    wiring = draft.wiring
    through, gate = sorted(ways, key=lambda way: math.prod(wiring.shape(way[-1])[2:]), reverse=True)
    if len(through) > len(gate):
        # On a map of one place both factors have the same shape; the gate is the longer way.
        through, gate = gate, through
    functions = [wiring.nodes[name] for name in through[1:]]
    found = squeeze_excite([wiring.nodes[name] for name in gate[1:]])
    if found is None or not draft.takes_squeeze:
        return False
    if not all(isinstance(node.operator, Pointwise) for node in functions):
        return False
    for node in functions:
        draft.add(node)
        draft.strays.append(UnplacedOperator(node.path, "the gate is computed from the values before it"))
    if draft.is_file:
        # A file has one size of images: its window over the whole map is the mean it was exported from.
        found = replace(found, fixed_pool=0)
    if not any(wiring.nodes[name].parameters for name in gate[1:]):
        draft.strays.append(UnplacedOperator(found.path, SHARED, found.other))
        found = replace(found, other=0)
    draft.amend(squeeze=found)
    draft.placed.update((*gate[1:], end.name))
    return True


def _fold_sum(draft: Draft, start: str, end: Node, ways: Sequence[tuple[str, ...]]) -> None:
    """Take a sum as a shortcut around the branch with the most convolutions."""
    wiring = draft.wiring
    branch, shortcut = sorted(ways, key=lambda way: _weighted(wiring, way), reverse=True)
    before = len(draft.layers)
    _fold_branch(draft, start, branch[-1])
    span = len(draft.layers) - before
    way = [wiring.nodes[name] for name in shortcut[1:]]
    if span == 0 or draft.layers[-1].shortcut is not None:
        _add_strays(draft, [*way, end], "a sum beside the chain")
        return
    kind = shortcut_kind(way, wiring.shape(start))
    layers, other = _on_shortcut(draft, start, way, draft.own[before])
    draft.placed.update((*shortcut[1:], end.name))
    draft.amend(shortcut=Shortcut(kind, span, layers, other, path=end.path))


def _fold_branch(draft: Draft, start: str, sink: str) -> None:
    draft.at_branch = bool(draft.layers)
    _fold_way(draft, start, sink)
    draft.at_branch = False


def _on_shortcut(draft: Draft, start: str, way: Sequence[Node], entry: Own) -> tuple[tuple[ChainLayer, ...], int]:
    """The convolutions of a shortcut with their norms, and the parameters of whatever else stands on it.

    `entry`: what enters the block the shortcut goes around.
    """
    side = Draft(draft.wiring, draft.is_file)
    if way:
        _fold_way(side, start, way[-1].name)
        side.finish()
    layers = resolved(side.layers, side.own, entry.channels, entry.size, "global")
    return layers, sum(stray.parameters for stray in side.strays)


def _fold_widest(draft: Draft, start: str, end: Node, ways: Sequence[tuple[str, ...]]) -> None:
    """Follow the branch with the most convolutions through a region of unknown kind; the others have no place."""
    wiring = draft.wiring
    main, *others = sorted(ways, key=lambda way: _weighted(wiring, way), reverse=True)
    _fold_branch(draft, start, main[-1])
    kept = set(main)
    for way in others:
        nodes = [wiring.nodes[name] for name in way[1:] if name not in kept]
        _add_strays(draft, nodes, f"beside the chain, joined by {describe(end)}")
    draft.stray(end, f"{describe(end)} of {len(ways)} ways")


def _add_strays(draft: Draft, nodes: Sequence[Node], where: str) -> None:
    for node in nodes:
        if node.parameters or isinstance(node.operator, Conv | Linear | Add):
            draft.stray(node, f"{describe(node)} {where}")


def _weighted(wiring: Wiring, way: Sequence[str]) -> tuple[int, int]:
    """How much of a network a way is: its convolutions, then its nodes."""
    convolutions = sum(isinstance(wiring.nodes[name].operator, Conv | Linear) for name in way[1:])
    return convolutions, len(way)


def _gather_leftovers(draft: Draft) -> None:
    """Whatever owns parameters and was not placed."""
    for node in (*draft.wiring.nodes.values(), *draft.wiring.dead):
        if node.parameters and node.name not in draft.placed:
            dead = node.name not in draft.wiring.nodes
            draft.stray(node, f"{describe(node)} that does not reach the answer" if dead else describe(node))


def _classifier_apart(draft: Draft) -> tuple[tuple[ChainLayer, ...], str]:
    """The layers, and the function after the last: an activation behind the classifier belongs to the answer.

    Behind a norm, or where nothing was pooled, it is that of a layer of features and no classifier's.
    """
    last = draft.layers[-1]
    if last.norms or draft.pooling is None:
        return tuple(draft.layers), draft.final
    if draft.final != "none" or last.activation == "none":
        return tuple(draft.layers), draft.final
    return (*draft.layers[:-1], replace(last, activation="none")), last.activation


def _last_map_size(wiring: Wiring) -> int:
    shape = wiring.shape(wiring.output)
    return shape[2] if len(shape) == 4 else 1


def _dropout(draft: Draft, *, is_file: bool) -> float | None:
    """The rate before the classifier: of the dropouts behind the last layer before it."""
    position = draft.wiring.position
    weighted = [name for name in draft.placed if name in position and _is_weighted(draft.wiring, name)]
    before_last = sorted(position[name] for name in weighted)[-2:-1] or [-1]
    rates = []
    for place in draft.wiring.dropouts:
        if place.whole:
            continue
        if position.get(place.source, -1) >= before_last[0]:
            rates.append(place.rate)
        elif place.rate:
            draft.strays.append(UnplacedOperator(place.path, f"dropout of {place.rate:g} inside the network"))
    return max(rates, default=None if is_file else 0.0)


def _is_weighted(wiring: Wiring, name: str) -> bool:
    return isinstance(wiring.nodes[name].operator, Conv | Linear)


def _macs(wiring: Wiring, batch: int, *, is_file: bool) -> int:
    nodes = [node for node in wiring.nodes.values() if not is_blur(node, wiring, is_file=is_file)]
    # A head beside the one that was read is run too, and named among what the chain has no place for.
    return sum(node_macs(node, batch) for node in (*nodes, *(node for node in wiring.dead if node.parameters)))


def _norms_are_folded(layers: Sequence[ChainLayer], *, is_file: bool) -> bool:
    """Whether the convolutions have taken their norms in: no norm is left, and the bias it leaves is there.

    Exporters drop biases that are zero, as those of a fresh network are: in a file a missing bias says nothing.
    """
    plain = [layer for layer in layers if layer.attention is None and not layer.pooled]
    return not any(layer.norms for layer in plain) and (is_file or all(layer.bias for layer in plain))
