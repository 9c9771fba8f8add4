"""How fast images reach training, beside torchvision: `python benchmarks/loader.py --images imagenet-samples.zip`.

Regime: JPEGs in, normalised float batches of 64 at 224x224 out, two cores, files in the system's page cache. The sides
take turns in one process, round by round; the first round is not counted. Figures are medians over rounds, ratios are
medians of the ratios within rounds.

    torchvision     ImageFolder and its transforms on Pillow, DataLoader with 2 persistent workers
    torchvision_v2  the same with decode_image and transforms.v2 on uint8 tensors, its fastest form
    mobilenets      PreparedImages, and what the training loop makes of a batch (flip, normalise, channels-last)

Training is a random resized crop and flip, evaluation shorter side 256 and the centre crop. The ImageNet samples are
256 pixels high or wide already, so the larger photographs are made of them: tiled, several to a picture, and saved at
qualities that give the bytes a pixel of real ones.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from mobilenets.data.decoding import RandomCrop, TrainingDecoding, decoder_name, draw
from mobilenets.data.loader import PreparedImages, prepare
from mobilenets.data.sources import FileSource, ImageSplit
from mobilenets.data.training_pixels import read_training_pixels
from mobilenets.preprocessing import Preprocessing
from mobilenets.training.inputs import BatchInputs, StepIndex
from mobilenets.training.plan import keep_freed_memory
from mobilenets.training.recipe import Recipe
from timing import spread, write

BATCH, SIZE, WORKERS, ROUNDS = 64, 224, 2, 5
PREPROCESSING = Preprocessing(SIZE, resize_size=256)
CENTRE = (0.5, 0.5, 0.5)
# Side lengths, how many different pictures, how often each, JPEG quality, samples across and down. An epoch has an even
# number of batches, because a worker of DataLoader takes whole ones.
PHOTOS = {
    "500x375": (500, 375, 384, 1, 95, 2),
    "1600x1200": (1600, 1200, 128, 2, 90, 4),
    "4000x3000": (4000, 3000, 32, 4, 88, 5),
}

Epoch = Callable[[int], Iterable[tuple[torch.Tensor, Any]]]


def sources(archive: Path, root: Path) -> dict[str, Path]:
    """Folders of images: the samples as they are, and larger photographs made of them."""
    samples = root / "samples"
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(samples)
    files = sorted(path for path in samples.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    folders = {"256 (ImageNet samples)": samples}
    for name, (width, height, count, copies, quality, tiles) in PHOTOS.items():
        folder = folders[name] = root / name / "photo"
        folder.mkdir(parents=True)
        chooser = random.Random(name)
        for number in range(count):
            photo = Image.new("RGB", (width, height))
            for place in range(tiles * tiles):
                size = (width // tiles, height // tiles)
                tile = Image.open(chooser.choice(files)).convert("RGB").resize(size, Image.Resampling.BICUBIC)
                photo.paste(tile, (place % tiles * size[0], place // tiles * size[1]))
            photo.save(folder / f"{number}-0.jpg", quality=quality)
            for copy in range(1, copies):
                os.link(folder / f"{number}-0.jpg", folder / f"{number}-{copy}.jpg")
        folders[name] = folder.parent
    return folders


def torchvision_epoch(folder: Path, training: bool) -> Epoch:
    """ImageFolder and DataLoader as their documentation has them."""
    geometry = (
        [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
        if training
        else [transforms.Resize(256), transforms.CenterCrop(SIZE)]
    )
    steps = [*geometry, transforms.ToTensor(), transforms.Normalize(CENTRE, CENTRE)]
    return loading(ImageFolder(folder, transforms.Compose(steps)), training)


def v2_epoch(folder: Path, training: bool) -> Epoch:
    """The same in torchvision's fastest form: no Pillow, uint8 as long as possible."""
    geometry = (
        [v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip()]
        if training
        else [v2.Resize(256, antialias=True), v2.CenterCrop(SIZE)]
    )
    steps = v2.Compose([*geometry, v2.ToDtype(torch.float32, scale=True), v2.Normalize(CENTRE, CENTRE)])
    return loading(ImageFolder(folder, steps, loader=read_tensor), training)


