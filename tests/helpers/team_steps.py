"""Train a few steps, alone or under torchrun, and keep the main process's result: `python team_steps.py OUT`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilenets.data.datasets import load_dataset
from mobilenets.data.loader import prepare
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.training.checkpoints import Experiment
from mobilenets.training.distributed import join_team
from mobilenets.training.loop import Training
from mobilenets.training.recipe import Recipe

CPU = torch.device("cpu")
RECIPE = Recipe(
    epochs=1,
    batch_size=32,
    optimizer="sgd",
    learning_rate=0.01,
    flip=True,
    crop_padding=1,
    precision="float32",
    memory_format="contiguous",
    sync_norm=True,
)


def in_float64(model: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy in digits enough that only a wrong sum makes a difference: 52 batch norms amplify rounding."""
    logits = model(images)
    return F.cross_entropy(logits, targets), logits


def main(out: Path) -> None:
    torch.manual_seed(0)
    model = create_model("mobilenet_v2", num_classes=10, width_mult=0.35, image_size=8, dropout=0.0).double()
    model.register_forward_pre_hook(lambda module, images: images[0].double())
    images = prepare(load_dataset("digits").train.take(range(96)), Preprocessing(image_size=8))
    with join_team(CPU) as team:
        own = out / f"process{team.rank}"
        own.mkdir(parents=True)
        training = Training(
            model,
            images,
            RECIPE,
            own,
            experiment=Experiment({}, {}, {}),
            device=CPU,
            progress=Silent(),
            classes=10,
            objective=in_float64,
            team=team,
        )
        gradients = []
        real_step = training.optimizer.step

        def watched() -> None:
            gradients.append({name: value.grad.clone() for name, value in model.named_parameters()})
            real_step()

        training.optimizer.step = watched
        training.model.train()
        training.fit()
        written = sorted(path.name for path in own.iterdir())
        kept = {"gradients": gradients, "model": model.state_dict(), "written": written, "share": team.share.index}
        torch.save(kept, out / f"process{team.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
