"""What the doctor costs and what it finds: `python benchmarks/doctor.py cifar10.zip imagenet-samples.zip`.

Regime: `mobilenets doctor CIFAR10 --fix`, the real command in a process of its own, with its page and its list; 3
rounds after one that fills the system's cache of the file. `findings` are what it finds, by kind.

Then how often it finds the copy of an image that was transformed: 500 images of each of the two data sets, drawn with a
seed, each transformed in every way below, and searched for among all of that set. `found` is the share of images whose
own copy is reported; `wrong` are pairs of an image with the copy of another, unless the two images are near-duplicates
themselves. Mirrored pictures are not looked for: their row says so.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

ROUNDS = 3
DRAWN = 500


def cropped(share: float) -> Callable[[Image.Image], Image.Image]:
    """Cut `share` of both sides away, two thirds of it left and above; at least a pixel."""

    def crop(image: Image.Image) -> Image.Image:
        cuts = [max(1, round(share * side)) for side in image.size]
        before = [-(-2 * cut // 3) for cut in cuts]
        ends = [side - cut + start for side, cut, start in zip(image.size, cuts, before, strict=True)]
        return image.crop((*before, *ends))

    return crop


def compressed(quality: int) -> Callable[[Image.Image], Image.Image]:
    def compress(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return compress


def scaled(factor: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize(
        (round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC
    )


PRINTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 50": compressed(50),
    "JPEG, quality 20": compressed(20),
    "half the size": scaled(0.5),
    "twice the size": scaled(2),
    "15 % lighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "30 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "2 % cut off": cropped(0.02),
    "5 % cut off": cropped(0.05),
    "10 % cut off": cropped(0.1),
    "turned by 2 degrees": lambda image: image.rotate(2, Image.Resampling.BICUBIC),
    "mirrored": ImageOps.mirror,
}


def checkup(data: Path) -> dict[str, Any]:
    """Seconds and findings of the command on `data`."""
    from timing import spread

    seconds, record, page = [], {}, 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1 + ROUNDS):
            out = Path(folder) / str(number)
            start = time.perf_counter()
            command = [sys.executable, "-m", "mobilenets", "doctor", str(data), "--fix", "--out", str(out)]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
            if done.returncode not in (0, 1):
                raise SystemExit(done.returncode)
            seconds.append(time.perf_counter() - start)
            record = json.loads((out / "doctor.json").read_text(encoding="utf-8"))
            page = (out / "doctor.html").stat().st_size
            print(f"round {number}: {seconds[-1]:.1f} s", flush=True)
    return {
        "images": record["images"],
        "seconds": spread(seconds[1:]),
        "images_per_second": spread([record["images"] / one for one in seconds[1:]]),
        "page_kb": round(page / 1000),
        "findings": {finding["kind"]: finding["count"] for finding in record["findings"]},
        "left_out": len(record["excluded"]),
    }


def found_again(data: Path) -> dict[str, dict[str, float]]:
    """How often copies of 500 images of `data` are found, by how they were transformed."""
    from mobilenets.checkup.examination import image_facts
    from mobilenets.checkup.inventory import take_inventory
    from mobilenets.checkup.near_duplicates import near_pairs
    from mobilenets.data.sources import ArraySource

    entries = take_inventory(data).entries
    drawn = np.sort(np.random.default_rng(0).permutation(len(entries))[:DRAWN])
    images = [entries[place].source.open() for place in drawn]
    originals = [image_facts(ArraySource("original", np.asarray(image))) for image in images]
    similar = set(near_pairs(originals))
    rows = {}
    for name, make in PRINTS.items():
        prints = [image_facts(ArraySource("print", np.asarray(make(image)))) for image in images]
        pairs = near_pairs([*originals, *prints], ["train"] * DRAWN + ["test"] * DRAWN)
        across = [(first, second - DRAWN) for first, second in pairs if first < DRAWN <= second]
        same = sum(one.digest == other.digest for one, other in zip(originals, prints, strict=True))
        own = sum(first == second for first, second in across)
        wrong = sum(
            first != second and (min(first, second), max(first, second)) not in similar for first, second in across
        )
        rows[name] = {"found": (own + same) / DRAWN, "wrong": wrong}
        print(f"{data.stem}, {name}: {rows[name]}", flush=True)
    return rows


def main(cifar10: Path, photographs: Path) -> None:
    from timing import write

    figures = checkup(cifar10)
    again = {data.stem: found_again(data) for data in (cifar10, photographs)}
    regime = (
        f"mobilenets doctor {cifar10.name} --fix, {ROUNDS} rounds, files in the system's cache; {DRAWN} transformed"
    )
    write("doctor", regime, {**figures, "found_again": again})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
