"""How pictures are decoded for training, as a record: small, and without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from mobilenets.data.crops import RandomCrop
from mobilenets.data.jpeg import decoder_name


@dataclass(frozen=True)
class TrainingDecoding:
    """How pictures are decoded for training, where they are decoded for each batch.

    Attributes:
        crop: random crops, taken while decoding; None for the crop that evaluation takes.
        reduced: whether large JPEGs may be decoded at a reduced scale, and all be resized by PyTorch.
    """

    crop: RandomCrop | None = None
    reduced: bool = True

    def __str__(self) -> str:
        return f"by {decoder_name()}{' at reduced scale' if self.reduced else ''}"
