"""The network every translator starts from: folded, without memory layouts, fed with pictures as they are.

What scales and shifts channels is folded into the convolution beside it, on the network's traced graph. In evaluation
mode a batch norm is `x * scale + shift` for each channel, and so is a layer scale (without shift). Behind a convolution
both are a matter of its weights and bias; ahead of unpadded 1x1 convolutions, as in MobileNetV4's attention, likewise.
Ahead of a padded filter a shift stays: the zeros around the map are not shifted.

A pool that is flattened and given its two dimensions back, as ahead of MobileNetV4's last convolution, keeps them
instead: the same values without two operators, of which OpenCV's reader can't follow the second.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mobilenets.errors import ExportError
from mobilenets.models.layers import Normalizer, SameConv2d
from mobilenets.models.mobilenet_v4_blocks import LayerScale, MultiQueryAttention
from mobilenets.preprocessing import Preprocessing

_AS_MAP = (slice(None), slice(None), None, None)


class LayerTracer(fx.Tracer):
    """Keeps every layer of PyTorch and the two of ours that are one whole as a single call."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the module stays one call of the graph."""
        return isinstance(m, SameConv2d | LayerScale) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module) -> fx.GraphModule:
    """The network as a graph of its layers' calls, sharing the model's layers.

    Raises:
        torch.fx.proxy.TraceError: its way depends on the values or the size of its input.
    """
    return fx.GraphModule(model, LayerTracer().trace(model))


def folded(model: nn.Module) -> fx.GraphModule:
    """A copy of the network, in evaluation mode, with batch norm and layer scale folded wherever that is exact.

    Pooled maps that are flattened only to be made maps again stay maps.

    Raises:
        torch.fx.proxy.TraceError: see `trace`.
    """
    prepared = copy.deepcopy(model).eval()
    with torch.no_grad():
        for module in prepared.modules():
            if isinstance(module, MultiQueryAttention):
                _scale_queries(module)
        network = trace(prepared)
        for node in list(network.graph.nodes):
            _drop_factor_one(network, node)
            _keep_dimensions(network, node)
        # Behind first: a norm between two convolutions goes to the earlier, where padding does not matter.
        for node in list(network.graph.nodes):
            _fold_behind(network, node)
        for node in list(network.graph.nodes):
            _fold_ahead(network, node)
    network.graph.lint()
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def _scale_queries(attention: MultiQueryAttention) -> None:
    """Move the factor on the queries, 1 / sqrt(head_channels), into the convolution that makes them."""
    attention.query.weight.mul_(attention.scale)
    attention.scale = 1.0


def _drop_factor_one(network: fx.GraphModule, node: fx.Node) -> None:
    if node.op == "call_function" and node.target is operator.mul and node.args[1:] == (1.0,):
        node.replace_all_uses_with(node.all_input_nodes[0])
        network.graph.erase_node(node)


def _keep_dimensions(network: fx.GraphModule, node: fx.Node) -> None:
    """Replace `flatten(pool(x), 1)[:, :, None, None]` by `pool(x)`, which is `[B, C, 1, 1]` already."""
    if node.op != "call_function" or node.target is not operator.getitem or node.args[1] != _AS_MAP:
        return
    flattened = node.args[0]
    if not isinstance(flattened, fx.Node) or flattened.target is not torch.flatten or flattened.args[1:] != (1,):
        return
    (pooled,) = flattened.all_input_nodes
    pool = _layer(network, pooled)
    if isinstance(pool, nn.AdaptiveAvgPool2d) and pool.output_size in (1, (1, 1)):
        node.replace_all_uses_with(pooled)
        network.graph.erase_node(node)
        if not flattened.users:
            network.graph.erase_node(flattened)


def _fold_behind(network: fx.GraphModule, node: fx.Node) -> None:
    """Fold `node`, when it scales the channels of a convolution nothing else uses, into that convolution."""
    layer = _layer(network, node)
    if not isinstance(layer, nn.BatchNorm2d | LayerScale) or len(node.all_input_nodes) != 1:
        return
    before = node.all_input_nodes[0]
    convolution = _layer(network, before)
    if not isinstance(convolution, nn.Conv2d) or len(before.users) > 1 or _calls(network, before) > 1:
        return
    affine = _affine(layer)
    if affine is None:
        return
    scale, shift = affine
    weight = convolution.weight * scale[:, None, None, None]
    bias = shift if convolution.bias is None else convolution.bias * scale + shift
    _replace_weights(convolution, weight, bias)
    node.replace_all_uses_with(before)
    network.graph.erase_node(node)


