"""`mobilenets train`: one network into a run folder. Every field of the recipe is a flag."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mobilenets.cli.options import parse
from mobilenets.cli.streams import console, say
from mobilenets.files import check_writable
from mobilenets.images import MAX_PIXELS
from mobilenets.training.recipe import Recipe, load_recipe

ABOUT = """Train one network on your images into a run folder, and score it, at the end and once on the test images.

Ctrl-C or SIGTERM saves the run; the same command with --resume goes on where it stopped, to the same weights, after
being killed too, and where nothing was saved yet starts. With more --epochs it extends a run, finished or not: the
schedule is computed anew over all epochs. Started by torchrun, several processes or machines train together.

Example:
  mobilenets train mobilenet_v3_small --data digits --recipe quick --out runs/digits
  mobilenets train mobilenet_v2 --weights imagenet --data photos --image-size 224 --out runs/photos
  mobilenets train mobilenet_v2 --weights imagenet --data photos --head-only --out runs/photos
  mobilenets train mobilenet_v3_small --teacher runs/large --data photos --out runs/small
  torchrun --nproc-per-node 2 --max-restarts 3 -m mobilenets train mobilenet_v2 --data photos --out runs/photos
"""


@dataclass(frozen=True)
class TrainOptions:
    """Options of `train`."""

    model: tyro.conf.Positional[str]
    """Network, e.g. mobilenet_v2."""
    data: str
    """digits, cifar10, shards, or a folder or zip: a folder a class, within train/ and test/ (or val/) or just so."""
    out: Path
    """Run folder to write."""
    fields: Annotated[Recipe, tyro.conf.arg(name="")]
    recipe: str = "article"
    """How to train: article, quick, strong, finetune, paper-v1 ... paper-v4, or TOML; its fields are flags."""
    weights: str | None = None
    """Start from imagenet (published weights, downloaded once), a torchvision, timm or TFLite file, or a run folder."""
    teacher: str | None = None
    """Learn from a trained network too: a run folder, or weights as above, that answer the same classes."""
    teacher_model: str | None = None
    """Network of a teacher that is a weight file; default: the student's own."""
    teacher_width_mult: float = 1.0
    """Its width multiplier."""
    head_only: bool = False
    """Fit the classifier alone to the features of the weights' backbone, in seconds once these are computed."""
    resume: bool = False
    """Continue a run that was stopped or killed, or start it; with more --epochs, extend it."""
    force: bool = False
    """With --resume, go on even where recipe, images or network are not those the run was begun with."""
    save_seconds: float = 60.0
    """How often the state is saved: what being killed may cost. 0 saves after every step."""
    width_mult: float = 1.0
    """Width multiplier."""
    image_size: int | None = None
    """Input size in pixels; default: what suits the images."""
    dropout: float | None = None
    """Dropout before the classifier; default: the paper's."""
    padding: Literal["same", "symmetric"] | None = None
    """How convolutions pad, where the weights don't say it: same (TensorFlow's) or symmetric (PyTorch's)."""
    norm_eps: float | None = None
    """Eps of batch norm, where the weights don't say it: 1e-3 in TensorFlow's, 1e-5 in PyTorch's."""
    exclude: Path | None = None
    """List of images to leave out, as `doctor --fix` writes it."""
    skip_bad: bool = False
    """Leave unreadable images out, and count them, instead of refusing."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can't take all memory."""
    device: str | None = None
    """cpu, cuda or mps; default: the best there is."""
    json: bool = False
    """Print the scores as JSON on standard output."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = _options(argv)
    from mobilenets.cli.progress import Live
    from mobilenets.training.checkpoints import has_state
    from mobilenets.workflows.train import train

    check_writable(options.out)
    if options.weights == "imagenet" and not (options.resume and has_state(options.out)):
        _download(options.model, options.width_mult)
    if options.teacher == "imagenet":
        _download(options.teacher_model or options.model, options.teacher_width_mult)
    with Live(console(stderr=True)) as live:
        run = train(
            options.model,
            options.data,
            options.out,
            recipe=options.recipe if options.head_only else options.fields,
            weights=options.weights,
            teacher=options.teacher,
            teacher_model=options.teacher_model,
            teacher_width_mult=options.teacher_width_mult,
            head_only=options.head_only,
            resume=options.resume,
            force=options.force,
            save_seconds=options.save_seconds,
            width_mult=options.width_mult,
            image_size=options.image_size,
            dropout=options.dropout,
            padding=options.padding,
            norm_eps=options.norm_eps,
            exclude=options.exclude,
            skip_bad=options.skip_bad,
            data_root=options.data_root,
            max_pixels=options.max_pixels,
            device=options.device,
            progress=live,
            **(_changed_fields(options) if options.head_only else {}),
        )
    if os.environ.get("RANK", "0") != "0":
        return 0  # of several processes training together, the first reports
    if options.json:
        print(json.dumps(run.to_dict()))
    else:
        from mobilenets.report.scores import class_lines, run_line

        say("\n".join((run_line(run), *class_lines(run.test), f"run folder: {options.out}")))
    return 0


def _changed_fields(options: TrainOptions) -> dict[str, str | int | float | bool | None]:
    """The recipe's fields that flags changed: a head refuses those that mean nothing to it."""
    shipped = load_recipe(options.recipe)
    names = (field.name for field in fields(Recipe))
    return {
        name: getattr(options.fields, name) for name in names if getattr(options.fields, name) != getattr(shipped, name)
    }


def _download(model: str, width_mult: float) -> None:
    """Fetch the published file beforehand: its progress bar and the live line would write over each other."""
    from mobilenets.models.registry import default_options
    from mobilenets.models.weights.fetch import fetch_published
    from mobilenets.models.weights.published import published_weights

    default_options(model)  # an unknown name is told before a missing file
    fetch_published(published_weights(model, width_mult))


def _options(argv: Sequence[str]) -> TrainOptions:
    """Two readings: the recipe's name first, because the recipe's values are the defaults of the flags."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--recipe", nargs="?", default="article")
    name = first.parse_known_args(list(argv))[0].recipe or "article"
    default = TrainOptions(
        model=tyro.MISSING, data=tyro.MISSING, out=tyro.MISSING, fields=load_recipe(name), recipe=name
    )
    return parse(TrainOptions, argv, "train", ABOUT, default)
