"""Feature maps of a network for detection and segmentation: `FeatureInfo` lists them, `MobileNetFeatures` returns them.

Names and meaning are timm's (`features_only=True`, `feature_info`), so that code written for its backbones runs as it
is. torchvision's `FeaturePyramidNetwork` and `SSDLiteHead` take the channels from `feature_info.channels()`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from mobilenets.errors import ModelError
from mobilenets.models.config import NetworkConfig
from mobilenets.models.mobilenet_v4_blocks import MultiQueryAttention


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


class MobileNetFeatures(nn.Module):
    """A MobileNet without pool and classifier: images `[B, in_channels, H, W]` in, a list of feature maps out.

    Map i is `[B, feature_info[i].channels, ceil(H / s), ceil(W / s)]` with `s = feature_info[i].reduction`. Modules
    after the last selected map are left out. The names in its state dict are those of the whole network:
    `features.load_state_dict(network.state_dict(), strict=False)` takes the weights of a trained one.

    Args:
        stem: the first convolution.
        blocks: the network's blocks in order.
        head: the convolution after the blocks where its output counts as a feature map; else None.
        out_indices: which of the network's feature maps to return; negative ones count from the end, None means all.
        config: the arguments the network was built with; kept, not read.

    Attributes:
        feature_info: channels, reduction and module of each returned map.

    Raises:
        ModelError: `out_indices` names a map that there is not.
    """

    def __init__(
        self,
        *,
        stem: nn.Module,
        blocks: Sequence[nn.Module],
        head: nn.Module | None,
        out_indices: Sequence[int] | None,
        config: NetworkConfig,
    ) -> None:
        super().__init__()
        self.config = config
        self.feature_info = feature_info(stem, blocks, head).selected(out_indices)
        modules = self.feature_info.module_name()
        names = [f"blocks.{number}" for number in range(len(blocks))]
        used = len(names)
        if "head" not in modules:
            head = None
            used = max((number + 1 for number, name in enumerate(names) if name in modules), default=0)
        self._returns_stem = "stem" in modules
        self._returned_blocks = [name in modules for name in names[:used]]
        self.stem = stem
        self.blocks = nn.Sequential(*list(blocks)[:used])
        self.head = head

    def forward(self, images: Tensor) -> list[Tensor]:
        """The feature maps of images `[B, in_channels, H, W]`, largest first."""
        maps: list[Tensor] = []
        x: Tensor = self.stem(images)
        if self._returns_stem:
            maps.append(x)
        for number, block in enumerate(self.blocks):
            x = block(x)
            if self._returned_blocks[number]:
                maps.append(x)
        if self.head is not None:
            maps.append(self.head(x))
        return maps
