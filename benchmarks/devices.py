"""From trained networks to files for a device: `python benchmarks/devices.py imagenet|cifar10 [--runs FOLDER]`.

Regime: `mobilenets.deploy` itself, with its defaults: every format and 8-bit ladder, each file in each runtime and
arithmetic here, with one thread and with all cores, measured in alternation by processes of their own; top-1 is
answered by the very runtime it stands beside.

`imagenet` takes Google's MobileNetV2 (the uint8 file of `../shared/data`, imported as a float network) and 500 ImageNet
pictures, one each of 500 classes: 200, drawn with a seed, find the ranges of 8-bit files, the other 300 are scored.
They are probably training images, so top-1 compares files and is no ImageNet score.

`cifar10` takes the runs of the comparison whose command `results/cifar10.json` holds: give its folder `runs`.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from mobilenets.cli.progress import Live
from mobilenets.data.datasets import Dataset
from mobilenets.data.sources import ImageSplit
from mobilenets.deployment.results import DeploymentReport
from mobilenets.exporters.subject import load_subject
from mobilenets.images import open_image, read_size
from mobilenets.workflows.deploy import deploy

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESULTS = Path(__file__).parent / "results"
V2 = DATA / "google" / "mobilenet_v2_1.0_224_quant.tflite"
CALIBRATION, SEED = 200, 0
RUNS = {
    "mobilenet_v2": "mobilenet_v2-x0.5-32px",
    "mobilenet_v3_small": "mobilenet_v3_small-x0.5-32px",
    "mobilenet_v3_large": "mobilenet_v3_large-x0.5-32px",
}


@dataclass(frozen=True)
class Member:
    """An image in a zip, held in memory: 500 of them are 17 MB."""

    name: str
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def open(self) -> Image.Image:
        return open_image(io.BytesIO(self.content), name=self.name)

    def read_size(self) -> tuple[int, int]:
        return read_size(io.BytesIO(self.content), name=self.name)


def imagenet(classes: tuple[str, ...]) -> Dataset:
    """The 500 pictures with the 1,000 classes' own labels, cut in two."""
    lines = (DATA / "imagenet-classes.txt").read_text(encoding="utf-8").splitlines()
    index = {line.split()[0]: number for number, line in enumerate(lines)}
    with zipfile.ZipFile(DATA / "imagenet-samples.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith(".jpg"))
        members = tuple(Member(name, archive.read(name)) for name in names)
    labels = np.array([index[name.partition("/")[0]] for name in names], dtype=np.int64)
    whole = ImageSplit(members, labels)
    order = np.random.default_rng(SEED).permutation(len(names))
    train, test = whole.take(np.sort(order[:CALIBRATION])), whole.take(np.sort(order[CALIBRATION:]))
    note = f"{len(train)} pictures find ranges, the other {len(test)} are scored"
    return Dataset("ImageNet samples", classes, train, test, (note,), "")


def record(report: DeploymentReport) -> dict[str, Any]:
    """What the tables and tests need of a report; paths of this machine are left out."""
    return {
        "network": report.network,
        "data": report.data,
        "test": None if report.test is None else asdict(report.test),
        "max_drop": report.max_drop,
        "float_top1": report.float_top1,
        "kept": report.decision.label,
        "holds": report.decision.holds,
        "reason": report.decision.reason,
        "tied": report.decision.tied,
        "advantages": [asdict(one) for one in report.advantages],
        "files": [dataclasses.asdict(one) | {"path": ""} for one in report.files],
        "ways": [asdict(way) | {"path": "", "verdict": report.verdict(way)} for way in report.ways],
        "ladders": [
            {
                "kind": one.kind,
                "chosen": one.chosen,
                "float_top1": asdict(one.float_top1),
                "rungs": [asdict(rung) for rung in one.rungs],
                "notes": one.notes,
            }
            for one in report.quantizations
        ],
        "warnings": report.survey.warnings,
        "notes": report.notes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("imagenet", "cifar10"))
    parser.add_argument("--runs", type=Path, help="folder `runs` of the CIFAR-10 comparison")
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    jobs: dict[str, tuple[Path, Any, str | None]]
    if options.what == "imagenet":
        subject, _ = load_subject(V2, model="mobilenet_v2")
        jobs = {"mobilenet_v2": (V2, imagenet(subject.classes), "mobilenet_v2")}
    else:
        runs = {name: options.runs / folder / "seed0" for name, folder in RUNS.items()}
        jobs = {name: (run, DATA / "cifar10.zip", None) for name, run in runs.items()}
    results, environment = {}, {}
    for name, (run, data, model) in jobs.items():
        with TemporaryDirectory() as folder, Live(Console(stderr=True)) as live:
            report = deploy(run, data, Path(folder) / "out", model=model, seconds=options.seconds, progress=live)
            results[name], environment = record(report), dict(report.environment)
            picture = Path(folder) / "out" / "latency-accuracy.png"
            picture.replace(RESULTS / f"devices_{options.what}_{name}.png")
    command = f"python benchmarks/devices.py {options.what}" + (" --runs RUNS" if options.what == "cifar10" else "")
    document = {"command": command, "environment": environment, "networks": results}
    (RESULTS / f"devices_{options.what}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