def _fold_ahead(network: fx.GraphModule, node: fx.Node) -> None:
    """Fold a batch norm whose every user is an unpadded 1x1 convolution into those convolutions."""
    layer = _layer(network, node)
    if not isinstance(layer, nn.BatchNorm2d) or len(node.all_input_nodes) != 1:
        return
    affine = _affine(layer)
    # Who only reads the shape, as attention does, reads the same from what is before the norm.
    users = {user: _layer(network, user) for user in node.users if not _reads_shape(user)}
    if affine is None or not all(_is_plain_pointwise(user) for user in users.values()):
        return
    if any(_calls(network, user) > 1 for user in users):
        return
    scale, shift = affine
    for convolution in users.values():
        assert isinstance(convolution, nn.Conv2d)
        added = convolution.weight[:, :, 0, 0] @ shift
        bias = added if convolution.bias is None else convolution.bias + added
        _replace_weights(convolution, convolution.weight * scale[None, :, None, None], bias)
    node.replace_all_uses_with(node.all_input_nodes[0])
    network.graph.erase_node(node)


def _reads_shape(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is getattr and node.args[1:] == ("shape",)


def _is_plain_pointwise(layer: nn.Module | None) -> bool:
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.groups == 1
        and layer.padding in ((0, 0), "valid", "same")
    )


def _affine(layer: nn.BatchNorm2d | LayerScale) -> tuple[Tensor, Tensor] | None:
    """Scale and shift of each channel, or None for a batch norm that measures each batch anew."""
    if isinstance(layer, LayerScale):
        return layer.gamma, torch.zeros_like(layer.gamma)
    if layer.running_mean is None or layer.running_var is None:
        return None
    # PyTorch's own formula, by folding into a convolution that does nothing.
    one = torch.ones(layer.num_features, 1, 1, 1, dtype=layer.running_var.dtype, device=layer.running_var.device)
    scale, shift = fuse_conv_bn_weights(
        one, None, layer.running_mean, layer.running_var, layer.eps, layer.weight, layer.bias
    )
    return scale.flatten(), shift


def _replace_weights(convolution: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    convolution.bias = nn.Parameter(bias, requires_grad=False)


def _layer(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def _calls(network: fx.GraphModule, node: fx.Node) -> int:
    """How often the graph calls the node's layer: one called twice must stay as it is."""
    layer = _layer(network, node)
    return sum(_layer(network, other) is layer for other in network.graph.nodes)


@dataclass(frozen=True)
class Exported:
    """A network translated to one format, in memory.

    Attributes:
        payload: the format's own files by name: one of any name, or OpenVINO's two (`artifact.container`).
        dynamic_batch: whether they take any number of images a call, else one at a time.
    """

    payload: Mapping[str, bytes]
    dynamic_batch: bool


def exportable(model: nn.Module, preprocessing: Preprocessing) -> nn.Sequential:
    """A copy of a network to be exported: evaluation mode, CPU, batch norm folded, nothing in place.

    Translators fold batch norm too, but after tracing and decomposing it, some of them inexactly or not at all; with it
    gone beforehand all of them get the same plain graph, and sooner.

    Args:
        model: normalized images float32 `[B, C, H, W]` to logits `[B, K]`; it is not touched.
        preprocessing: gives the normalisation to put inside.

    Returns:
        Images uint8 `[B, H, W, C]` to logits float32 `[B, K]`.
    """
    network: nn.Module
    try:
        network = folded(model)
    except TraceError:
        # Its way depends on its input: such a network is exported as it is, and folded by the translator if at all.
        network = copy.deepcopy(model).eval()
    # Training leaves weights channels-last, which exporters keep by shape arithmetic around every pool.
    network = network.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    prepared = nn.Sequential(Normalizer(preprocessing), Contiguous(), network).eval()
    for parameter in prepared.parameters():
        parameter.requires_grad_(False)
    return prepared


def example_images(preprocessing: Preprocessing, count: int) -> Tensor:
    """Images to trace a network with, uint8 `[count, H, W, C]`, all black."""
    size = preprocessing.image_size
    return torch.zeros(count, size, size, preprocessing.channels, dtype=torch.uint8)


def check_outputs(outputs: tuple[int, ...], classes: int) -> None:
    """Refuse a network whose outputs are not one logit for each class.

    Args:
        outputs: shape of its answer to a batch of images.
        classes: how many names there are.

    Raises:
        ExportError: they differ.
    """
    if len(outputs) != 2 or outputs[1] != classes:
        raise ExportError(f"the network's output is {list(outputs)}, but there are {classes} classes: name each output")


class Contiguous(nn.Module):
    """Give traced images the plain memory layout.

    From `[B, H, W, C]` they come channels-last; to keep that layout PyTorch's global pooling restrides its output,
    which exporters spell out as shape arithmetic and a gather after every pool. Exported graphs know no memory layouts.
    """

    def forward(self, images: Tensor) -> Tensor:
        """The same images, row after row."""
        return images.contiguous()
