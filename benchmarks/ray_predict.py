"""Images a second with and without Ray, and memory: `python benchmarks/ray_predict.py ARTIFACT FOLDER`.

Regime: ARTIFACT (an exported MobileNetV2 for 224 pixels, say) answers the first 1,536 images of FOLDER (CIFAR-10 as
JPEG files, say), three rounds, alternating: the plain engine, which decodes and computes on all cores; Ray with one
worker of one core; Ray with two. Each in a process of its own, Python's loading of libraries not counted. The rate is
told twice: of the whole call, Ray's start and end included, and while running, from when each worker has brought its
first answers. Memory: the peak of the process that starts Ray (the workers have their own), when it has 4,000 files
answered and when ten times as many, by a small untrained MobileNetV2 (width 0.35, 32 pixels).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from mobilenets.benchmarking.worker import peak_resident_bytes
from mobilenets.progress import Silent
from mobilenets.runtime.bulk.predict_many import predict_many
from mobilenets.runtime.classifier import Classifier
from mobilenets.runtime.image_files import find_images
from mobilenets.runtime.streaming import predict_files

IMAGES, ROUNDS = 1_536, 3
FEW, MANY = 4_000, 40_000
BATCH = 16
WAYS = {"plain engine": 0, "ray, 1 worker": 1, "ray, 2 workers": 2}
_MIB = 2**20


class _Marks(Silent):
    """Notes when how many images are done."""

    def __init__(self, marks: list[tuple[int, float]]) -> None:
        self._marks = marks

    def update(self, what: str, done: int, total: int | None) -> None:
        self._marks.append((done, time.perf_counter()))


def answer(artifact: Path, folder: Path, count: int, workers: int) -> dict[str, float]:
    """Answer the first `count` images, by so many of Ray's workers (0: without Ray)."""
    paths = [path for path in islice(find_images([folder]), count) if isinstance(path, Path)]
    marks: list[tuple[int, float]] = []
    started = time.perf_counter()
    if workers:
        with tempfile.TemporaryDirectory() as out:
            predict_many(artifact, paths, out, workers=workers, progress=_Marks(marks))
    else:
        for number, _ in enumerate(predict_files(Classifier(artifact), paths), 1):
            marks.append((number, time.perf_counter()))
    ended = time.perf_counter()
    (first, since), (last, until) = marks[(workers or BATCH) - 1], marks[-1]
    return {
        "images": last,
        "seconds": ended - started,
        "first_seconds": marks[0][1] - started,
        "rate": last / (ended - started),
        "rate_running": (last - first) / (until - since),
        "peak_mib": peak_resident_bytes() / _MIB,
    }


def small_network(path: Path) -> None:
    """The network whose memory is looked at: any would do."""
    from mobilenets.exporters.export import export_onnx
    from mobilenets.models.registry import create_model
    from mobilenets.preprocessing import Preprocessing

    model = create_model("mobilenet_v2", num_classes=10, width_mult=0.35, image_size=32)
    classes = tuple(map(str, range(10)))
    export_onnx(model, path, preprocessing=Preprocessing(image_size=32), classes=classes)


def main(artifact: Path, folder: Path) -> None:
    from timing import alternate, spread, write

    def command(file: Path, count: int, workers: int) -> tuple[str, ...]:
        return (__file__, str(file), str(folder), str(count), str(workers))

    measured = alternate({name: command(artifact, IMAGES, workers) for name, workers in WAYS.items()}, ROUNDS)
    with tempfile.TemporaryDirectory() as temporary:
        small = Path(temporary) / "small.onnx"
        small_network(small)
        memory = alternate({str(count): command(small, count, 2) for count in (FEW, MANY)}, 1)
    ways = {
        name: {what: spread([one[what] for one in values]) for what in ("rate", "rate_running", "first_seconds")}
        for name, values in measured.items()
    }
    driver = [{"files": one["images"], "peak_mib": one["peak_mib"], "rate": one["rate"]} for (one,) in memory.values()]
    regime = (
        f"{artifact.name} on {IMAGES:,} images of {folder.name}, {ROUNDS} alternating rounds, a process each; images a "
        "second of the whole call and while running; peak memory of the process that starts Ray, by a "
        "small network"
    )
    write("ray_predict", regime, {"images": IMAGES, "ways": ways, "driver_memory": driver})


if __name__ == "__main__":
    if len(sys.argv) == 5:
        print(json.dumps(answer(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
