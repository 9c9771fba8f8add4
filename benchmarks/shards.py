"""Memory, speed and resuming over shards of 10^4 to 10^6 images: `python benchmarks/shards.py --work DIR`.

Makes 10^6 tiny images (the digits' scans enlarged to 32x32, with noise of their own, as JPEG) straight into shards,
about 3 GB in DIR, and streams one shuffled epoch over the first 10^4, 10^5 and all of them, each in a process of its
own that reads its resident memory from /proc every quarter of a second. Then, alternating: images a second from shards
and from a folder of the same files; the time to the first batch at an epoch's start and in its middle. Last, a real
training by the command over all of them: some steps, SIGKILL, some steps more by --resume. What was made is removed.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from webdataset.writer import TarWriter

from mobilenets.data.datasets import load_dataset
from mobilenets.data.loader import prepare
from mobilenets.data.shards.index import Origin, ShardEntry, ShardIndex, digest_of
from mobilenets.data.shards.opening import open_shards
from mobilenets.data.shards.streaming import ShardImages
from mobilenets.preprocessing import Preprocessing
from timing import RESULTS, alternate, spread, write

SIZE = 32
PER_SHARD = 10_000
BATCH = 256
TEST = 2_000
SIZES = (10_000, 100_000, 1_000_000)
PARTS = ("memory", "speed", "training")
_WRITTEN = ("regime", "machine")  # by `write` itself
TRAINED_SECONDS = 20  # beyond the first state that is saved
FOLDER = 20_000
"""Images of the folder that shards are compared with: as many as two shards hold."""


def make_shards(folder: Path, images: int) -> None:
    """Write shards and index, one shard in memory at a time."""
    scans = load_dataset("digits").train
    small = np.stack([np.asarray(source.open().resize((SIZE, SIZE))) for source in scans.sources]).astype(np.int16)
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    entries: list[ShardEntry] = []
    counts = {"train": np.zeros(10, np.int64), "test": np.zeros(10, np.int64)}
    for split, total in (("train", images), ("test", TEST)):
        for number in range(-(-total // PER_SHARD)):
            name = f"{split}-{number:06d}.tar"
            chosen = random.integers(len(scans), size=min(PER_SHARD, total))
            with (folder / name).open("wb") as file, TarWriter(file, encoder=False, mtime=0) as tar:
                for place, which in enumerate(chosen):
                    noise = random.integers(-40, 41, (SIZE, SIZE, 3), dtype=np.int16)
                    content = io.BytesIO()
                    Image.fromarray(np.clip(small[which] + noise, 0, 255).astype(np.uint8)).save(content, "JPEG")
                    label = int(scans.labels[which])
                    tar.write({"__key__": f"{place:06d}", "jpg": content.getvalue(), "cls": str(label).encode()})
                    counts[split][label] += 1
            size = (folder / name).stat().st_size
            entries.append(ShardEntry(name, "train" if split == "train" else "test", len(chosen), size, name))
            if number % 10 == 9:
                print(f"{len(entries) * PER_SHARD:,} images made", flush=True)
    classes = tuple(str(digit) for digit in range(10))
    origin = Origin("digits with noise", digest_of(classes, entries), 0, PER_SHARD, None)
    sums = {"train": tuple(counts["train"].tolist()), "test": tuple(counts["test"].tolist())}
    (folder / "index.json").write_text(ShardIndex(classes, classes, tuple(entries), sums, origin).to_json())


def make_folder(shards: Path, folder: Path) -> None:
    """Unpack the first images into a folder of classes."""
    shutil.rmtree(folder, ignore_errors=True)
    from mobilenets.data.shards.reading import read_shard

    for number in range(FOLDER // PER_SHARD):
        for record in read_shard(str(shards / f"train-{number:06d}.tar")):
            path = folder / record.label / f"{number}-{record.name.rpartition('/')[2]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(record.content)


def pattern(shards: Path, images: int) -> str:
    return f"{shards}/train-{{000000..{images // PER_SHARD - 1:06d}}}.tar"


def open_images(shards: Path, images: int) -> ShardImages:
    return ShardImages(open_shards(pattern(shards, images)).train, Preprocessing(SIZE))


def resident() -> int:
    """Bytes of this process in memory now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def stream_memory(shards: Path, images: int) -> dict[str, float]:
    """One epoch: the resident memory over its course, and its speed."""
    source = open_images(shards, images)
    before, seen, done = resident(), [], threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            seen.append(resident())

    progress = threading.Thread(target=watch)
    progress.start()
    started, count = time.perf_counter(), 0
    for pixels, _ in source.epoch(1, BATCH):
        count += len(pixels)
    seconds = time.perf_counter() - started
    done.set()
    progress.join()
    third = max(1, len(seen) // 3)
    return {
        "images": count,
        "seconds": seconds,
        "before_mib": before / 2**20,
        "peak_mib": max(seen, default=before) / 2**20,
        "first_third_mib": max(seen[:third], default=before) / 2**20,
        "last_third_mib": max(seen[-third:], default=before) / 2**20,
    }


def speed(shards: Path, folder: Path | None) -> float:
    """Images a second of one shuffled epoch over `FOLDER` images, decoded anew for every batch from either."""
    if folder is None:
        batches: Iterator[Any] = open_images(shards, FOLDER).epoch(1, BATCH)
    else:
        dataset = load_dataset(folder)
        batches = prepare(dataset.train, Preprocessing(SIZE), memory_limit=0).epoch(1, BATCH)
    started, count = time.perf_counter(), 0
    for pixels, _ in batches:
        count += len(pixels)
    return count / (time.perf_counter() - started)


def first_batch(shards: Path, images: int, middle: bool) -> float:
    """Seconds from asking for an epoch, at its start or in its middle, to the first batch."""
    source = open_images(shards, images)
    started = time.perf_counter()
    epoch = source.epoch(1, BATCH, first=images // BATCH // 2 if middle else 0)
    next(epoch)
    seconds = time.perf_counter() - started
    epoch.close()  # type: ignore[attr-defined]
    return seconds


def train_and_kill(work: Path, shards: Path, images: int) -> dict[str, Any]:
    """The real command over all shards: some steps, SIGKILL, some steps more by --resume, SIGTERM."""
    run = work / "run"
    shutil.rmtree(run, ignore_errors=True)
    command = [
        *(sys.executable, "-m", "mobilenets", "train", "mobilenet_v3_small", "--width-mult", "0.25"),
        *("--data", pattern(shards, images), "--recipe", "quick", "--epochs", "1", "--batch-size", str(BATCH)),
        *("--image-size", "32", "--save-seconds", "2", "--precision", "float32", "--memory-format", "channels_last"),
        *("--validation-fraction", "0.01", "--out", str(run)),
    ]
    peaks = []
    for resume, ending in ((), signal.SIGKILL), (("--resume",), signal.SIGTERM):
        process = subprocess.Popen([*command, *resume], stderr=subprocess.PIPE, text=True)
        saved = (run / "state.pt").stat().st_mtime_ns if resume else 0
        peak, ends = 0.0, float("inf")
        while time.monotonic() < ends:
            peak = max(peak, peak_resident(process.pid))
            state = run / "state.pt" if resume else run / "state.previous.pt"
            if ends == float("inf") and state.exists() and state.stat().st_mtime_ns > saved:
                ends = time.monotonic() + TRAINED_SECONDS
            time.sleep(0.25)
            if process.poll() is not None:
                raise SystemExit(process.communicate()[1])
        process.send_signal(ending)
        said = process.communicate()[1]
        peaks.append(peak / 2**20)
    resumed = re.search(r"resumed after epoch 0, step (\d+)", said)
    stopped = re.search(r"stopped at epoch 1, step (\d+) of (\d+)", said)
    if resumed is None or stopped is None or process.returncode != 128 + signal.SIGTERM:
        raise SystemExit(said)
    shutil.rmtree(run)
    steps = (int(resumed[1]), int(stopped[1]), int(stopped[2]))
    return {"images": images, "resumed_at": steps[0], "stopped_at": steps[1], "steps": steps[2], "peak_mib": max(peaks)}


def peak_resident(process: int) -> int:
    """The most bytes a process had in memory so far."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def measure(work: Path, images: int, rounds: int, parts: Sequence[str]) -> None:
    """Measure some parts, and leave the others as they were measured before."""
    shards, folder = work / "shards", work / "folder"
    script = str(Path(__file__).resolve())

    def part(*arguments: object) -> list[str]:
        return [script, "--work", str(work), *map(str, arguments)]

    figures: dict[str, Any] = {"shard_bytes": sum(path.stat().st_size for path in shards.glob("train-*.tar"))}
    if "memory" in parts:
        sizes = [size for size in SIZES if size <= images]
        runs = alternate({str(size): part("--memory", size) for size in sizes}, 1)
        figures["memory"] = {name: values[0] for name, values in runs.items()}
    if "speed" in parts:
        make_folder(shards, folder)
        speeds = alternate({"shards": part("--speed", "shards"), "folder": part("--speed", "folder")}, rounds)
        starts = alternate({at: part("--first", at, "--images", images) for at in ("start", "middle")}, rounds)
        figures["images_per_second"] = {name: spread(values) for name, values in speeds.items()}
        figures["seconds_to_first_batch"] = {name: spread(values) for name, values in starts.items()}
    if "training" in parts:
        figures["training"] = train_and_kill(work, shards, images)
    regime = (
        f"JPEG of {SIZE}x{SIZE}, {PER_SHARD:,} a shard, batches of {BATCH}, files in the system's cache; "
        f"each figure in a process of its own, speeds are medians of {rounds} alternating rounds; memory is the "
        "process's resident set over one epoch, read every quarter of a second"
    )
    known = RESULTS / "shards.json"
    before = json.loads(known.read_text()) if known.exists() else {}
    write("shards", regime, {name: value for name, value in (before | figures).items() if name not in _WRITTEN})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for 3 GB, removed afterwards")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure; the rest stays")
    parser.add_argument("--keep", action="store_true", help="leave what was made, for another time")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--speed", choices=("shards", "folder"), help=argparse.SUPPRESS)
    parser.add_argument("--first", choices=("start", "middle"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    shards = options.work / "shards"
    if options.memory:
        print(json.dumps(stream_memory(shards, options.memory)))
    elif options.speed:
        print(json.dumps(speed(shards, options.work / "folder" if options.speed == "folder" else None)))
    elif options.first:
        print(json.dumps(first_batch(shards, options.images, options.first == "middle")))
    else:
        if not (shards / "index.json").exists():
            make_shards(shards, options.images)
        measure(options.work, options.images, options.rounds, options.parts)
        if not options.keep:
            shutil.rmtree(options.work)


if __name__ == "__main__":
    main()
