"""The colour network of `described` as an ExecuTorch program."""

from __future__ import annotations

import logging
import warnings
from functools import cache

from described import SIZE


@cache
def colour_program() -> bytes:
    """The program, for up to 4 images."""
    import torch
    from torch import nn

    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            class Colours(nn.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.head = nn.Linear(3, 3)
                    self.head.weight.data, self.head.bias.data = torch.eye(3) / 20, torch.zeros(3)

                def forward(self, images: torch.Tensor) -> torch.Tensor:
                    logits: torch.Tensor = self.head(images.to(torch.float32).mean((1, 2)))
                    return logits

            example = torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8)
            shapes = ({0: torch.export.Dim("batch", min=1, max=4)},)
            exported = torch.export.export(Colours().eval(), (example,), dynamic_shapes=shapes)
            lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
            return bytes(lowered.to_executorch().buffer)
    finally:
        logging.disable(logging.NOTSET)
