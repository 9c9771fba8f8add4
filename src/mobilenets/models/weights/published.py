"""The published ImageNet weights: which file belongs to which network and width, and how its images are prepared.

Facts from torchvision `models/mobilenetv2.py`, `models/mobilenetv3.py` and from timm `models/efficientnet.py`,
`models/mobilenetv3.py` (1.0.31): addresses, crops, interpolation and normalization.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from mobilenets.errors import WeightsError
from mobilenets.preprocessing import Preprocessing

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
HALF: Final = (0.5, 0.5, 0.5)
"""Mean and deviation that bring pixels to [-1, 1], as TensorFlow's weights and timm's later ones want them."""

_TORCHVISION: Final = "https://download.pytorch.org/models"
_TIMM: Final = "https://github.com/rwightman/pytorch-image-models/releases/download"
_HUGGING_FACE: Final = "https://huggingface.co/timm"
_HASH: Final = re.compile(r"-([0-9a-f]{8,})\.pth$")


@dataclass(frozen=True)
class PublishedWeights:
    """One published file.

    Attributes:
        file: its name, as cached; names of torchvision's and timm's releases end in the beginning of the SHA-256.
        url: where it is.
        model: the network it is of, as in `list_models()`.
        width_mult: and its width.
        preprocessing: how its images are prepared.
    """

    file: str
    url: str
    model: str
    width_mult: float
    preprocessing: Preprocessing

    @property
    def hash_prefix(self) -> str | None:
        """The beginning of the file's SHA-256, from its name; None where the server has to be asked."""
        found = _HASH.search(self.file)
        return found[1] if found else None


def published_weights(model: str, width_mult: float) -> PublishedWeights:
    """The file `weights="imagenet"` stands for.

    Raises:
        WeightsError: none is published for this network at this width; the message lists those that are.
    """
    for row in PUBLISHED:
        if (row.model, row.width_mult) == (model, width_mult):
            return row
    widths: dict[str, list[float]] = {}
    for row in PUBLISHED:
        known = widths.setdefault(row.model, [])
        if row.width_mult not in known:
            known.append(row.width_mult)
    listed = "; ".join(f"{name} {', '.join(f'{width:g}' for width in sorted(known))}" for name, known in widths.items())
    raise WeightsError(
        f"no ImageNet weights are published for {model} at width {width_mult:g}; they are for these widths: {listed}"
    )


def published_file(file: str) -> PublishedWeights | None:
    """What is known of a file of this name, None when it is no published one."""
    return next((row for row in PUBLISHED if row.file == file), None)


def _row(url: str, file: str, model: str, width_mult: float, prepared: Preprocessing) -> PublishedWeights:
    return PublishedWeights(file, url, model, width_mult, prepared)