def read_tensor(path: str) -> torch.Tensor:
    return decode_image(path, mode=ImageReadMode.RGB)


def loading(images: ImageFolder, training: bool) -> Epoch:
    loader = torch.utils.data.DataLoader(
        images, BATCH, shuffle=training, num_workers=WORKERS, persistent_workers=True, drop_last=True
    )
    return lambda _: loader


def our_epoch(images: PreparedImages, training: bool) -> Epoch:
    """Ours, up to the tensor that the network is given."""
    inputs = BatchInputs(Recipe(crop_padding=0), PREPROCESSING, 1000, torch.device("cpu"))

    def train(number: int) -> Iterable[tuple[torch.Tensor, Any]]:
        for step, (pixels, labels) in enumerate(images.epoch(number, BATCH)):
            yield inputs(pixels, labels, StepIndex(number, step), torch.channels_last)

    def evaluate(number: int) -> Iterable[tuple[torch.Tensor, Any]]:
        for pixels, labels in images.batches(BATCH):
            yield inputs.plain(torch.from_numpy(pixels), torch.channels_last), labels

    return train if training else evaluate


def speed(epoch: Epoch, number: int) -> float:
    """Images a second of one epoch."""
    start, seen = time.perf_counter(), 0
    for images, _ in epoch(number):
        seen += len(images)
    return seen / (time.perf_counter() - start)


def compare(folder: Path, training: bool) -> dict[str, Any]:
    """Alternate the sides on one folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [FileSource(path, str(path.relative_to(folder)), path.stat().st_size) for path in files]
    prepared = prepare(ImageSplit(listed, np.zeros(len(listed), np.int64)), PREPROCESSING, memory_limit=0)
    if training:
        prepared = prepared.for_training(TrainingDecoding(RandomCrop()))
    sides = {
        "torchvision": torchvision_epoch(folder, training),
        "torchvision_v2": v2_epoch(folder, training),
        "mobilenets": our_epoch(prepared, training),
    }
    rounds: list[dict[str, float]] = []
    for number in range(ROUNDS + 1):
        rounds.append({name: speed(epoch, number) for name, epoch in sides.items()})
        print({name: round(value) for name, value in rounds[-1].items()}, flush=True)
    counted = rounds[1:]
    ratios = {name: [one["mobilenets"] / one[name] for one in counted] for name in ("torchvision", "torchvision_v2")}
    return {
        "images_per_second": {name: spread([one[name] for one in counted]) for name in sides},
        "ratio": {name: spread(values) for name, values in ratios.items()},
    }


def difference(folder: Path) -> dict[str, float]:
    """What decoding at a reduced scale changes in the same crops, in grey levels: mean, 99th percentile, greatest."""
    found = []
    crop, draws = RandomCrop(), draw(0, 0, 64)
    for path, drawn in zip(sorted(folder.rglob("*-0.jpg")), draws, strict=False):
        source = FileSource(path, path.name, path.stat().st_size)
        full, reduced = (
            read_training_pixels(source, PREPROCESSING, TrainingDecoding(crop, reduced=allowed), drawn)
            for allowed in (False, True)
        )
        found.append(np.abs(full.astype(np.int64) - reduced))
    levels = np.stack(found)
    return {"mean": float(levels.mean()), "p99": float(np.percentile(levels, 99)), "max": float(levels.max())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a zip of photographs in class folders")
    options = parser.parse_args()
    keep_freed_memory()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as root:
        for name, folder in sources(options.images, Path(root)).items():
            sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
            results[name] = {"images": len(sizes), "median_bytes": median(sizes)}
            if name in PHOTOS:
                results[name]["reduced_decoding_changes"] = difference(folder)
            for what, training in (("training", True), ("evaluation", False)):
                print(f"{name}, {what}", flush=True)
                results[name][what] = compare(folder, training)
    regime = (
        f"{SIZE}x{SIZE}, batch {BATCH}, {WORKERS} workers, {ROUNDS} alternating rounds of an epoch, warm page cache"
    )
    write("loader", regime, {"decoder": decoder_name(), "sources": results})


if __name__ == "__main__":
    main()
