"""One plan, many ways to write it down: the code styles of public MobileNets.

`nested`: modules in modules; `flat`: one Sequential of convolutions, norms and activations; `functional`: nothing but
parameters and `torch.nn.functional`. Each may be fused (batch norm folded into convolutions with bias), renamed (random
identifiers) and decomposed (activations spelled out in arithmetic).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .plan import Block, Conv, Plan, Squeeze


@dataclass(frozen=True)
class Style:
    """How the code looks."""

    structure: str = "nested"
    fused: bool = False
    renamed: bool = False
    decomposed: bool = False

    @property
    def name(self) -> str:
        flags = ("fused", "renamed", "decomposed")
        return "+".join([self.structure, *(flag for flag in flags if getattr(self, flag))])


STYLES = (
    Style("nested"),
    Style("flat"),
    Style("functional"),
    Style("nested", renamed=True),
    Style("nested", decomposed=True),
    Style("functional", decomposed=True),
    Style("flat", renamed=True, decomposed=True),
    Style("nested", fused=True),
    Style("flat", fused=True, renamed=True),
)


def build(plan: Plan, style: Style, *, seed: int = 0) -> nn.Module:
    """The plan as a module in this style, in training mode, as any new network."""
    writer = _Writer(plan, style, random.Random(seed))
    return Functional(plan, style) if style.structure == "functional" else writer.network()


def activate(name: str, x: Tensor) -> Tensor:
    """The functions by their library names."""
    known = {
        "relu": F.relu,
        "relu6": F.relu6,
        "hard_swish": F.hardswish,
        "swish": F.silu,
        "hard_sigmoid": F.hardsigmoid,
        "sigmoid": torch.sigmoid,
        "gelu": F.gelu,
    }
    if name == "hard_sigmoid_half":
        return torch.clamp((x + 1) / 2, 0, 1)
    return x if name == "none" else known[name](x)


def spell_out(name: str, x: Tensor) -> Tensor:
    """The same functions in arithmetic."""
    if name == "relu":
        return torch.clamp(x, min=0)
    if name == "relu6":
        return torch.clamp(x, 0, 6)
    if name == "hard_swish":
        return x * F.relu6(x + 3) / 6
    if name == "hard_sigmoid":
        return F.relu6(x + 3) * (1 / 6)
    return x * torch.sigmoid(x) if name == "swish" else activate(name, x)


class Act(nn.Module):
    """An activation as a module of its own."""

    def __init__(self, name: str, decomposed: bool) -> None:
        super().__init__()
        self.name, self.function = name, spell_out if decomposed else activate

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.name, x)


def pads(layer: Conv) -> int:
    return (layer.kernel - 1) // 2 if layer.padding == "symmetric" else 0


def pad_same(layer: Conv, x: Tensor) -> Tensor:
    """TensorFlow's SAME: the odd zero at the end."""
    if layer.padding != "same":
        return x
    size = x.shape[-1]
    total = max((-(-size // layer.stride) - 1) * layer.stride + layer.kernel - size, 0)
    before, after = total // 2, total - total // 2
    return F.pad(x, (before, after, before, after))


class SamePad(nn.Module):
    """`pad_same` as a module."""

    def __init__(self, layer: Conv) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return pad_same(self.layer, x)


class Gate(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, channels: int, squeeze: Squeeze, decomposed: bool) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, squeeze.channels, 1), nn.Conv2d(squeeze.channels, channels, 1)
        self.inner, self.gate = Act("relu", decomposed), Act(squeeze.gate, decomposed)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.up(self.inner(self.down(x.mean((2, 3), keepdim=True)))))


class Sum(nn.Module):
    """A block with its shortcut."""

    def __init__(self, body: nn.Module, block: Block, decomposed: bool) -> None:
        super().__init__()
        self.body, self.block, self.after = body, block, Act(block.act_after, decomposed)
        self.side: nn.Module | None = None
        if block.shortcut == "projected":
            convolution = nn.Conv2d(block.inputs, block.outputs, 1, block.stride, bias=False)
            self.side = nn.Sequential(convolution, nn.BatchNorm2d(block.outputs))

    def forward(self, x: Tensor) -> Tensor:
        side = x if self.side is None else self.side(x)
        return self.after(self.body(x) + plain_shortcut(self.block, side))


def plain_shortcut(block: Block, x: Tensor) -> Tensor:
    """The shortcuts that have no parameters."""
    if block.shortcut == "pooled":
        return F.avg_pool2d(x, block.stride)
    if block.shortcut == "padded":
        return F.pad(x, (0, 0, 0, 0, 0, block.outputs - block.inputs))
    return 0.5 * x if block.shortcut == "half" else x


class Whole(nn.Module):
    """Features, pool, and what works on the vector."""

    def __init__(self, plan: Plan, features: nn.Module, top: nn.Module, names: tuple[str, str]) -> None:
        super().__init__()
        self.plan, self.names = plan, names
        self.add_module(names[0], features)
        self.add_module(names[1], top)
        if plan.unused:
            self.spare = nn.Linear(plan.unused, plan.unused)

    def forward(self, x: Tensor) -> Tensor:
        x = pooled(self.plan, getattr(self, self.names[0])(x))
        return finish(self.plan, getattr(self, self.names[1])(x))

    def train(self, mode: bool = True) -> Whole:
        return super().train(True if self.plan.stuck_in_training else mode)


def pooled(plan: Plan, x: Tensor) -> Tensor:
    if plan.pool == "fixed":
        x = F.avg_pool2d(x, plan.map_size)
    elif plan.pool == "global":
        x = F.adaptive_avg_pool2d(x, 1)
    elif plan.pool == "max":
        x = F.adaptive_max_pool2d(x, 1)
    return torch.flatten(x, 1)


def finish(plan: Plan, x: Tensor) -> Tensor:
    return torch.softmax(x, 1) if plan.final == "softmax" else x


class Dropout(nn.Module):
    """Dropout that does not ask whether it is training."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, training=True)


class _Writer:
    """Turns plans into modules, nested or flat."""

    def __init__(self, plan: Plan, style: Style, chance: random.Random) -> None:
        self.plan, self.style, self.chance = plan, style, chance

    def network(self) -> nn.Module:
        features: list[nn.Module] = []
        for block in self.plan.blocks:
            layers = [module for layer in block.layers for module in self._layer(layer)]
            if block.shortcut != "none" or self.style.structure == "nested":
                body = self._sequence(layers)
                layers = [body if block.shortcut == "none" else Sum(body, block, self.style.decomposed)]
            features += layers
        names = (self._name("features"), self._name("head"))
        return Whole(self.plan, self._sequence(features), self._sequence(self._top()), names)

    def _top(self) -> list[nn.Module]:
        """The layers on the pooled vector, dropout before the last."""
        *before, classifier = self.plan.top
        modules = [module for layer in before for module in self._layer(layer)]
        if self.plan.dropout:
            always = self.plan.dropout_always
            modules.append(Dropout(self.plan.dropout) if always else nn.Dropout(self.plan.dropout))
        return modules + self._layer(classifier)

    def _layer(self, layer: Conv) -> list[nn.Module]:
        fused = self.style.fused
        bias = layer.bias or fused
        modules: list[nn.Module] = [SamePad(layer)] if layer.padding == "same" else []
        modules.append(
            nn.Linear(layer.inputs, layer.outputs, bias=layer.bias) if layer.flat else convolution(layer, bias)
        )
        modules += [] if fused else [self._norm(layer) for _ in range(layer.norms)]
        gate = [Gate(layer.outputs, layer.squeeze, self.style.decomposed)] if layer.squeeze else []
        early = gate if layer.squeeze and layer.squeeze.place == "before" else []
        modules += early
        if layer.act != "none":
            modules.append(Act(layer.act, self.style.decomposed))
        modules += [] if early else gate
        return [self._sequence(modules)] if self.style.structure == "nested" else modules

    def _norm(self, layer: Conv) -> nn.Module:
        kind = nn.BatchNorm1d if layer.flat else nn.BatchNorm2d
        tracks = not self.plan.batch_statistics
        return kind(layer.outputs, eps=layer.eps, momentum=layer.momentum, track_running_stats=tracks)

    def _sequence(self, modules: list[nn.Module]) -> nn.Module:
        sequence = nn.Sequential()
        for index, module in enumerate(modules):
            sequence.add_module(self._name(str(index)), module)
        return sequence

    def _name(self, plain: str) -> str:
        """The plain name, or one that says nothing."""
        return f"{self.chance.choice('qxzw')}{self.chance.getrandbits(40):x}" if self.style.renamed else plain


def convolution(layer: Conv, bias: bool) -> nn.Conv2d:
    groups = layer.inputs if layer.depthwise else 1
    return nn.Conv2d(
        layer.inputs, layer.outputs, layer.kernel, layer.stride, padding=pads(layer), groups=groups, bias=bias
    )


class Functional(nn.Module):
    """The whole network as parameters and one forward function."""

    def __init__(self, plan: Plan, style: Style) -> None:
        super().__init__()
        self.plan, self.style = plan, style
        self.weights, self.biases, self.scales = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        self.count = 0
        for block in plan.blocks:
            for layer in block.layers:
                self._declare(layer)
            if block.shortcut == "projected":
                self._declare(Conv(block.inputs, block.outputs, stride=block.stride))
        for layer in plan.top:
            self._declare(layer)
        if plan.unused:
            self.spare = nn.Parameter(torch.zeros(plan.unused, plan.unused))

    def _declare(self, layer: Conv) -> None:
        inputs = 1 if layer.depthwise else layer.inputs
        shape = (layer.outputs, inputs) if layer.flat else (layer.outputs, inputs, layer.kernel, layer.kernel)
        self.weights.append(nn.Parameter(torch.randn(shape) * 0.05))
        if layer.bias:
            self.biases.append(nn.Parameter(torch.zeros(layer.outputs)))
        for _ in range(layer.norms):
            self.scales.append(nn.Parameter(torch.ones(layer.outputs)))
            self.scales.append(nn.Parameter(torch.zeros(layer.outputs)))
            if not self.plan.batch_statistics:
                self.register_buffer(f"mean{self.count}", torch.zeros(layer.outputs))
                self.register_buffer(f"var{self.count}", torch.ones(layer.outputs))
            self.count += 1
        if layer.squeeze:
            inside = layer.squeeze.channels
            self.weights.append(nn.Parameter(torch.randn(inside, layer.outputs, 1, 1) * 0.05))
            self.weights.append(nn.Parameter(torch.randn(layer.outputs, inside, 1, 1) * 0.05))
            self.biases.append(nn.Parameter(torch.zeros(inside)))
            self.biases.append(nn.Parameter(torch.zeros(layer.outputs)))

    def forward(self, x: Tensor) -> Tensor:
        run = _Run(self)
        for block in self.plan.blocks:
            y = x
            for layer in block.layers:
                y = run.layer(layer, y)
            if block.shortcut != "none":
                side = x
                if block.shortcut == "projected":
                    side = run.layer(Conv(block.inputs, block.outputs, stride=block.stride), x)
                y = run.act(block.act_after, y + plain_shortcut(block, side))
            x = y
        x = pooled(self.plan, x)
        *before, classifier = self.plan.top
        for layer in before:
            x = run.layer(layer, x)
        training = self.training or self.plan.dropout_always
        x = F.dropout(x, self.plan.dropout, training=training)
        return finish(self.plan, run.layer(classifier, x))

    def train(self, mode: bool = True) -> Functional:
        return super().train(True if self.plan.stuck_in_training else mode)


class _Run:
    """One pass over a `Functional` network's parameters, in the order they were declared."""

    def __init__(self, network: Functional) -> None:
        self.network, self.norms = network, 0
        self.weights, self.biases, self.scales = iter(network.weights), iter(network.biases), iter(network.scales)

    def act(self, name: str, x: Tensor) -> Tensor:
        return spell_out(name, x) if self.network.style.decomposed else activate(name, x)

    def layer(self, layer: Conv, x: Tensor) -> Tensor:
        weight, bias = next(self.weights), next(self.biases) if layer.bias else None
        if layer.flat:
            x = F.linear(x, weight, bias)
        else:
            groups = layer.inputs if layer.depthwise else 1
            x = F.conv2d(pad_same(layer, x), weight, bias, stride=layer.stride, padding=pads(layer), groups=groups)
        for _ in range(layer.norms):
            x = self._norm(layer, x)
        if layer.squeeze is None:
            return self.act(layer.act, x)
        if layer.squeeze.place == "before":
            return self.act(layer.act, self._squeeze(layer.squeeze, x))
        return self._squeeze(layer.squeeze, self.act(layer.act, x))

    def _norm(self, layer: Conv, x: Tensor) -> Tensor:
        scale, shift, index = next(self.scales), next(self.scales), self.norms
        self.norms += 1
        mean, variance = (getattr(self.network, f"{name}{index}", None) for name in ("mean", "var"))
        training = self.network.training or mean is None
        return F.batch_norm(x, mean, variance, scale, shift, training, layer.momentum, layer.eps)

    def _squeeze(self, squeeze: Squeeze, x: Tensor) -> Tensor:
        inner = F.conv2d(F.adaptive_avg_pool2d(x, 1), next(self.weights), next(self.biases))
        gate = F.conv2d(self.act("relu", inner), next(self.weights), next(self.biases))
        return x * self.act(squeeze.gate, gate)
