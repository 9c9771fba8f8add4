"""What each augmentation costs: `python benchmarks/augmentation.py`.

Regime: batches of 128 images of scikit-learn's digits at 32 pixels, one thread; each augmentation by itself, all in
turn, after an unmeasured round; processor seconds, which other work on the machine disturbs little. A step of training
is measured beside them: MobileNetV3-Small at width 0.5, forward and backward.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from mobilenets.data.datasets import load_dataset
from mobilenets.data.loader import prepare
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing
from mobilenets.training.inputs import BatchInputs, StepIndex
from mobilenets.training.recipe import Recipe

ROUNDS, BATCH = 9, 128
NOTHING = Recipe(flip=False, crop_padding=0)
RECIPES = {
    "nothing": NOTHING,
    "flip and padded crop": Recipe(),
    "resized crop": Recipe(flip=False, crop="resized"),
    "brightness and saturation": Recipe(flip=False, crop_padding=0, jitter_brightness=0.125, jitter_saturation=0.5),
    "TrivialAugment": Recipe(flip=False, crop_padding=0, augment="trivial"),
    "RandAugment, 2 changes": Recipe(flip=False, crop_padding=0, augment="rand"),
    "erasing, 1 in 4": Recipe(flip=False, crop_padding=0, erasing=0.25),
    "MixUp": Recipe(flip=False, crop_padding=0, mixup_alpha=0.2),
    "CutMix": Recipe(flip=False, crop_padding=0, cutmix_alpha=1.0),
    "MixUp or CutMix": Recipe(flip=False, crop_padding=0, mixup_alpha=0.2, cutmix_alpha=1.0),
}
PEERS = {
    "torchvision's MixUp": v2.MixUp(alpha=0.2, num_classes=10),
    "torchvision's CutMix": v2.CutMix(alpha=1.0, num_classes=10),
}
"""One draw for the whole batch, on images that are normalised already: what ours are to be compared with."""


def main() -> None:
    from timing import spread, write

    torch.set_num_threads(1)
    images = prepare(load_dataset("digits").train, Preprocessing(32))
    batch, labels = images.batch(range(BATCH)), images.labels[:BATCH]
    cpu = torch.device("cpu")
    made = {name: BatchInputs(recipe, images.preprocessing, 10, cpu) for name, recipe in RECIPES.items()}
    model = create_model("mobilenet_v3_small", num_classes=10, width_mult=0.5, image_size=32)
    model = model.train().to(memory_format=torch.channels_last)

    def step() -> None:
        inputs, targets = made["nothing"](batch, labels, StepIndex(0, 0), torch.channels_last)
        F.cross_entropy(model(inputs), targets).backward()

    def mixed_by_peer(peer: v2.Transform) -> None:
        peer(*made["nothing"](batch, labels, StepIndex(0, 0), torch.channels_last))

    def calls(number: int) -> dict[str, Callable[[], object]]:
        return {
            **{
                name: partial(make, batch, labels, StepIndex(0, number), torch.channels_last)
                for name, make in made.items()
            },
            **{name: partial(mixed_by_peer, peer) for name, peer in PEERS.items()},
            "step": step,
        }

    seconds: dict[str, list[float]] = {name: [] for name in (*made, *PEERS, "step")}
    for number in range(ROUNDS + 1):
        for name, call in calls(number).items():
            began = time.process_time()
            call()
            if number:
                seconds[name].append(time.process_time() - began)
    plain = float(np.median(seconds["nothing"]))
    figures = {
        "milliseconds_an_image": {
            name: spread([1000 * max(0.0, value - plain) / BATCH for value in values])
            for name, values in seconds.items()
            if name != "nothing"
        },
    }
    regime = (
        f"digits at 32 px, batches of {BATCH}, one thread, {ROUNDS} rounds in turn; processor time beyond normalising"
    )
    write("augmentation", regime, figures)


if __name__ == "__main__":
    main()