def _torchvision(file: str, model: str, resize: int) -> PublishedWeights:
    prepared = Preprocessing(image_size=224, resize_size=resize, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return _row(f"{_TORCHVISION}/{file}", file, model, 1.0, prepared)


def timm_preprocessing(
    *,
    size: int = 224,
    crop: float = 0.875,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    interpolation: str = "bilinear",
) -> Preprocessing:
    """Preparation as timm states it: the centre crop is the part `crop` of the resized shorter side.

    Source: timm `data/transforms_factory.py`.
    """
    resize = math.floor(size / crop)
    return Preprocessing(size, resize, len(mean), mean=mean, std=std, interpolation=interpolation)


def _timm(
    file: str, model: str, width_mult: float, prepared: Preprocessing, release: str = "v0.1-weights"
) -> PublishedWeights:
    return _row(f"{_TIMM}/{release}/{file}", file, model, width_mult, prepared)


def _hub(name: str, model: str, width_mult: float, prepared: Preprocessing) -> PublishedWeights:
    """Hugging Face calls every file `model.safetensors`; in a cache they need names of their own."""
    return _row(
        f"{_HUGGING_FACE}/{name}/resolve/main/model.safetensors", f"{name}.safetensors", model, width_mult, prepared
    )


_BICUBIC = timm_preprocessing(interpolation="bicubic")
_TF = timm_preprocessing(mean=HALF, std=HALF)
_TF_BICUBIC = timm_preprocessing(mean=HALF, std=HALF, interpolation="bicubic")
_MIIL = timm_preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def _v4(size: int, crop: float = 0.95, norm: tuple[tuple[float, ...], ...] = ()) -> Preprocessing:
    mean, std = norm or (IMAGENET_MEAN, IMAGENET_STD)
    return timm_preprocessing(size=size, crop=crop, mean=mean, std=std, interpolation="bicubic")


# The first row of a network and width is what "imagenet" means; the others are known when they are given as a file.
PUBLISHED: Final[tuple[PublishedWeights, ...]] = (
    _hub("mobilenetv1_100.ra4_e3600_r224_in1k", "mobilenet_v1", 1.0, _TF_BICUBIC),
    _hub(
        "mobilenetv1_125.ra4_e3600_r224_in1k",
        "mobilenet_v1",
        1.25,
        timm_preprocessing(crop=0.9, mean=HALF, std=HALF, interpolation="bicubic"),
    ),
    _torchvision("mobilenet_v2-7ebf99e0.pth", "mobilenet_v2", 232),
    _torchvision("mobilenet_v2-b0353104.pth", "mobilenet_v2", 256),
    _timm("mobilenetv2_050-3d30d450.pth", "mobilenet_v2", 0.5, _BICUBIC),
    _timm("mobilenetv2_100_ra-b33bc2c4.pth", "mobilenet_v2", 1.0, _BICUBIC),
    _timm("mobilenetv2_140_ra-21a4e913.pth", "mobilenet_v2", 1.4, _BICUBIC),
    _torchvision("mobilenet_v3_large-5c1a4163.pth", "mobilenet_v3_large", 232),
    _torchvision("mobilenet_v3_large-8738ca79.pth", "mobilenet_v3_large", 256),
    _timm("mobilenetv3_large_100_ra-f55367f5.pth", "mobilenet_v3_large", 1.0, _BICUBIC),
    _timm("mobilenetv3_large_100_1k_miil_78_0-66471c13.pth", "mobilenet_v3_large", 1.0, _MIIL, "v0.1-tresnet"),
    _timm("mobilenetv3_large_100_in21k_miil-d71cc17b.pth", "mobilenet_v3_large", 1.0, _MIIL, "v0.1-tresnet"),
    _timm("tf_mobilenetv3_large_075-150ee8b0.pth", "mobilenet_v3_large", 0.75, _TF),
    _timm("tf_mobilenetv3_large_100-427764d5.pth", "mobilenet_v3_large", 1.0, _TF),
    _torchvision("mobilenet_v3_small-047dcff4.pth", "mobilenet_v3_small", 256),
    _timm("mobilenetv3_small_050_lambc-4b7bbe87.pth", "mobilenet_v3_small", 0.5, _BICUBIC),
    _timm("mobilenetv3_small_075_lambc-384766db.pth", "mobilenet_v3_small", 0.75, _BICUBIC),
    _timm("mobilenetv3_small_100_lamb-266a294c.pth", "mobilenet_v3_small", 1.0, _BICUBIC),
    _timm("tf_mobilenetv3_small_075-da427f52.pth", "mobilenet_v3_small", 0.75, _TF),
    _timm("tf_mobilenetv3_small_100-37f49e2b.pth", "mobilenet_v3_small", 1.0, _TF),
    _timm("tf_mobilenetv3_large_minimal_100-8596ae28.pth", "mobilenet_v3_large_minimalistic", 1.0, _TF),
    _timm("tf_mobilenetv3_small_minimal_100-922a7843.pth", "mobilenet_v3_small_minimalistic", 1.0, _TF),
    _hub("mobilenetv4_conv_small.e2400_r224_in1k", "mobilenet_v4_conv_small", 1.0, _v4(224, 0.875)),
    _hub("mobilenetv4_conv_small_050.e3000_r224_in1k", "mobilenet_v4_conv_small", 0.5, _v4(224, 0.875, (HALF, HALF))),
    _hub("mobilenetv4_conv_medium.e500_r256_in1k", "mobilenet_v4_conv_medium", 1.0, _v4(256)),
    _hub("mobilenetv4_conv_large.e600_r384_in1k", "mobilenet_v4_conv_large", 1.0, _v4(384)),
    _hub("mobilenetv4_hybrid_medium.ix_e550_r256_in1k", "mobilenet_v4_hybrid_medium", 1.0, _v4(256)),
    _hub("mobilenetv4_hybrid_large.ix_e600_r384_in1k", "mobilenet_v4_hybrid_large", 1.0, _v4(384)),
)
