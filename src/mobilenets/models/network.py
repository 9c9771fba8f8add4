"""`MobileNet`, the one network class of all papers; how it is initialised, and how it fits small images.

It follows the conventions of timm's models, so that code written for these works: `forward_features` and
`forward_head`, `get_classifier` and `reset_classifier`, `num_classes`, `num_features` and `feature_info`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mobilenets.errors import ModelError
from mobilenets.models.config import NetworkConfig
from mobilenets.models.mobilenet_v4_blocks import LayerScale, MultiQueryAttention

MIN_FEATURE_SIZE = 3
"""Side of the smallest last feature map: below 3x3, a 3x3 filter sees mostly padding."""
INIT_STD = 0.09


def stride_plan(strides: Sequence[int], image_size: int) -> tuple[int, ...]:
    """The strides that stay for images of this size: the earliest become 1 until the last map is at least 3x3.

    A step of stride s maps a side of n pixels to ceil(n / s). With the papers' five steps of stride 2, nothing changes
    from 65 pixels up; at 32 the first two become 1 (the usual CIFAR form, 4x4 at the end).

    Args:
        strides: of the convolutions in order, stem first.
        image_size: side of the image in pixels.
    """
    plan = list(strides)
    for step in range(len(plan)):
        if _last_map_size(plan, image_size) >= MIN_FEATURE_SIZE:
            break
        plan[step] = 1
    return tuple(plan)


def _last_map_size(strides: Sequence[int], image_size: int) -> int:
    size = image_size
    for stride in strides:
        size = -(-size // stride)
    return size


@dataclass(frozen=True)
class FeatureMap:
    """One feature map of a network.

    Attributes:
        channels: its channels.
        reduction: how many pixels of the image one place of the map stands for, on each side: 2, 4, 8, ...
        module: name of the module whose output it is: `stem`, `blocks.3`, `head`.
    """

    channels: int
    reduction: int
    module: str


@dataclass(frozen=True)
class FeatureInfo:
    """The feature maps of a network in order, the last of each resolution; `info[0]` is the largest."""

    maps: tuple[FeatureMap, ...]

    def __len__(self) -> int:
        """How many maps there are."""
        return len(self.maps)

    def __iter__(self) -> Iterator[FeatureMap]:
        """The maps in order."""
        return iter(self.maps)

    def __getitem__(self, index: int) -> FeatureMap:
        """The map at this index; negative ones count from the end."""
        return self.maps[index]

    def channels(self) -> list[int]:
        """The channels of each map, e.g. `[16, 24, 32, 96, 320]`."""
        return [one.channels for one in self.maps]

    def reduction(self) -> list[int]:
        """The reduction of each map, e.g. `[2, 4, 8, 16, 32]`."""
        return [one.reduction for one in self.maps]

    def module_name(self) -> list[str]:
        """The module of each map, e.g. `["blocks.0", "blocks.2", ...]`."""
        return [one.module for one in self.maps]

    def get_dicts(self) -> list[dict[str, Any]]:
        """Each map as a dictionary with the keys `channels`, `reduction` and `module`."""
        return [asdict(one) for one in self.maps]

    def selected(self, indices: Sequence[int] | None) -> FeatureInfo:
        """The maps at these indices, in the network's order; all where `indices` is None.

        Raises:
            ModelError: an index is out of range, given twice or no whole number, or there is none.
        """
        if indices is None:
            return self
        try:
            wanted = [operator.index(index) for index in indices]
            places = {range(len(self.maps))[index] for index in wanted}
        except (TypeError, IndexError):
            places, wanted = set(), []
        if not wanted or len(places) != len(wanted):
            count = len(self.maps)
            raise ModelError(
                f"out_indices is {indices!r}: it must be distinct whole numbers from {-count} to {count - 1}, "
                f"as the network has {count} feature maps (strides {', '.join(map(str, self.reduction()))})"
            )
        return FeatureInfo(tuple(self.maps[place] for place in sorted(places)))


def feature_info(stem: nn.Module, blocks: Sequence[nn.Module], head: nn.Module | None) -> FeatureInfo:
    """The last map of each resolution in a network of these modules, with the papers' strides at 2, 4, 8, 16 and 32.

    Networks for small images keep the full size for longer and have fewer maps, the first at stride 1.

    Args:
        stem: the first convolution.
        blocks: what follows, in order.
        head: the convolution after the blocks where its output counts as a feature map; else None.
    """
    steps = [("stem", stem), *((f"blocks.{number}", block) for number, block in enumerate(blocks))]
    if head is not None:
        steps.append(("head", head))
    maps: list[FeatureMap] = []
    channels, reduction = 0, 1
    for name, module in steps:
        convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        inner = _attention_layers(module)
        stride = math.prod(layer.stride[0] for layer in convolutions if layer not in inner)
        if stride == 1 and maps:
            maps.pop()  # not the last map of its resolution
        channels = convolutions[-1].out_channels if convolutions else channels
        reduction *= stride
        maps.append(FeatureMap(channels, reduction, name))
    return FeatureInfo(tuple(maps))


def _attention_layers(module: nn.Module) -> set[nn.Module]:
    """The layers inside attention, whose strides make only keys and values smaller, not the block's output."""
    return {layer for part in module.modules() if isinstance(part, MultiQueryAttention) for layer in part.modules()}


