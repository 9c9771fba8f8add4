"""Which layer's output is the first that an exported file computes otherwise than the network.

The network's traced graph is cut after one of its calls, what remains is exported and run exactly as the whole was, and
its output compared; bisection finds the first call whose output differs while that of the one before does not.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from mobilenets.artifact.container import write_artifact
from mobilenets.errors import BackendError, ExportError
from mobilenets.exporters.prepare import trace
from mobilenets.exporters.subject import ExportTarget, Subject, Translate, describe, translator
from mobilenets.exporters.verify import (
    TOLERANCES,
    Parity,
    VerifiedExport,
    compare_answers,
    describe_failure,
    golden_pairs,
    golden_positions,
    network_predict,
    opened,
)
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Progress

IMAGES = 4
"""A wrong layer shows on any image; few keep the maps between layers small."""


@dataclass(frozen=True)
class LayerDifference:
    """The first call whose output differs: its name for people, and how far it is off there."""

    layer: str
    parity: Parity


def first_difference(
    model: nn.Module,
    preprocessing: Preprocessing,
    images: NDArray[np.uint8],
    *,
    kind: str,
    translate: Translate,
    precision: str,
    tolerance: float,
) -> LayerDifference | None:
    """Find the first layer whose output a translator or its runtime gets wrong.

    Args:
        model: normalized images float32 `[B, C, H, W]` to logits.
        preprocessing: how images become its input.
        images: uint8 `[N, H, W, C]`; the first few are asked.
        kind: the format, one of `artifact.description.KINDS`.
        translate: its translator.
        precision: what is exported as.
        tolerance: as for `compare_answers`.

    Returns:
        The difference, or None where it can't be pinned to a layer: the network's way depends on its input, or no
        part of it differs when exported by itself.

    Raises:
        ExportError: a part of the network can't be exported.
        BackendError: a part can't be opened in the runtime.
    """
    try:
        network = trace(copy.deepcopy(model).cpu().eval())
    except TraceError:
        return None
    asked = images[:IMAGES]
    calls = _tensor_calls(network, preprocessing.normalize(asked[:1]))

    def parity_after(call: fx.Node) -> Parity:
        prefix = _prefix(network, call)
        expected = network_predict(copy.deepcopy(prefix), preprocessing)(asked)
        outputs = [str(place) for place in range(expected.shape[1])]
        exported = translate(prefix, preprocessing, precision=precision)
        with opened(
            exported, kind, precision=precision, preprocessing=preprocessing, classes=outputs, threads=1
        ) as backend:
            return compare_answers(expected, backend.predict(asked), tolerance)

    found = parity_after(calls[-1])
    if found.holds:
        return None
    # Throughout: the output of calls[wrong] differs, and that of every call up to `right` does not.
    right, wrong = -1, len(calls) - 1
    while wrong - right > 1:
        middle = (right + wrong) // 2
        parity = parity_after(calls[middle])
        if parity.holds:
            right = middle
        else:
            wrong, found = middle, parity
    return LayerDifference(_name(network, calls[wrong]), found)


def _tensor_calls(network: fx.GraphModule, images: NDArray[np.float32]) -> list[fx.Node]:
    """The calls that make floating-point tensors with a row for each image, in order: the places to cut."""
    made: list[fx.Node] = []

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            result = super().run_node(n)
            if n.op.startswith("call") and isinstance(result, Tensor) and result.is_floating_point() and result.dim():
                made.append(n)
            return result

    with torch.no_grad():
        Recorder(network).run(torch.from_numpy(images))
    return made


def _prefix(network: fx.GraphModule, last: fx.Node) -> fx.GraphModule:
    """The network up to and with one call, its output flattened to `[B, N]` as logits are."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in network.graph.nodes:
        copies[node] = graph.node_copy(node, lambda used: copies[used])
        if node is last:
            break
    graph.output(graph.call_function(torch.flatten, (copies[last], 1)))
    prefix = fx.GraphModule(network, graph)
    prefix.graph.eliminate_dead_code()
    prefix.recompile()
    return prefix.eval()


def _name(network: fx.GraphModule, call: fx.Node) -> str:
    """`blocks.3.depthwise.conv (Conv2d)`; an operation without a layer is named with the layer before it."""
    if call.op == "call_module":
        return f"{call.target} ({type(network.get_submodule(str(call.target))).__name__})"
    operation = call.target if isinstance(call.target, str) else getattr(call.target, "__name__", str(call.target))
    layer = next((node for node in _upstream(call) if node.op == "call_module"), None)
    return f"{operation} at the input" if layer is None else f"{operation} after {layer.target}"


def _upstream(call: fx.Node) -> list[fx.Node]:
    """What stands before a call in the graph, nearest first."""
    before = list(call.graph.nodes)
    return before[: before.index(call)][::-1]


REJECTED = ".rejected"


def reject(subject: Subject, target: ExportTarget, verified: VerifiedExport, progress: Progress) -> str:
    """Keep a file that failed beside the place it was meant for, and say what is wrong with it."""
    place = target.out.with_name(f"{target.out.stem}{REJECTED}{target.out.suffix}")
    asked = golden_positions(verified.images)
    images = verified.images.batch(asked)
    # With the network's own answers, so that whoever opens the file is told that it does not give them.
    golden = golden_pairs(images, verified.expected[asked], target.precision)
    description = describe(subject, target.to, target.precision, verified.exported, golden)
    write_artifact(place, verified.exported.payload, description)
    progress.message("the file's answers differ: looking for the first layer that does")
    failure = describe_failure(verified.parity)
    try:
        found = first_difference(
            subject.model,
            subject.preprocessing,
            images,
            kind=target.to,
            translate=translator(target.to),
            precision=target.precision,
            tolerance=TOLERANCES[target.precision],
        )
    except (ExportError, BackendError) as error:
        where = f"which layer is the first can't be told ({error})"
    else:
        where = (
            "no layer does when it is exported in part"
            if found is None
            else f"the first layer to differ is {found.layer}, by {found.parity.max_difference:.2g}"
        )
    kept = f"{target.out} is as it was" if target.out.exists() else f"nothing is written to {target.out}"
    return f"{failure}; {where}. Don't use {place}; {kept}"
