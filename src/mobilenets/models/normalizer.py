"""The numeric half of preprocessing as a module, for training and for the inside of exported graphs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilenets.preprocessing import Preprocessing


class Normalizer(nn.Module):
    """uint8 [B, H, W, C] -> float32 [B, C, H, W], scaled to [0, 1], minus mean, over standard deviation.

    The same figures as `Preprocessing.normalize`, which serves programs without PyTorch.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        # One multiplication and one addition a value: (x / 255 - mean) / std = x * scale + shift.
        self.register_buffer("scale", (1 / (255 * std)).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).reshape(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 [B, H, W, C] -> float32 [B, C, H, W] (channels-last in memory).

        Cast before they are rearranged: an exported graph does the same, and TensorRT lets a uint8 input feed nothing
        but a cast (NVIDIA/TensorRT#3985).
        """
        return images.to(torch.float32).permute(0, 3, 1, 2) * self.scale + self.shift

    def batch(self, images: Tensor) -> Tensor:
        """The very values of `forward`, for less time and memory; its operations are not for a graph to be exported.

        A line of pixels at a time: over channels alone a processor multiplies three numbers at once, not sixteen.
        """
        batch, height, width, channels = images.shape
        lines = images.reshape(batch, height, width * channels).to(torch.float32)
        lines.mul_(self.scale.flatten().repeat(width)).add_(self.shift.flatten().repeat(width))
        return lines.view(batch, height, width, channels).permute(0, 3, 1, 2)
