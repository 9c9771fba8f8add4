"""The test images, asked when the file to keep is chosen: of every way in the table, and of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mobilenets.artifact.container import read_artifact
from mobilenets.artifact.description import Confidence
from mobilenets.deployment.measure import score
from mobilenets.deployment.results import TestReading, Way
from mobilenets.deployment.select import points
from mobilenets.evaluation.evaluation_set import EvaluationSet
from mobilenets.evaluation.predictions import Predict
from mobilenets.exporters.confidence import tell_worth
from mobilenets.progress import Progress
from mobilenets.quantization.results import within
from mobilenets.runtime.backend import open_backend


@dataclass(frozen=True)
class Reading:
    """What the test images said.

    Attributes:
        test: the images, and PyTorch's accuracy on them.
        ways: those given, each with its accuracy on them.
        confidence: of the kept file, with what it is worth on them; None where it has none.
        notes: what the user should know, a sentence each.
    """

    test: TestReading
    ways: tuple[Way, ...]
    confidence: Confidence | None
    notes: tuple[str, ...]


def read_test(
    ways: Sequence[Way],
    kept: Way,
    images: EvaluationSet,
    network: Predict,
    threads: int | None,
    max_drop: float,
    progress: Progress,
) -> Reading:
    """Ask the test images of every way. Nothing is chosen by the answers.

    Args:
        ways: those of the table.
        kept: the one chosen.
        images: the test images.
        network: the network in PyTorch.
        threads: for the runtimes; None for every usable core.
        max_drop: points allowed; a kept way that loses more here is warned of.
        progress: told of progress.
    """
    reference = images.top1(images.predict(network, "asking the network in PyTorch", progress.update))
    artifacts = [read_artifact(Path(path)) for path in dict.fromkeys(way.path for way in ways)]
    scores, lost = score(artifacts, images, threads, progress)
    tested = tuple(replace(way, test_top1=scores.get((way.path, way.backend, way.precision))) for way in ways)
    own = next(way for way in tested if way.label == kept.label)
    warnings = []
    if own.test_top1 is not None and not within(drop := reference - own.test_top1, max_drop):
        warnings.append(
            f"on the {images.what} {own.label} loses {drop:.2f} points, more than the {points(max_drop)} allowed: "
            "the validation images promised too much; don't choose again by the test images"
        )
    return Reading(
        test=TestReading(images.what, reference),
        ways=tested,
        confidence=_confidence(kept, images, progress),
        notes=(*warnings, *lost, *images.notes),
    )


def _confidence(kept: Way, images: EvaluationSet, progress: Progress) -> Confidence | None:
    artifact = read_artifact(Path(kept.path))
    found = artifact.description.confidence
    if found is None:
        return None
    backend = open_backend(artifact, backend=kept.backend, precision=kept.precision, threads=kept.threads)
    logits = images.predict(backend.predict, "asking the kept file again for its probabilities", progress.update)
    return tell_worth(found, logits, images.truth, images.what).confidence
