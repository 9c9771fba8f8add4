"""What batch norm's running statistics do to a short training: `python benchmarks/norm_statistics.py`.

Regime: MobileNetV3-Small at width 0.5 on scikit-learn's digits, `quick` recipe but 2 epochs (88 steps), 3 seeds; the
same trained weights are scored with the statistics as training left them and re-estimated.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

import torch

from mobilenets.data.datasets import load_dataset
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.training import optimizer as averaging
from mobilenets.training.recipe import load_recipe
from mobilenets.training.run import train_and_score
from mobilenets.training.scoring import prepare_splits

SEEDS, EPOCHS = 3, 2


def main() -> None:
    from timing import spread, write

    splits = prepare_splits(load_dataset("digits"), Preprocessing(image_size=32), skip_bad=False, progress=Silent())
    network = {"name": "mobilenet_v3_small", "num_classes": 10, "width_mult": 0.5, "image_size": 32}
    scores: dict[str, list[float]] = {"trained on": [], "as left": [], "re-estimated": []}
    # A share of the start above 1 never happens: the statistics then stay as training left them.
    for name, forgotten in (("as left", 2.0), ("re-estimated", averaging.FORGOTTEN)):
        for seed in range(SEEDS):
            recipe = load_recipe("quick", epochs=EPOCHS, seed=seed)
            with tempfile.TemporaryDirectory() as folder, patch.object(averaging, "FORGOTTEN", forgotten):
                run = train_and_score(
                    network,
                    splits,
                    recipe,
                    Path(folder) / "run",
                    resume=False,
                    device=torch.device("cpu"),
                    progress=Silent(),
                )
            scores[name].append(run.test.top1)
            if name == "as left":
                scores["trained on"].append(run.curve[-1].top1)
            print(f"{name}, seed {seed}: test {run.test.top1:.1f} %", flush=True)
    figures = {name: spread(values) for name, values in scores.items()}
    write("norm_statistics", f"digits, {EPOCHS} epochs, {SEEDS} seeds; accuracy in percent", {"top1": figures})


if __name__ == "__main__":
    main()
