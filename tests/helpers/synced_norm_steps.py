"""One of two processes that normalise a batch together: `python synced_norm_steps.py RANK FOLDER`.

Each has other images of the batch, not equally many. What they answer and learn goes to `FOLDER/RANK.pt`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from mobilenets.models.registry import create_model
from mobilenets.training.synced_norm import SyncedBatchNorm2d, sync_norms

SHARES = (slice(0, 3), slice(3, 8))


@dataclass(frozen=True)
class Case:
    """How a batch norm is used: types of the maps and of the layer, layout, and the layer's own options."""

    maps: torch.dtype = torch.float32
    layer: torch.dtype = torch.float32
    layout: torch.memory_format = torch.contiguous_format
    momentum: float | None = 0.1
    affine: bool = True

    def norm(self, kind: type[nn.BatchNorm2d]) -> nn.BatchNorm2d:
        """A layer with weights of its own."""
        torch.manual_seed(1)
        made = kind(4, momentum=self.momentum, affine=self.affine)
        if self.affine:
            nn.init.normal_(made.weight)
            nn.init.normal_(made.bias)
        return made.to(self.layer)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Maps [8, 4, 9, 8] of 576 values a channel, more than bfloat16 can count, and their part in a loss."""
        torch.manual_seed(2)
        maps = (torch.randn(8, 4, 9, 8) * 2 + 1).to(self.maps).contiguous(memory_format=self.layout)
        return maps, torch.randn(8, 4, 9, 8).to(self.maps)


HALF, BRAIN = torch.float16, torch.bfloat16
CASES = {
    "float32": Case(),
    "channels_last": Case(layout=torch.channels_last),
    "float64": Case(torch.float64, torch.float64),
    "bfloat16 maps": Case(BRAIN),
    "bfloat16 maps, channels_last": Case(BRAIN, layout=torch.channels_last),
    "bfloat16 all": Case(BRAIN, BRAIN),
    "float16 maps": Case(HALF),
    "float16 all": Case(HALF, HALF, torch.channels_last),
    "mean of all batches": Case(BRAIN, momentum=None),
    "without weights": Case(BRAIN, affine=False),
}


def steps(norm: nn.BatchNorm2d, maps: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Normalise twice, and the gradients of the second."""
    maps = maps.clone().requires_grad_()
    norm(maps.detach() * 2)
    answers = norm(maps)
    (answers * weights).float().sum().backward()
    found = {"answers": answers.detach(), "gradient": maps.grad, **norm.state_dict()}
    return {**found, **{f"gradient of {name}": value.grad for name, value in norm.named_parameters()}}


def network_step(rows: slice, *, synced: bool) -> dict[str, Tensor]:
    """The answers of a network of ours in bfloat16 by autocast, as `precision = bfloat16` trains it."""
    torch.manual_seed(3)
    model = create_model("mobilenet_v3_small", num_classes=3, width_mult=0.25, image_size=32, dropout=0.0)
    model.to(memory_format=torch.channels_last).train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # the running statistics are the batch's then
    if synced:
        sync_norms(model, torch.device("cpu"))
    images = torch.randn(8, 3, 32, 32)[rows].contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=BRAIN):
        logits = model(images)
    logits.float().sum().backward()
    return {"answers": logits.detach().float(), **{name: value.clone() for name, value in model.state_dict().items()}}


def main(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    rows = SHARES[rank]
    found = {}
    for name, case in CASES.items():
        maps, weights = case.batch()
        found[name] = steps(case.norm(SyncedBatchNorm2d), maps[rows], weights[rows])
    found["network"] = network_step(rows, synced=True)
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
