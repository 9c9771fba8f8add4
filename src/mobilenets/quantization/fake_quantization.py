"""A network whose forward pass rounds as an 8-bit one does, and whose weights are those of the float network.

What an integer runtime will round is rounded here, and gradients pass the rounding unchanged (straight-through): so
training finds weights that suffer less from it. Source: Jacob et al. 2018 (arXiv 1712.05877), section 3; where the
values are rounded follows what NNCF does to an ONNX file: the inputs of convolutions, linear layers, sums, products and
pools, each filter with a scale of its own.

The network is traced by torch.fx, so the same code serves every MobileNet here. Batch norm is folded into the filters
before they are rounded, as every exporter folds it, with its statistics frozen: its scale and shift still learn.
"""

from __future__ import annotations

import operator
from collections.abc import Collection

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from mobilenets.errors import QuantizationError

AVERAGED_OVER = 100  # batches that the range of an activation remembers, as in Jacob et al.
_TINY = 1e-8  # of a range, so that a layer that is all zeros has a scale to divide by
_LAYERS = (nn.Conv2d, nn.Linear)
_POOLS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d)
_ARITHMETIC = (operator.add, operator.iadd, operator.mul, operator.imul, torch.add, torch.mul, torch.bmm, torch.matmul)
_METHODS = ("add", "add_", "mul", "mul_", "mean")
_RESHAPING = ("flatten", "reshape", "view", "transpose", "unflatten", "permute", "contiguous")


