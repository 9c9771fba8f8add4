"""Our own network, module by module, as the chain its graph folds into: nothing is run, the modules say it all.

That the two agree is a test. The chain of a published network is made here, in milliseconds and on no device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import nn

from mobilenets.auditing.graph import nodes
from mobilenets.auditing.structure.layers import (
    AttentionUnit,
    BatchNorm,
    ChainLayer,
    Shortcut,
    ShortcutKind,
    SqueezeExcite,
)
from mobilenets.auditing.structure.wiring import conv_layer
from mobilenets.errors import AuditError
from mobilenets.models.layers import (
    ConvNormActivation,
    DepthwiseSeparable,
    InvertedResidual,
    SameConv2d,
    SqueezeExcitation,
    same_padding,
)
from mobilenets.models.mobilenet_v4_blocks import (
    FusedBottleneck,
    MobileAttention,
    MultiQueryAttention,
    UniversalBottleneck,
)
from mobilenets.models.network import MobileNet

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hard_swish",
    nn.Hardsigmoid: "hard_sigmoid",
    nn.GELU: "gelu",
    nn.SiLU: "swish",
    nn.Sigmoid: "sigmoid",
}


@dataclass(frozen=True)
class PlacedLayer:
    """A layer, its block (0: none), its part (see `layers.TablePlace`), and the channels entering the block."""

    layer: ChainLayer
    block: int
    part: str
    in_channels: int


@dataclass
class _Map:
    """The map on its way through the network: channels and side in pixels."""

    channels: int
    size: int


def placed_layers(model: MobileNet, image_size: int) -> tuple[PlacedLayer, ...]:
    """The layers of one of our networks on images of this side, in order of execution.

    Raises:
        AuditError: the network has a block this does not know.
    """
    at = _Map(model.config.in_channels, image_size)
    return tuple(_walk(model, at))


def _walk(model: MobileNet, at: _Map) -> Iterator[PlacedLayer]:
    entering = at.channels
    yield PlacedLayer(_conv_norm_activation(model.stem, at), 0, "stem", entering)
    for number, block in enumerate(model.blocks, start=1):
        entering = at.channels
        for part, layer in _block(block, at):
            yield PlacedLayer(layer, number, part, entering)
    if model.head is not None:
        entering = at.channels
        yield PlacedLayer(_conv_norm_activation(model.head, at), 0, "head", entering)
    at.size = 1
    if model.penultimate is not None:
        entering = at.channels
        yield PlacedLayer(replace(_penultimate(model.penultimate, at), pooled=True), 0, "penultimate", entering)
    yield PlacedLayer(_linear(model.classifier), 0, "classifier", at.channels)


def _block(block: nn.Module, at: _Map) -> list[tuple[str, ChainLayer]]:
    for kind, describe in _BLOCKS.items():
        if isinstance(block, kind):
            return describe(block, at)
    raise AuditError(f"the published network has a block that can't be described: {type(block).__name__}")


def _parts(block: nn.Module, names: dict[str, str], at: _Map) -> list[tuple[str, ChainLayer]]:
    """The block's convolutions by the names of its children, those that are there; squeeze-and-excitation and layer
    scale hang on the layer before them."""
    found: list[tuple[str, ChainLayer]] = []
    for name, child in block.named_children():
        if name in names:
            found.append((names[name], _conv_norm_activation(child, at)))
        elif isinstance(child, SqueezeExcitation):
            found[-1] = (found[-1][0], replace(found[-1][1], squeeze=_squeeze(child)))
        elif name == "layer_scale":
            found[-1] = (found[-1][0], replace(found[-1][1], layer_scale=True))
    if getattr(block, "has_shortcut", False):
        last = replace(found[-1][1], shortcut=Shortcut(ShortcutKind.IDENTITY, len(found)))
        found[-1] = (found[-1][0], last)
    return found


def _separable(block: nn.Module, at: _Map) -> list[tuple[str, ChainLayer]]:
    return _parts(block, {"depthwise": "spatial", "pointwise": "project"}, at)


def _inverted(block: nn.Module, at: _Map) -> list[tuple[str, ChainLayer]]:
    return _parts(block, {"expand": "expand", "depthwise": "spatial", "project": "project"}, at)


def _universal(block: nn.Module, at: _Map) -> list[tuple[str, ChainLayer]]:
    names = {"start_depthwise": "start", "expand": "expand", "middle_depthwise": "spatial", "project": "project"}
    return _parts(block, names, at)


def _fused(block: nn.Module, at: _Map) -> list[tuple[str, ChainLayer]]:
    return _parts(block, {"expand": "spatial", "project": "project"}, at)


def _plain(block: nn.Module, at: _Map) -> list[tuple[str, ChainLayer]]:
    layer = _conv_norm_activation(block, at)
    return [("spatial" if layer.kernel > 1 else "project", layer)]


def _attention(block: nn.Module, at: _Map) -> list[tuple[str, ChainLayer]]:
    children = dict(block.named_children())
    attention = children["attention"]
    assert isinstance(attention, MultiQueryAttention)
    layer = ChainLayer(
        at.channels,
        norms=_norms(children.get("norm")),
        layer_scale="layer_scale" in children,
        attention=_attention_unit(attention, at.size),
        shortcut=Shortcut(ShortcutKind.IDENTITY, 1),
    )
    return [("attention", layer)]


_BLOCKS: dict[type[nn.Module], Callable[[nn.Module, _Map], list[tuple[str, ChainLayer]]]] = {
    DepthwiseSeparable: _separable,
    InvertedResidual: _inverted,
    UniversalBottleneck: _universal,
    FusedBottleneck: _fused,
    MobileAttention: _attention,
    ConvNormActivation: _plain,
}


def _attention_unit(attention: MultiQueryAttention, size: int) -> AttentionUnit:
    """The unit on a map of this side: its weights, and the multiply-adds of its convolutions and two products."""
    seen_size, macs = size, 0
    for way in (attention.key, attention.value):
        seen_size = size
        for layer in way.modules():
            if isinstance(layer, nn.Conv2d):
                seen_size = -(-seen_size // layer.stride[0])
                macs += layer.weight.numel() * seen_size**2
    macs += (attention.query.weight.numel() + attention.output.weight.numel()) * size**2
    # Queries times keys, then weights times values: a product for each query, place seen and channel.
    macs += 2 * attention.query.out_channels * size**2 * seen_size**2
    return AttentionUnit(attention.heads, sum(weight.numel() for weight in attention.parameters()), macs)


def _conv_norm_activation(module: nn.Module, at: _Map) -> ChainLayer:
    children = dict(module.named_children())
    layer = _convolution(children["conv"], at)
    activation = children.get("activation")
    return replace(
        layer, norms=_norms(children.get("norm")), activation="none" if activation is None else _function(activation)
    )


def _convolution(module: nn.Module, at: _Map) -> ChainLayer:
    """The convolution on the map, which it moves on."""
    assert isinstance(module, nn.Conv2d)
    assert not isinstance(module.padding, str)
    high, wide = module.kernel_size[0], module.kernel_size[1]
    stride = module.stride[0]
    before, after = module.padding[0], module.padding[0]
    if isinstance(module, SameConv2d):
        before, after = same_padding(at.size, high, stride)
    operator = nodes.Conv(
        in_channels=module.in_channels,
        out_channels=module.out_channels,
        kernel=(high, wide),
        stride=(stride, module.stride[1]),
        padding=(before, after, before, after),
        dilation=(module.dilation[0], module.dilation[1]),
        groups=module.groups,
        bias=module.bias is not None,
    )
    layer = conv_layer(nodes.Node("", operator, (), (), "", 0), operator, (1, at.channels, at.size, at.size))
    at.channels, at.size = module.out_channels, -(-at.size // stride)
    return layer


def _penultimate(module: nn.Module, at: _Map) -> ChainLayer:
    """What stands between pool and classifier: V3's linear layer, or V4's convolution."""
    if isinstance(module, ConvNormActivation):
        return _conv_norm_activation(module, at)
    children = dict(module.named_children())
    layer = _linear(children["linear"])
    at.channels = layer.out_channels
    return replace(layer, activation=_function(children["activation"]))


def _linear(module: nn.Module) -> ChainLayer:
    assert isinstance(module, nn.Linear)
    return ChainLayer(module.out_features, bias=module.bias is not None, pooled=True)


def _squeeze(module: SqueezeExcitation) -> SqueezeExcite:
    return SqueezeExcite(
        channels=module.reduce.out_channels,
        activation=_function(module.activation),
        gate=_function(module.gate),
        before_activation=False,
        bias=module.reduce.bias is not None,
        norms=0,
    )


def _norms(module: nn.Module | None) -> tuple[BatchNorm, ...]:
    if module is None:
        return ()
    assert isinstance(module, nn.BatchNorm2d)
    return (BatchNorm(module.eps, module.momentum, affine=module.affine),)


def _function(module: nn.Module) -> str:
    for kind, name in ACTIVATIONS.items():
        if type(module) is kind:
            return name
    raise AuditError(f"the published network has an activation that can't be described: {type(module).__name__}")
