"""The images of a run, decoded for one input size, and their scores, in two parts that are apart in time.

`scores.json` holds the training and the validation images' scores as soon as training has ended; those of the test
images, which stay sealed until then, come to it when everything is chosen, and are never made anew.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import distributed, nn

from mobilenets.data.datasets import Dataset
from mobilenets.data.loader import PreparedImages, default_memory_limit, prepare
from mobilenets.errors import BadImage, BadImagesError, RunError
from mobilenets.evaluation.evaluation_set import EvaluationSet, SealedTestSet, labelled_set, readings
from mobilenets.evaluation.predictions import Evaluation, Predict, evaluate_predictions
from mobilenets.evaluation.results import Metrics
from mobilenets.files import only_writer, write_text_atomically
from mobilenets.limits import check_json, read_bytes
from mobilenets.models.layers import Normalizer
from mobilenets.models.saved import load_network
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Progress, counted
from mobilenets.training.optimizer import MAX_INITIAL_SHARE, initial_share, reestimate
from mobilenets.training.progress import StopRequest

if TYPE_CHECKING:
    from mobilenets.data.shards.shard_set import ShardSet
    from mobilenets.data.shards.streaming import ShardImages


@dataclass(frozen=True)
class Splits:
    """A data set decoded for one input size; the test images are under seal.

    Where training images are streamed from shards, `train` is a sample of them.
    """

    dataset: Dataset
    train: PreparedImages
    validation: PreparedImages | None
    test: SealedTestSet
    preprocessing: Preprocessing
    streamed: ShardImages | None = None

    @property
    def trained_on(self) -> PreparedImages | ShardImages:
        """All training images."""
        return self.train if self.streamed is None else self.streamed


def prepare_splits(
    dataset: Dataset, preprocessing: Preprocessing, *, skip_bad: bool, progress: Progress, memory_share: int = 1
) -> Splits:
    """Decode all splits for `preprocessing`, reporting what the user should know of the data.

    Args:
        dataset: the images.
        preprocessing: how to arrange them.
        skip_bad: leave unreadable images out, and say so, instead of refusing.
        progress: told of progress, notes and images left out.
        memory_share: among how many such calls the memory for pixels is to be shared.

    Raises:
        BadImagesError: images can't be read and `skip_bad` is off; it lists those of all splits.
    """
    prepared: dict[str, PreparedImages] = {}
    bad: list[BadImage] = []
    parts = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    for name, split in parts.items():
        if split is None:
            continue

        try:
            limit = default_memory_limit() // memory_share
            prepared[name] = prepare(
                split,
                preprocessing,
                skip_bad=skip_bad,
                progress=counted(progress.update, f"reading {name} images"),
                memory_limit=limit,
                every_class=name != "validation",
            )
        except BadImagesError as error:
            bad += error.bad
    if bad:
        raise BadImagesError(bad)
    announce(dataset.notes, [image for part in prepared.values() for image in part.skipped], progress)
    test = SealedTestSet(labelled_set(prepared["test"], dataset, "test"))
    validation = prepared.get("validation") or None  # where none of them can be read, there are none
    streamed = None if dataset.shards is None else stream(dataset.shards, preprocessing, skip_bad, progress)
    return Splits(dataset, prepared["training"], validation, test, preprocessing, streamed)


def stream(shards: ShardSet, preprocessing: Preprocessing, skip_bad: bool, progress: Progress) -> ShardImages:
    """Stream images to train on; those that are left out are told as they are met."""
    from mobilenets.data.shards.streaming import ShardImages  # loads webdataset

    def tell(image: BadImage) -> None:
        progress.message(f"left out: {image}")

    return ShardImages(shards, preprocessing, skip_bad=skip_bad, told=tell)


def announce(notes: Sequence[str], left_out: Sequence[BadImage], progress: Progress) -> None:
    """Tell what the user should know about how the data was read, and every image that was left out."""
    for note in notes:
        progress.message(f"note: {note}")
    if left_out:
        progress.message(f"{len(left_out)} image{'s' * (len(left_out) > 1)} left out:")
    for image in left_out:
        progress.message(f"  {image}")


SCORES: Final = "scores.json"


PREDICTIONS: Final = "predictions.npz"
"""The answers to the test images."""


VALIDATION_PREDICTIONS: Final = "predictions-validation.npz"


SCORING_BATCH: Final = 250


STATISTICS_IMAGES, STATISTICS_BATCH = 512, 64
"""How many training images a network that is scored early gets its statistics from, and how many at a time."""


@dataclass(frozen=True)
class Scores:
    """What `scores.json` holds: the trained network on images as they are; `test` is None until they are read.

    `earlier_readings` counts what stood in the ledger when training ended: those were of other weights. `experiment` is
    the digest of what was trained, so that a run which was forced to become another is not taken for scored; empty in
    files of earlier versions.
    """

    train: Metrics
    test: Metrics | None = None
    validation: Metrics | None = None
    earlier_readings: int = 0
    experiment: str = ""


def score_trained(
    run: Path, predict: Predict, splits: Splits, progress: Progress, *, experiment: str, flip_test: bool = False
) -> None:
    """Score a network whose training has ended on the training and the validation images, into its run folder.

    `experiment` is the digest of what was trained. With `flip_test` each image is answered together with its mirror
    image, and so will the test images be. Scores that are there, of test images too, were of other weights and are
    replaced.
    """
    train = _score(predict, splits.train, splits.dataset, "scoring training images", progress, flip_test)
    validation = None
    if splits.validation is not None:
        scored = _score(predict, splits.validation, splits.dataset, "scoring validation images", progress, flip_test)
        scored.predictions.save(run / VALIDATION_PREDICTIONS)
        validation = scored.metrics
    earlier = len(readings(run))
    _write(run, Scores(train.metrics, validation=validation, earlier_readings=earlier, experiment=experiment))


def score_test(
    run: Path,
    splits: Splits,
    device: torch.device,
    progress: Progress,
    command: str,
    predict: Predict | None = None,
) -> None:
    """Score a trained run on the test images, once: a run that was scored is left as it is.

    Args:
        run: its folder.
        splits: the images.
        device: where to compute.
        progress: told of progress.
        command: the verb that scores it, for the run's ledger.
        predict: the trained network as it was left; None loads it from the run folder.

    Raises:
        RunError: training has not ended, or the test images are kept sealed still.
    """
    scores = read_scores(run)
    if scores.test is not None and (run / PREDICTIONS).exists():
        return
    # Read before, but there is no score: that reading was stopped on its way.
    since = readings(run)[scores.earlier_readings :]
    stopped = scores.test is None and any(reading.command == command for reading in since)
    with only_writer(run):
        images = splits.test.open(run, command, repeats=stopped)
        predict = predict or _trained(run, device)
        scored = _score(predict, images, splits.dataset, "scoring test images", progress, scores.train.flip_test)
        scored.predictions.save(run / PREDICTIONS)
        _write(run, replace(scores, test=scored.metrics))


def _trained(run: Path, device: torch.device) -> Predict:
    with torch.random.fork_rng(devices=[]):  # building a network draws numbers
        network = load_network(run)
    return torch_predict(network.model, network.preprocessing, device, torch.channels_last)


def read_scores(run: Path) -> Scores:
    """What a run was scored with so far.

    Raises:
        RunError: it was not scored, or its scores are damaged.
    """
    try:
        return TypeAdapter(Scores).validate_json(check_json(read_bytes(run / SCORES), finite=False))
    except FileNotFoundError as error:
        raise RunError(f"{run} is not finished: it has no {SCORES}; continue it with `resume=True`") from error
    except (OSError, ValueError) as error:  # also pydantic's ValidationError
        again = "remove it and continue with `resume=True` to score again"
        raise RunError(f"{run / SCORES} is damaged; {again}") from error


def torch_predict(
    model: nn.Module,
    preprocessing: Preprocessing,
    device: torch.device,
    layout: torch.memory_format = torch.contiguous_format,
) -> Predict:
    """Wrap a network as a predict function: uint8 [B, H, W, C] in, float32 logits [B, K] out.

    `layout` is that of images and filters in memory: contiguous is plain eager PyTorch; channels_last is faster on
    large batches.
    """
    normalize = Normalizer(preprocessing).to(device)
    model = model.to(device).to(memory_format=layout).eval()

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            inputs: torch.Tensor = normalize(torch.from_numpy(images).to(device))
            logits: torch.Tensor = model(inputs.contiguous(memory_format=layout))
        result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result

    return predict


class _StoppedError(Exception):
    """Ends a validation when a stop was requested."""


class Validator:
    """Scores a network in training on the validation images, and leaves it as it found it.

    While batch norm's statistics still hold much of their initial values, as MobileNetV3's do for hundreds of steps, a
    copy with statistics of some training images is scored: the network itself would seem to have learned nothing.
    """

    def __init__(self, splits: Splits, device: torch.device, progress: Progress) -> None:
        self._splits = splits
        self._device = device
        self._progress = progress

    def __call__(
        self, model: nn.Module, layout: torch.memory_format, steps: int, stop: StopRequest
    ) -> tuple[float, float] | None:
        """Loss and accuracy in percent of the network as it is after so many steps.

        None without validation images, and when `stop` came: a batch scheduler does not wait for the rest of them.
        """
        images = self._splits.validation
        if images is None:
            return None
        if initial_share(model, steps) > MAX_INITIAL_SHARE:
            model = self._with_own_statistics(model, layout)
        modes = [(module, module.training) for module in model.modules()]  # some layers may be kept in evaluation mode
        predict = torch_predict(model, self._splits.preprocessing, self._device, layout)

        def until_stopped(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
            if stop:
                raise _StoppedError
            return predict(batch)

        try:
            scored = _score(until_stopped, images, self._splits.dataset, "validating", self._progress).metrics
        except _StoppedError:
            return None
        finally:
            for module, mode in modes:
                module.training = mode
        return scored.loss, scored.top1

    def _with_own_statistics(self, model: nn.Module, layout: torch.memory_format) -> nn.Module:
        model, train = copy.deepcopy(model), self._splits.train
        if distributed.is_available() and distributed.is_initialized():
            from mobilenets.training.synced_norm import unsync_norms

            unsync_norms(model)  # the other processes of a team are not here to answer
        normalize = Normalizer(train.preprocessing).to(self._device)
        # Mixed, since images lie sorted by class, and parted evenly: few images in a batch would weigh as much as many.
        mixed = np.random.default_rng(0).permutation(len(train))[:STATISTICS_IMAGES]
        parts = np.array_split(mixed, -(-len(mixed) // STATISTICS_BATCH))
        inputs = (normalize(torch.from_numpy(pixels).to(self._device)) for pixels, _ in train.stream(parts))
        with torch.random.fork_rng(devices=[]):  # dropout draws
            reestimate(model, (batch.contiguous(memory_format=layout) for batch in inputs))
        return model


def _score(
    predict: Predict,
    images: PreparedImages | EvaluationSet,
    dataset: Dataset,
    what: str,
    progress: Progress,
    flip_test: bool = False,
) -> Evaluation:
    batches = images.batches(SCORING_BATCH)
    return evaluate_predictions(
        predict,
        batches,
        dataset.classes,
        progress=lambda done: progress.update(what, done, len(images)),
        flip_test=flip_test,
    )


def _write(run: Path, scores: Scores) -> None:
    write_text_atomically(run / SCORES, TypeAdapter(Scores).dump_json(scores).decode() + "\n")
