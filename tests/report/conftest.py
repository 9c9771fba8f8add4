"""Comparisons made by a real small computation: scikit-learn classifiers on the digits scans stand in for networks."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from benchmark_reports import make_report
from deployment_reports import report, way
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix, log_loss
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB

from mobilenets.evaluation.results import (
    Bounds,
    Choice,
    ClassScore,
    Comparison,
    DataSummary,
    Interval,
    Latency,
    LedgerEntry,
    Metrics,
    Mistake,
    NetworkRow,
    PairedTest,
    SeedRun,
)
from mobilenets.progress import EpochPoint

__all__ = ["comparison", "hostile", "make_comparison", "make_report", "report", "way"]

MODELS = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "mobilenet_v3_large_minimalistic",
    "mobilenet_v3_small_minimalistic",
)
EVIL = "<img src=x onerror=document.title='owned'>\"'&"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scans:
    """The digits, split as a comparison would: pixels 0 to 16, labels 0 to 9."""

    train: Floats
    train_labels: npt.NDArray[np.int64]
    validation: Floats
    validation_labels: npt.NDArray[np.int64]
    test: Floats
    test_labels: npt.NDArray[np.int64]


@cache
def scans() -> Scans:
    digits = load_digits()
    train, test, train_labels, test_labels = train_test_split(
        digits.data, digits.target, test_size=360, random_state=0, stratify=digits.target
    )
    train, validation, train_labels, validation_labels = train_test_split(
        train, train_labels, test_size=144, random_state=0, stratify=train_labels
    )
    return Scans(train, train_labels, validation, validation_labels, test, test_labels)


def metrics(probabilities: Floats, labels: npt.NDArray[np.int64], names: tuple[str, ...]) -> Metrics:
    called = probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, called, labels=range(len(names)))
    right = np.diag(confusion)
    scores = tuple(
        ClassScore(name, int(confusion[i].sum()), *(float(100 * right[i] / np.maximum(sums[i], 1)) for sums in totals))
        for totals in [(confusion.sum(axis=1), confusion.sum(axis=0))]
        for i, name in enumerate(names)
    )
    best = np.argsort(-probabilities, axis=1)[:, :5]
    sure = probabilities.max(axis=1)
    return Metrics(
        count=len(labels),
        loss=float(log_loss(labels, probabilities, labels=range(len(names)))),
        top1=float(100.0 * np.mean(called == labels)),
        top5=float(100.0 * np.mean((best == labels[:, None]).any(axis=1))),
        ece=float(100.0 * abs(np.mean(sure) - np.mean(called == labels))),
        classes=scores,
        confusion=tuple(tuple(int(count) for count in line) for line in confusion),
    )


def thumbnail(pixels: Floats) -> str:
    image = io.BytesIO()
    Image.fromarray((pixels.reshape(8, 8) * 255 / 16).astype(np.uint8)).resize((64, 64)).save(image, "PNG")
    return "data:image/png;base64," + base64.b64encode(image.getvalue()).decode()


def relabelled(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int64]:
    """Turn digits into even and odd (2 classes), leave them (10), or part each into ten (100)."""
    return {2: labels % 2, 10: labels, 100: labels * 10 + np.arange(len(labels)) % 10}[classes]


@cache
def learned(pixels_used: int, seed: int, classes: int) -> tuple[dict[str, Floats], tuple[EpochPoint, ...]]:
    """Train on the first `pixels_used` pixels (fewer: worse) in six steps; return all answers, the curve."""
    data = scans()
    labels, truth = (relabelled(part, classes) for part in (data.train_labels, data.validation_labels))
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    curve = []
    for epoch in range(1, 7):
        order = np.random.default_rng([seed, epoch]).permutation(len(data.train))[: 200 * epoch]
        model = GaussianNB(var_smoothing=0.1).fit(data.train[order, :pixels_used], labels[order])
        found = {name: np.zeros((len(pixels), classes)) for name, pixels in parts.items()}
        for name, pixels in parts.items():
            found[name][:, model.classes_] = model.predict_proba(pixels[:, :pixels_used])
        loss, validated = (
            float(log_loss(right, found[name], labels=range(classes)))
            for name, right in (("train", labels), ("validation", truth))
        )
        top1, validated_top1 = (
            float(100.0 * np.mean(found[name].argmax(1) == right))
            for name, right in (("train", labels), ("validation", truth))
        )
        curve.append(EpochPoint(epoch, loss, top1, 1e-3 / epoch, 4.0, 360.0, validated, validated_top1))
    return found, tuple(curve)


def mistakes(probabilities: Floats, names: tuple[str, ...], most: int = 8) -> tuple[Mistake, ...]:
    data = scans()
    labels = relabelled(data.test_labels, len(names))
    called, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = [i for i in np.argsort(-sure) if called[i] != labels[i]][:most]
    return tuple(
        Mistake(
            f"test/{i:04d}.png", thumbnail(data.test[i]), names[labels[i]], names[called[i]], float(100.0 * sure[i])
        )
        for i in wrong
    )


def network_row(index: int, label: str, names: tuple[str, ...], seeds: int) -> NetworkRow:
    data = scans()
    labels = {
        "train": relabelled(data.train_labels, len(names)),
        "validation": relabelled(data.validation_labels, len(names)),
        "test": relabelled(data.test_labels, len(names)),
    }
    used = 64 - 4 * index
    results = [learned(used, seed, len(names)) for seed in range(seeds)]
    runs = tuple(
        SeedRun(
            seed=seed,
            folder=f"runs/{label.replace(' ', '-')}-seed{seed}",
            seconds_per_epoch=4.0 + index,
            curve=curve,
            test_readings=(LedgerEntry("2026-01-02T03:04:00+00:00", "compare", 360, "d"),),
            **{part: metrics(found[part], labels[part], names) for part in labels},
        )
        for seed, (found, curve) in enumerate(results)
    )
    tests, trains = np.array([run.test.top1 for run in runs]), np.array([run.train.top1 for run in runs])
    validated = float(np.mean([run.validation.top1 for run in runs if run.validation]))
    half = 1.96 * float(np.sqrt(tests.mean() * (100.0 - tests.mean()) / 360.0))
    basis = "360 test images, 1 seed" if seeds == 1 else f"{seeds} seeds"
    cost = 0.45 + 0.17 * index
    return NetworkRow(
        label=label,
        model=MODELS[index % len(MODELS)],
        width_mult=1.0,
        image_size=32,
        parameters=int(4_231_976 / (1 + 0.6 * index)),
        macs=int(568_740_000 / (1 + index) ** 1.2),
        file_bytes=int(16_900_000 / (1 + 0.6 * index)),
        train_top1=Interval(float(trains.mean()), float(trains.mean() - 0.4), float(trains.mean() + 0.4), basis),
        test_top1=Interval(
            float(tests.mean()), float(tests.mean()) - half, min(float(tests.mean()) + half, 100.0), basis
        ),
        test_top5=float(np.mean([run.test.top5 for run in runs])),
        ece=float(np.mean([run.test.ece for run in runs])),
        seconds_per_epoch=4.0 + index,
        latency={
            "pytorch": Latency(12.4 / cost, 13.9 / cost, 0.31, 400),
            "onnxruntime": Latency(1.24 / cost, 1.49 / cost, 0.03, 400),
        },
        peak_memory_mb=62.0 + 3.5 * index,
        runs=runs,
        mistakes=mistakes(results[0][0]["test"], names),
        validation_top1=Interval(
            validated,
            validated - 1.5 * half,
            min(validated + 1.5 * half, 100.0),
            basis.replace("360 test", "144 validation"),
        ),
    )


def paired(first: NetworkRow, second: NetworkRow) -> PairedTest:
    difference = first.deciding_top1.mean - second.deciding_top1.mean
    probability = float(min(1.0, 2.0 ** -abs(difference) * 0.6))
    return PairedTest(
        first=first.label,
        second=second.label,
        difference=difference,
        low=difference - 2.4,
        high=difference + 2.4,
        p_value=probability / 3,
        p_adjusted=probability,
        differs=probability < 0.05,
        method="exact McNemar test on the images the two answer differently",
    )


def make(
    networks: int = 3, seeds: int = 1, *, names: tuple[str, ...] | None = None, bounds: Bounds | None = None
) -> Comparison:
    """Build a comparison of `networks` rows; the fastest is chosen."""
    names = names or tuple(str(digit) for digit in range(10))
    widths = ("x1", "x0.5")
    rows = tuple(
        network_row(i, f"{MODELS[i % len(MODELS)]} {widths[i // len(MODELS)]}", names, seeds) for i in range(networks)
    )
    pairs = tuple(paired(a, b) for i, a in enumerate(rows) for b in rows[i + 1 :])
    last = rows[-1]
    return Comparison(
        created="2026-01-02 03:04 UTC",
        command="mobilenets compare --data digits --models mobilenet_v1,mobilenet_v2 --epochs 6 --out demo-report",
        data=DataSummary("digits", names, 1293, 360, validation_images=144),
        recipe={"optimizer": "adamw", "learning_rate": 1e-3, "epochs": 6, "flip": False, "label_smoothing": 0.0},
        environment={"python": "3.11.9", "torch": "2.14.1", "machine": "x86_64, 2 cores", "device": "cpu"},
        rows=rows,
        pairs=pairs,
        bounds=bounds or Bounds(),
        choice=Choice(last.label, f"{last.label} is the fastest of {networks}."),
        notes=(),
    )


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    return make()


@pytest.fixture(scope="session")
def make_comparison() -> Callable[..., Comparison]:
    return make


@pytest.fixture(scope="session")
def hostile(make_comparison: Callable[..., Comparison]) -> Comparison:
    """A comparison in which everything a user can name tries to be HTML."""
    made = make_comparison(2, names=tuple(f"{EVIL} {i}" for i in range(10)), bounds=Bounds(min_top1=50.0))
    rows = tuple(
        replace(
            row,
            label=f"{EVIL} {row.label}",
            mistakes=tuple(replace(mistake, image=f"{EVIL}.png") for mistake in row.mistakes),
        )
        for row in made.rows
    )
    return replace(
        made,
        rows=rows,
        data=replace(made.data, name=EVIL, skipped=(EVIL,), notes=(EVIL,)),
        command=EVIL,
        created=EVIL,
        notes=(EVIL,),
        recipe={EVIL: EVIL},
        environment={EVIL: EVIL},
        choice=Choice(rows[0].label, EVIL),
        pairs=tuple(replace(pair, first=EVIL, method=EVIL) for pair in made.pairs),
    )
