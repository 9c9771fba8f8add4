"""timm's weights of MobileNetV1 to V4: which variant a file is of, and the options that give its published results.

A state dict does not hold everything its network is: not the eps of its batch norms nor the padding. timm's variants
named `tf_...` have TensorFlow's, the others PyTorch's. What a file is of is looked for in a `config.json` beside it (as
on Hugging Face), then in its name. Source of figures and names: timm 1.0.31, `models/efficientnet.py`,
`models/mobilenetv3.py` and `models/_efficientnet_blocks.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mobilenets.errors import DataError, WeightsError
from mobilenets.limits import read_json
from mobilenets.models.config import OptionValue
from mobilenets.models.layers import ConvNormActivation, DepthwiseSeparable, InvertedResidual
from mobilenets.models.mobilenet_v4_blocks import FusedBottleneck, MobileAttention, UniversalBottleneck
from mobilenets.models.network import MobileNet
from mobilenets.models.weights.fit import ImportedWeights, fit_tensors, title
from mobilenets.models.weights.published import HALF, published_file, timm_preprocessing
from mobilenets.preprocessing import Preprocessing

STEM = "conv_stem.weight"
V3_STEM_CHANNELS = 16
TF_EPS, TORCH_EPS = 1e-3, 1e-5
OTHER_NETWORKS: Mapping[str, str] = {
    "mobilenetv1_100h": "V1 with a 1x1 head convolution",
    "mobilenetv2_110d": "V2 with 1.2 times the blocks, and stem and head of width 1",
    "mobilenetv2_120d": "V2 with 1.4 times the blocks, and stem and head of width 1",
    "mobilenetv3_large_150d": "V3 large with 1.2 times the blocks",
    "mobilenetv3_rw": "V3 large without a bias in its penultimate layer",
    "mobilenetv4_conv_aa_medium": "V4 with average pools for strides",
    "mobilenetv4_conv_aa_large": "V4 with average pools for strides",
    "mobilenetv4_conv_blur_medium": "V4 with blur pools for strides",
}
"""Variants of timm's that are networks of their own, and what they have otherwise."""

_HOW_TO_TELL = (
    f"give padding and norm_eps (same and {TF_EPS} for timm's tf_..., symmetric and {TORCH_EPS} for its others), put "
    "timm's config.json beside the file, or call it as timm does, e.g. tf_mobilenetv3_large_100.pth"
)
_VARIANT = re.compile(r"(tf_)?mobilenetv[1-5]_[a-z0-9_]+")  # up to a dot or dash, after which comes the training
# timm's first V3 file is named after no variant it still has.
_FIRST_V3 = "mobilenetv3_100-35495452"

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


