"""The feature maps of a network, for detection and segmentation.

Names and meaning are timm's (`features_only=True`, `feature_info`), so that code written for its backbones runs as it
is. torchvision's `FeaturePyramidNetwork` and `SSDLiteHead` take the channels from `feature_info.channels()`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mobilenets.models.config import NetworkConfig
from mobilenets.models.network import feature_info


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