class MobileNet(nn.Module):
    """A MobileNet: stem, blocks, head convolution, global average pool, penultimate layer, dropout, classifier.

    Images `[B, in_channels, H, W]` in, logits `[B, num_classes]` out. Images of another size than the planned one run
    too: convolutions pad and the pool adapts. `forward(x)` is `forward_head(forward_features(x))`.

    Args:
        stem: the first convolution.
        blocks: the paper's blocks in order.
        head: the last convolution before the pool; None in V1, which has none.
        penultimate: what stands between pool and dropout, `[B, num_features]` to `[B, features]`; None but in V3, V4.
        features: inputs of the classifier.
        num_classes: its outputs; 0 for a network without classifier, which returns `[B, features]`.
        dropout: rate before the classifier.
        config: the arguments it was built with; `reset_classifier` keeps it up to date.

    Attributes:
        num_classes: outputs of the classifier, 0 without one.
        num_features: channels of `forward_features`.
        head_hidden_size: inputs of the classifier; unlike `num_features` in V3 and V4, which have a penultimate layer.
        feature_info: channels, stride and module of the last feature map of each resolution, as `create_model` with
            `features_only=True` returns them.
    """

    def __init__(
        self,
        *,
        stem: nn.Module,
        blocks: Sequence[nn.Module],
        head: nn.Module | None,
        penultimate: nn.Module | None,
        features: int,
        num_classes: int,
        dropout: float,
        config: NetworkConfig,
    ) -> None:
        super().__init__()
        self.config = config
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.head = head
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.penultimate = penultimate
        self.dropout = nn.Dropout(dropout)
        self.classifier: nn.Module = nn.Linear(features, num_classes) if num_classes else nn.Identity()
        self.num_classes = num_classes
        self.feature_info = feature_info(stem, blocks, self.feature_head())
        self.num_features = features if penultimate is None else self.feature_info[-1].channels
        self.head_hidden_size = features
        initialise(self)

    def feature_head(self) -> nn.Module | None:
        """The head convolution where its output counts as a feature map: in V3 and V4, as in timm.

        There the penultimate layer takes its place in front of the classifier. V2's head convolution only widens what
        the classifier gets.
        """
        return None if self.penultimate is None else self.head

    def forward_features(self, images: Tensor) -> Tensor:
        """The last feature map, `[B, num_features, h, w]`, of images `[B, in_channels, H, W]`."""
        x: Tensor = self.blocks(self.stem(images))
        return x if self.head is None else self.head(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits `[B, num_classes]` of the last feature map `[B, num_features, h, w]`.

        With `pre_logits` what the classifier is given, before dropout: `[B, head_hidden_size]`.
        """
        x = torch.flatten(self.pool(x), 1)
        if self.penultimate is not None:
            x = self.penultimate(x)
        return x if pre_logits else self.classifier(self.dropout(x))

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, num_classes]` of images `[B, in_channels, H, W]`."""
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """The last layer: linear, `[B, head_hidden_size]` to `[B, num_classes]`, or an identity without classes."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a new, initialised one, on the same device and of the same type.

        `num_classes` and `config` change with it, so that the network can be saved and built again. 0 leaves the
        classifier out: the network then returns `[B, head_hidden_size]`.

        Raises:
            ModelError: the number of classes is not valid; the message says what is.
        """
        config = replace(self.config, num_classes=num_classes)
        like = next(self.parameters())
        self.config, self.num_classes = config, config.num_classes
        self.classifier = nn.Identity()
        if config.num_classes:
            self.classifier = nn.Linear(
                self.head_hidden_size, config.num_classes, device=like.device, dtype=like.dtype
            ).train(self.training)
            initialise(self.classifier)


def initialise(module: nn.Module) -> None:
    """Initialise every layer as the papers' code does, in place.

    Convolution and linear weights: normal, standard deviation 0.09, cut at two of them; biases 0; batch norm 1 and 0.
    Source: TF-slim `mobilenet.py` and `mobilenet_v1.py`, the training scope's `truncated_normal_initializer`, which
    draws again what falls outside two standard deviations. MobileNetV4's attention and layer scale start as their own
    `reset_parameters` says.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            _truncated_normal_(layer.weight, INIT_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
    # Last, because attention starts its own convolutions its own way.
    for layer in module.modules():
        if isinstance(layer, LayerScale | MultiQueryAttention):
            layer.reset_parameters()


def _truncated_normal_(weight: Tensor, std: float) -> None:
    """Fill with a normal distribution cut at two standard deviations, by its inverse cumulative distribution.

    PyTorch's `trunc_normal_` once did the same; now it draws the whole tensor again until every value fits, which is
    slower, and a change of its method changes what a seed means.
    """
    reach = math.erf(2 / math.sqrt(2))  # the probability within two standard deviations
    if weight.is_meta:  # no memory to fill; and torch would load its compiler, for seconds, to know the shape
        return
    with torch.no_grad():
        weight.uniform_(-reach, reach).erfinv_().mul_(std * math.sqrt(2)).clamp_(-2 * std, 2 * std)