class ActivationRounding(nn.Module):
    """Rounds a tensor to `bits` bits within a range that follows what it sees in training.

    Args:
        bits: 2 to 8.
        symmetric: whether the range reaches as far down as up; a tensor without negative values then uses the
            positive half only, with all its steps. Otherwise the range is where the values are, with 0 in it.
    """

    low: Tensor
    high: Tensor
    batches: Tensor

    def __init__(self, bits: int, *, symmetric: bool) -> None:
        super().__init__()
        self.steps = 2**bits - 1
        self.symmetric = symmetric
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, ...]`, rounded; in training mode the range moves first."""
        if self.training:
            self._observe(x.detach())
        scale, zero = self._grid()
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, self.steps)

    def _observe(self, x: Tensor) -> None:
        # Extremes of each image, not of the batch: one image in hundreds may reach ten times as far as all others, and
        # would decide by its place in the order whether the others are rounded to nothing.
        low, high = (extreme.mean() for extreme in torch.aminmax(x.flatten(1), dim=1))
        # A plain mean until there are enough batches: the first one counts no more than the others.
        self.batches += 1
        share = 1.0 / self.batches.clamp(max=AVERAGED_OVER).to(self.low.dtype)
        self.low.lerp_(low.to(self.low.dtype), share)
        self.high.lerp_(high.to(self.high.dtype), share)

    def _grid(self) -> tuple[Tensor, Tensor]:
        """Scale, and the step that stands for 0.

        That step is a whole one, so the range is widened to fit, as NNCF does, and never cut: h-swish has most of its
        negative values at the very end of its range, -0.375, and half a step less would be a bias on all of them.
        """
        low, high = self.low.clamp(max=0.0), self.high.clamp(min=0.0)
        if self.symmetric:
            high = torch.maximum(-low, high)
            low = torch.where(low < 0, -high, low)
        step = ((high - low) / self.steps).clamp(min=_TINY)
        zero = (-low / step).ceil().clamp(0, self.steps - 1)
        scale = torch.maximum(-low / zero.clamp(min=1), high / (self.steps - zero)).clamp(min=_TINY)
        return scale, zero.to(torch.int32)


class RoundedLayer(nn.Module):
    """A convolution or linear layer, with the batch norm after it folded in, computing with rounded filters.

    Each filter has its own symmetric scale. The parameters are the float layer's own, so training this trains that.

    Args:
        layer: the convolution or linear layer.
        norm: the batch norm that follows, or None; its running statistics are taken as they are.
        bits: 2 to 8, or None for filters in full precision.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, layer: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d | None, bits: int | None) -> None:
        super().__init__()
        self.layer = layer
        self.largest = None if bits is None else 2 ** (bits - 1) - 1
        # Not the batch norm itself: found in the network, its statistics would be trained or measured anew.
        self.gamma = self.beta = None
        if norm is not None:
            if norm.running_mean is None or norm.running_var is None:
                raise QuantizationError("a batch norm without running statistics can't be folded; train with them")
            self.gamma, self.beta = norm.weight, norm.bias
            self.register_buffer("mean", norm.running_mean.clone())
            self.register_buffer("deviation", (norm.running_var + norm.eps).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Map as the layer and its batch norm in evaluation mode do, but for the rounding."""
        weight = self.layer.weight
        if self.gamma is None or self.beta is None:
            return self._mapped(self._rounded(weight), x)
        factor = self.gamma / self.deviation
        shift = self.beta - self.mean * factor
        if self.layer.bias is not None:
            shift = shift + self.layer.bias * (factor - 1)  # the layer adds its bias once itself
        mapped = self._mapped(self._rounded(weight * factor.reshape(-1, *[1] * (weight.ndim - 1))), x)
        return mapped + shift.reshape(-1, 1, 1)

    def _mapped(self, weight: Tensor, x: Tensor) -> Tensor:
        result: Tensor = functional_call(self.layer, {"weight": weight}, (x,))
        return result

    def _rounded(self, weight: Tensor) -> Tensor:
        if self.largest is None:
            return weight
        reach = weight.detach().flatten(1).abs().amax(dim=1).clamp(min=_TINY)
        scale, zero = reach / self.largest, torch.zeros_like(reach, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -self.largest, self.largest)


class _Tracer(fx.Tracer):
    """Traces into blocks, not into layers; one of ours pads by the size of its input, which can't be traced."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _LAYERS) or super().is_leaf_module(m, module_qualified_name)


def fake_quantized(
    model: nn.Module, *, bits: int = 8, symmetric: bool = False, keep_float: Collection[str] = ()
) -> fx.GraphModule:
    """The network with rounding in it; it shares its parameters with `model`, so that training one trains both.

    Dropout is left out: a few hundred steps next to a trained optimum have nothing to overfit. Ranges of activations
    start empty: run images through it in training mode before it is evaluated.

    Args:
        model: a network that torch.fx can trace, as all of this package are: [B, C, H, W] -> [B, K].
        bits: of weights and activations, 2 to 8.
        symmetric: whether activations' ranges are symmetric; asymmetric ones suit h-swish, which reaches far up only.
        keep_float: names of convolutions, linear layers or blocks of them (as in `model.named_modules()`) that stay in
            full precision, inputs included.

    Raises:
        QuantizationError: bits out of range, or a name of `keep_float` that is no part of the network.
    """
    if not 2 <= bits <= 8:
        raise QuantizationError(f"bits is {bits}; networks are rounded to 2 to 8")
    kept = _layers_named(model, keep_float)
    graph = _Tracer().trace(model)
    traced = fx.GraphModule(model, graph)
    for node in list(graph.nodes):
        module = _module(traced, node)
        if isinstance(module, nn.Dropout):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif isinstance(module, _LAYERS):
            _round_layer(traced, node, module, None if node.target in kept else bits)
    _round_activations(traced, kept, bits, symmetric)
    traced.delete_all_unused_submodules()
    graph.lint()
    traced.recompile()
    return traced


def _layers_named(model: nn.Module, names: Collection[str]) -> set[str]:
    layers, found = [name for name, module in model.named_modules() if isinstance(module, _LAYERS)], set()
    for name in names:
        inside = {layer for layer in layers if layer == name or layer.startswith(f"{name}.")}
        if not inside:
            raise QuantizationError(f"no layer or block is called {name}; the network's layers are {', '.join(layers)}")
        found |= inside
    return found


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _round_layer(traced: fx.GraphModule, node: fx.Node, layer: nn.Conv2d | nn.Linear, bits: int | None) -> None:
    """Put a `RoundedLayer` in a layer's place, together with the batch norm that alone uses its result."""
    norm, users = None, list(node.users)
    following = _module(traced, users[0]) if len(users) == 1 else None
    if isinstance(following, nn.BatchNorm2d):
        norm = following
        users[0].replace_all_uses_with(node)
        traced.graph.erase_node(users[0])
    name = f"rounded_{str(node.target).replace('.', '_')}"
    traced.add_submodule(name, RoundedLayer(layer, norm, bits))
    node.meta["layer"] = node.target
    node.target = name


def _round_activations(traced: fx.GraphModule, kept: set[str], bits: int, symmetric: bool) -> None:
    """Round every value that integer arithmetic will read, once for all its readers."""
    roundings: dict[fx.Node, fx.Node] = {}
    for node in list(traced.graph.nodes):
        if not _reads_integers(traced, node) or node.meta.get("layer") in kept:
            continue
        for read in list(dict.fromkeys(node.all_input_nodes)):
            source, reader = _behind_reshaping(read, node)
            if source in roundings.values() or not _is_value(source):
                continue
            if source not in roundings:
                name = f"rounding_{len(roundings)}"
                traced.add_submodule(name, ActivationRounding(bits, symmetric=symmetric))
                with traced.graph.inserting_after(source):
                    roundings[source] = traced.graph.call_module(name, (source,))
            reader.replace_input_with(source, roundings[source])


def _reads_integers(traced: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(_module(traced, node), (RoundedLayer, *_POOLS))
    if node.op == "call_function":
        return node.target in _ARITHMETIC
    return node.op == "call_method" and node.target in _METHODS


def _is_value(node: fx.Node) -> bool:
    """Whether a node is a tensor computed from the images: no parameter, no size, nor arithmetic on sizes."""
    return node.op != "get_attr" and not any(source.target is getattr for source in (node, *node.all_input_nodes))


def _behind_reshaping(read: fx.Node, reader: fx.Node) -> tuple[fx.Node, fx.Node]:
    """Where what `reader` reads was computed, before reshaping, and who reads it there: two shapes are rounded once."""
    while _reshapes(read):
        read, reader = read.all_input_nodes[0], read
    return read, reader


def _reshapes(node: fx.Node) -> bool:
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return node.op in ("call_method", "call_function") and name in _RESHAPING
