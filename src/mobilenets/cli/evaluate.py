"""`mobilenets evaluate`: score a trained network on images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro

from mobilenets.cli.options import parse

ABOUT = """Score a trained network on images: top-1, top-5, every class, calibration.

Example:
  mobilenets evaluate runs/digits --data digits
"""


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate`."""

    run: tyro.conf.Positional[Path]
    """Run folder, as `mobilenets train` leaves it."""
    data: str = "digits"
    """Images, as for train; their classes must be the network's."""
    split: Literal["test", "train"] = "test"
    """Which images; training images are scored as they are, without augmentation."""
    skip_bad: bool = False
    """Leave unreadable images out, and count them, instead of refusing."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    device: str | None = None
    """cpu, cuda or mps; without it, the best there is."""
    json: bool = False
    """Print the scores as JSON."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = parse(EvaluateOptions, argv, "evaluate", ABOUT)
    import torch
    from rich.console import Console

    from mobilenets.cli.live import Live
    from mobilenets.data.datasets import load_dataset
    from mobilenets.data.loader import prepare
    from mobilenets.errors import DataError
    from mobilenets.evaluation.evaluate import evaluate
    from mobilenets.models.saved import load_network
    from mobilenets.report.tables import metrics_table
    from mobilenets.training.device import choose_device
    from mobilenets.training.run import SCORING_BATCH, announce, torch_predict

    saved = load_network(options.run)
    device = choose_device(options.device)
    dataset = load_dataset(options.data, data_root=options.data_root)
    if dataset.classes != saved.classes:
        raise DataError(
            f"{options.data} has classes {', '.join(dataset.classes[:5])}, ... ({len(dataset.classes)}); "
            f"{options.run} answers {', '.join(saved.classes[:5])}, ... ({len(saved.classes)}). They must be the same"
        )
    with Live(Console(stderr=True)) as live:
        split = dataset.test if options.split == "test" else dataset.train
        images = prepare(
            split,
            saved.preprocessing,
            skip_bad=options.skip_bad,
            progress=lambda done, total: live.progress("reading images", done, total),
        )
        announce(dataset.notes, images.skipped, live)
        predict = torch_predict(saved.model, saved.preprocessing, device, torch.channels_last)
        scored = evaluate(
            predict,
            images.batches(SCORING_BATCH),
            saved.classes,
            progress=lambda done: live.progress("scoring", done, len(images)),
        )
    if options.json:
        print(json.dumps(asdict(scored.metrics)))
    else:
        Console().print(metrics_table(scored.metrics))
    return 0
