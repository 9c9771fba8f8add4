"""How timm calls the modules of a MobileNet: its names for ours, block by block.

Source of the names: timm `models/_efficientnet_blocks.py`, `models/efficientnet.py` and `models/mobilenetv3.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import nn

from mobilenets.errors import WeightsError
from mobilenets.models.blocks import DepthwiseSeparable, InvertedResidual
from mobilenets.models.layers import ConvNormActivation
from mobilenets.models.mobilenet_v4_blocks import FusedBottleneck, MobileAttention, UniversalBottleneck
from mobilenets.models.network import MobileNet
from mobilenets.models.weights.fit import title

STAGES: Mapping[str, tuple[int, ...]] = {
    "mobilenet_v1": (1, 2, 2, 6, 2),
    "mobilenet_v2": (1, 2, 3, 4, 3, 3, 1),
    "mobilenet_v3_large": (1, 2, 3, 4, 2, 3),
    "mobilenet_v3_small": (1, 2, 3, 2, 3),
    "mobilenet_v3_large_minimalistic": (1, 2, 3, 4, 2, 3),
    "mobilenet_v3_small_minimalistic": (1, 2, 3, 2, 3),
    "mobilenet_v4_conv_small": (2, 2, 6, 6),
    "mobilenet_v4_conv_medium": (1, 2, 8, 11),
    "mobilenet_v4_conv_large": (1, 2, 11, 13),
    "mobilenet_v4_hybrid_medium": (1, 2, 12, 16),
    "mobilenet_v4_hybrid_large": (1, 2, 15, 18),
}
"""Blocks of each stage: timm numbers them stage by stage, where our networks count them through.

A stage is what the papers' tables give the same output channels; in V4, what begins with a stride of 2. Neither can be
told from a network: narrow ones round neighbouring stages to one width, those for small images drop strides.
"""


def timm_modules(path: Path, model: MobileNet) -> dict[str, str]:
    """The network's modules that hold tensors, each with timm's name for it.

    Raises:
        WeightsError: timm has no such network (one registered by the user).
    """
    if model.config.name not in STAGES:
        raise WeightsError(
            f"{path} is timm's, which has no {title(model)}; its names are known for {', '.join(STAGES)}"
        )
    stages = STAGES[model.config.name]
    places = [f"blocks.{stage}.{index}" for stage, repeats in enumerate(stages) for index in range(repeats)]
    modules = {"stem.conv": "conv_stem", "stem.norm": "bn1"}
    for number, (block, place) in enumerate(zip(model.blocks, places, strict=True)):
        modules |= {f"blocks.{number}.{ours}": f"{place}.{theirs}" for ours, theirs in _block(block).items()}
    return modules | _head(model, len(stages))


def _block(block: nn.Module) -> dict[str, str]:
    """A block's modules and timm's names for them."""
    parts = dict(block.named_children())
    if isinstance(block, DepthwiseSeparable):
        return _numbered([("depthwise", "conv_dw"), ("pointwise", "conv_pw")])
    if isinstance(block, InvertedResidual):
        return _inverted_residual(parts)
    if isinstance(block, FusedBottleneck):
        return _numbered([("expand", "conv_exp"), ("project", "conv_pwl")])
    if isinstance(block, UniversalBottleneck):
        return _universal(parts)
    if isinstance(block, MobileAttention):
        return _attention(block, parts)
    if isinstance(block, ConvNormActivation):
        return {"conv": "conv", "norm": "bn1"}
    raise TypeError(f"timm's names of a {type(block).__name__} are not known")


def _inverted_residual(parts: Mapping[str, nn.Module]) -> dict[str, str]:
    """The last 1x1 convolution is called `pwl` only where another comes before it."""
    rows = [("expand", "conv_pw"), ("depthwise", "conv_dw"), ("project", "conv_pwl")]
    names = _numbered(rows if "expand" in parts else [("depthwise", "conv_dw"), ("project", "conv_pw")])
    if "squeeze_excite" in parts:
        names |= {"squeeze_excite.reduce": "se.conv_reduce", "squeeze_excite.expand": "se.conv_expand"}
    return names


def _numbered(rows: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Convolutions with names of their own, and norms numbered in order."""
    names: dict[str, str] = {}
    for number, (ours, theirs) in enumerate(rows, start=1):
        names |= {f"{ours}.conv": theirs, f"{ours}.norm": f"bn{number}"}
    return names


def _universal(parts: Mapping[str, nn.Module]) -> dict[str, str]:
    rows = (
        ("start_depthwise", "dw_start"),
        ("expand", "pw_exp"),
        ("middle_depthwise", "dw_mid"),
        ("project", "pw_proj"),
    )
    names = {"layer_scale": "layer_scale"} if "layer_scale" in parts else {}
    for ours, theirs in rows:
        if ours in parts:
            names |= {f"{ours}.conv": f"{theirs}.conv", f"{ours}.norm": f"{theirs}.bn"}
    return names


def _attention(block: nn.Module, parts: Mapping[str, nn.Module]) -> dict[str, str]:
    names = {"norm": "norm", "attention.query": "attn.query.proj", "attention.output": "attn.output.proj"}
    if "layer_scale" in parts:
        names["layer_scale"] = "layer_scale"
    inner = {name for name, _ in block.named_modules()}
    for part in ("key", "value"):
        names[f"attention.{part}.project"] = f"attn.{part}.proj"
        if f"attention.{part}.downsample" in inner:
            names[f"attention.{part}.downsample.conv"] = f"attn.{part}.down_conv"
            names[f"attention.{part}.downsample.norm"] = f"attn.{part}.norm"
    return names


def _head(model: MobileNet, stages: int) -> dict[str, str]:
    """V1 has a classifier only; V2 a head convolution; V3 and V4 one as last stage, and `conv_head` after the pool."""
    modules = {"classifier": "classifier"}
    if model.penultimate is None:
        return modules if model.head is None else modules | {"head.conv": "conv_head", "head.norm": "bn2"}
    modules |= {"head.conv": f"blocks.{stages}.0.conv", "head.norm": f"blocks.{stages}.0.bn1"}
    if isinstance(model.penultimate, ConvNormActivation):
        return modules | {"penultimate.conv": "conv_head", "penultimate.norm": "norm_head"}
    return modules | {"penultimate.linear": "conv_head"}
