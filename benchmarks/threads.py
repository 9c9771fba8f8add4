"""Share a loaded file among threads, count wrong answers, compare with one lock: `python benchmarks/threads.py`.

Regime: MobileNetV2 x0.25 at 32 pixels without training, exported in every format, and opened with one thread an answer.
Answers: 8 threads make 200 calls each, of 1 to 8 images drawn anew from 32, and each answer must be that of the image
asked alone (a difference above a thousandth of the largest logit is wrong, as is any error). Speed: calls of one image
a second by 1, 2, 4 and 8 threads, as they come and with one lock around every call, in alternation; the ratio of the
two is of the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mobilenets import create_model
from mobilenets.errors import MobilenetsError
from mobilenets.exporters.subject import FORMATS, translator
from mobilenets.exporters.verify import opened
from mobilenets.machine import usable_cores
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.backend import Backend
from mobilenets.runtime.loaded_file import pool_size

SIZE, CLASSES, IMAGES = 32, 10, 32
THREADS, CALLS, LARGEST_BATCH = 8, 200, 8
SHARE = 1e-3  # of the largest logit
COUNTS, TURNS = (1, 2, 4, 8), 3


def count_wrong(backend: Backend, images: NDArray[np.uint8]) -> dict[str, Any]:
    """Answers of all threads by what became of them."""
    alone = np.concatenate([backend.predict(image[None]) for image in images])
    tolerance = SHARE * float(np.abs(alone).max())

    def work(seed: int) -> Counter[str]:
        random, found = np.random.default_rng(seed), Counter[str]()
        for _ in range(CALLS):
            chosen = random.integers(0, len(images), random.integers(1, LARGEST_BATCH + 1))
            try:
                answers = backend.predict(images[chosen])
            except MobilenetsError:
                found["errors"] += 1
                continue
            right = answers.shape == alone[chosen].shape and np.abs(answers - alone[chosen]).max() <= tolerance
            found["right" if right else "wrong"] += 1
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        found = sum(pool.map(work, range(THREADS)), Counter[str]())
    return {
        "threads": THREADS,
        "calls": THREADS * CALLS,
        **{name: found[name] for name in ("right", "wrong", "errors")},
    }


def calls_a_second(call: Callable[[], object], threads: int, seconds: float) -> float:
    """How many calls so many threads make together."""
    stop = time.perf_counter() + seconds

    def work(_: int) -> int:
        made = 0
        while time.perf_counter() < stop:
            call()
            made += 1
        return made

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        made = sum(pool.map(work, range(threads)))
    return made / (time.perf_counter() - started)


def compare_with_a_lock(backend: Backend, image: NDArray[np.uint8], seconds: float) -> list[dict[str, float]]:
    """A row for each number of threads."""
    lock = threading.Lock()

    def locked() -> None:
        with lock:
            backend.predict(image)

    rows = []
    for threads in COUNTS:
        turns = [
            (
                calls_a_second(lambda: backend.predict(image), threads, seconds),
                calls_a_second(locked, threads, seconds),
            )
            for _ in range(TURNS)
        ]
        free, single = (statistics.median(rates) for rates in zip(*turns, strict=True))
        rows.append(
            {
                "threads": threads,
                "calls_a_second": round(free, 1),
                "with_one_lock": round(single, 1),
                "ratio": round(free / single, 2),
            }
        )
    return rows


def main() -> None:
    """Measure every format in its runtime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "threads.json")
    parser.add_argument("--kinds", nargs="+", choices=FORMATS, default=FORMATS, help="formats to measure; others stay")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement of speed")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = create_model("mobilenet_v2", num_classes=CLASSES, width_mult=0.25, image_size=SIZE).eval()
    for norm in (layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)):
        norm.momentum = None
    with torch.no_grad():  # statistics of images, so that logits differ from image to image
        model.train()(torch.rand(16, 3, SIZE, SIZE) * 2 - 1)
    model.eval()
    preprocessing = Preprocessing(image_size=SIZE)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    names = tuple(map(str, range(CLASSES)))
    rows = []
    for kind in options.kinds:
        exported = translator(kind)(model, preprocessing)
        with opened(exported, kind, precision="fp32", preprocessing=preprocessing, classes=names, threads=1) as backend:
            rows.append(
                {
                    "backend": backend.name,
                    "answers": count_wrong(backend, images),
                    "speed": compare_with_a_lock(backend, images[:1], options.seconds),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    if options.out.exists():
        measured = {row["backend"] for row in rows}
        before = json.loads(options.out.read_text(encoding="utf-8"))["backends"]
        rows = [row for row in before if row["backend"] not in measured] + rows
    result = {"cores": usable_cores(), "at_once": pool_size(1), "seconds": options.seconds, "backends": rows}
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