def is_timm(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are a timm MobileNet's tensors, by their names."""
    return STEM in tensors


def read_timm(path: Path, tensors: Mapping[str, Tensor]) -> ImportedWeights:
    """Describe timm's tensors.

    Raises:
        WeightsError: there is no classifier, or the file is known to be of a network that is in none of the papers.
    """
    if "classifier.weight" not in tensors:
        raise WeightsError(
            f"{path} has no classifier.weight: only whole networks can be loaded, not timm's num_classes=0"
        )
    config = _config_beside(path)
    architecture = _architecture(path, config)
    for other, reason in OTHER_NETWORKS.items():
        if architecture is not None and f"{architecture}_".startswith(f"{other}_"):
            raise WeightsError(f"{path} is of timm's {other}, another network than the paper's: {reason}")
    preprocessing = _preprocessing(path, config, architecture)
    options, notes = _options(path, tensors, architecture)
    if preprocessing is None:
        notes = (*notes, "neither the file nor its name says how images were prepared for these weights")
    ambiguous = architecture is None and "padding" not in options
    return ImportedWeights(
        path=path,
        origin="timm",
        num_classes=tensors["classifier.weight"].shape[0],
        options=options,
        tensors=lambda model: _fit(path, tensors, model),
        preprocessing=preprocessing,
        in_channels=tensors[STEM].shape[1],
        notes=notes,
        ask_for=("padding", "norm_eps") if ambiguous else (),
        ask_hint=_HOW_TO_TELL,
    )


def _fit(path: Path, tensors: Mapping[str, Tensor], model: MobileNet) -> dict[str, Tensor]:
    try:
        return fit_tensors(path, tensors, timm_modules(path, model), model)
    except WeightsError as error:
        depth = _deeper(tensors, model.config.name)
        raise WeightsError(f"{error}{depth}") from error


def _deeper(tensors: Mapping[str, Tensor], name: str) -> str:
    """What a message adds when the file has the paper's stages with more blocks: timm's depth multiplier."""
    places = {tuple(key.split(".")[1:3]) for key in tensors if key.startswith("blocks.")}
    stages = STAGES.get(name, ())
    found = [sum(stage == str(number) for stage, _ in places) for number in range(len(stages))]
    if not stages or any(have < want for have, want in zip(found, stages, strict=True)) or tuple(found) == stages:
        return ""
    return f"; its stages have {found} blocks, the paper's {list(stages)}"


def _options(
    path: Path, tensors: Mapping[str, Tensor], architecture: str | None
) -> tuple[dict[str, OptionValue], tuple[str, ...]]:
    """Arguments of `create_model` beyond the defaults, and what had to be assumed to find them."""
    kinds = {key.split(".")[3] for key in tensors if key.startswith("blocks.")}
    if "conv_head.bias" in tensors:  # only V3 has one: it has no norm there
        return _v3_options(path, tensors, architecture, minimalistic="se" not in kinds)
    options: dict[str, OptionValue] = {"norm_eps": TORCH_EPS, "padding": "symmetric"}
    if "conv_dw" in kinds and "conv_pwl" not in kinds:  # V1: no block projects
        options["activation"] = "relu6"
    return options, ()


def _v3_options(
    path: Path, tensors: Mapping[str, Tensor], architecture: str | None, *, minimalistic: bool
) -> tuple[dict[str, OptionValue], tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    options: dict[str, OptionValue] = {}
    if architecture is not None or minimalistic:
        tensorflow = architecture is None or architecture.startswith("tf_")
        options["norm_eps"] = TF_EPS if tensorflow else TORCH_EPS
        options["padding"] = "same" if tensorflow else "symmetric"
    if architecture is None and minimalistic:  # timm has only TensorFlow's weights of these
        notes = (
            "the file does not name timm's variant: batch-norm eps and padding are assumed to be TensorFlow's (tf_...)",
        )
    if _has_fixed_stem(tensors):
        options["fixed_stem"] = True
    return options, notes


def _has_fixed_stem(tensors: Mapping[str, Tensor]) -> bool:
    """timm does not narrow the stem of V3 below width 0.75; the block after it, of as many channels, it does."""
    first = tensors.get("blocks.0.0.conv_pw.weight")
    stem = tensors[STEM].shape[0]
    return first is not None and stem == V3_STEM_CHANNELS > first.shape[0]


def _architecture(path: Path, config: Mapping[str, Any]) -> str | None:
    """timm's name of the variant, maybe with more behind; None when neither configuration nor file name says it."""
    stated = config.get("architecture")
    if isinstance(stated, str):
        return stated
    if path.stem == _FIRST_V3:
        return "mobilenetv3_rw"
    found = _VARIANT.match(path.stem)
    return found[0] if found else None


def _config_beside(path: Path) -> dict[str, Any]:
    """Hugging Face's `config.json` in the file's folder, empty when there is none, or it is not timm's."""
    beside = path.parent / "config.json"
    try:
        content = read_json(beside)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{beside} describes {path.name} but can't be read ({error}); fix or remove it") from error
    return content if isinstance(content, dict) and "pretrained_cfg" in content else {}


def _preprocessing(path: Path, config: Mapping[str, Any], architecture: str | None) -> Preprocessing | None:
    if config:
        return _stated_preprocessing(path, config["pretrained_cfg"])
    known = published_file(path.name)
    if known is not None:
        return known.preprocessing
    return timm_preprocessing(mean=HALF, std=HALF) if architecture and architecture.startswith("tf_") else None


def _stated_preprocessing(path: Path, stated: Mapping[str, Any]) -> Preprocessing:
    try:
        return timm_preprocessing(
            size=stated["input_size"][-1],
            crop=stated["crop_pct"],
            mean=tuple(stated["mean"]),
            std=tuple(stated["std"]),
            interpolation=stated["interpolation"],
        )
    except (LookupError, TypeError, ZeroDivisionError, DataError) as error:
        raise WeightsError(
            f"{path.parent / 'config.json'} does not say how images are prepared ({error!r}); fix or remove it"
        ) from error
