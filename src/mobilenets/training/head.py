"""`train --head-only`: the backbone runs once over the images, and a linear head is fitted to what it answers.

Nothing but the classifier changes. The head is the minimum of a convex loss, so there are no learning rate and no
epochs to choose: of a recipe only the fields in `HEAD_FIELDS` count.

Features are kept on disk, so the same images through the same backbone are computed once on this machine. A batch of
images is known by its pixels and the backbone by its weights, so nothing kept can be out of date. A run that is killed
finds every batch it had done, and so does another run on the same images.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from mobilenets.data.loader import PreparedImages
from mobilenets.errors import RunError, TrainingInterruptedError
from mobilenets.evaluation.predictions import evaluate_predictions
from mobilenets.files import write_atomically, write_text_atomically
from mobilenets.limits import read_arrays
from mobilenets.machine import user_cache
from mobilenets.models.layers import Normalizer
from mobilenets.models.network import MobileNet
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import EpochPoint, Progress, counted
from mobilenets.training.checkpoints import Experiment, SavedState, drop_damaged, load_state, save_state
from mobilenets.training.linear_head import LinearHead, fit_head
from mobilenets.training.loop import RECIPE
from mobilenets.training.progress import MetricLog, Position, stop_on_interrupt
from mobilenets.training.recipe import HEAD_FIELDS, Recipe

LIMIT: Final = 2 * 2**30
"""Bytes of features kept; beyond them, those not used for longest go. 2 GiB are 400,000 images of MobileNetV2."""


class FeatureCache:
    """Arrays in files of their own, each checked when it is read.

    Attributes:
        damaged: how many files were found damaged; their features are computed again.
        complaint: why nothing more is kept, where the folder can't be written; else empty.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or user_cache() / "mobilenets" / "features"
        self.damaged = 0
        self.complaint = ""

    def get(self, key: str, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """The features kept under `key`, `shape` = `[B, F]`; None where there are none, or damaged ones."""
        path = self._path(key)
        try:
            # The archive carries a checksum of its content, which reading compares.
            found = read_arrays(path, "features")["features"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self.damaged += 1
            return None
        if found.shape != shape or found.dtype != np.float32 or not np.isfinite(found).all():
            self.damaged += 1
            return None
        with contextlib.suppress(OSError):  # another user's: then its last use stays unknown
            path.touch()
        features: NDArray[np.float32] = found
        return features

    def put(self, key: str, features: NDArray[np.float32]) -> None:
        """Keep features; a folder that can't be written costs only the keeping."""

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, features=features)

        if self.complaint:
            return
        try:
            write_atomically(self._path(key), write)
        except RunError as error:
            self.complaint = str(error)

    def prune(self, limit: int = LIMIT) -> None:
        """Remove what was not used for longest, until at most `limit` bytes are left."""
        files = []
        for path in self.folder.glob("*/*.npz"):
            with contextlib.suppress(OSError):  # another run's pruning was faster
                files.append((path, path.stat()))
        excess = sum(status.st_size for _, status in files) - limit
        for path, status in sorted(files, key=lambda one: one[1].st_mtime):
            if excess <= 0:
                return
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self.complaint = f"{self.folder} can't be pruned ({error.strerror or error})"
                return
            excess -= status.st_size

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"


class Embedding:
    """A network's backbone in evaluation mode, as a function that remembers.

    Args:
        model: the network; it is moved to the device, and its mode is changed.
        preprocessing: how its images are normalised.
        device: where to compute.
        cache: where answers are kept.
    """

    def __init__(
        self, model: MobileNet, preprocessing: Preprocessing, device: torch.device, cache: FeatureCache
    ) -> None:
        # Channels-last is the fastest layout for a forward pass over a large batch.
        self.model = model.to(device).to(memory_format=torch.channels_last).eval()
        self.device = device
        self.cache = cache
        self.size = model.head_hidden_size
        self._normalize = Normalizer(preprocessing).to(device)
        self._identity = _identity(model, preprocessing, device)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images uint8 `[B, H, W, C]` -> what the classifier is given, float32 `[B, F]`."""
        images = np.ascontiguousarray(images)  # mirrored ones are views that torch does not take
        key = hashlib.sha256(f"{self._identity} {images.shape}".encode())
        key.update(images.data)
        known = self.cache.get(key.hexdigest(), (len(images), self.size))
        if known is not None:
            return known
        with torch.inference_mode():
            inputs: torch.Tensor = self._normalize(torch.from_numpy(images).to(self.device))
            maps = self.model.forward_features(inputs.contiguous(memory_format=torch.channels_last))
            features = self.model.forward_head(maps, pre_logits=True)
        found: NDArray[np.float32] = features.float().cpu().numpy()
        self.cache.put(key.hexdigest(), found)
        return found


def _identity(model: MobileNet, preprocessing: Preprocessing, device: torch.device) -> str:
    """A digest of all that the features depend on but the pixels."""
    said = [model.config.to_dict(), preprocessing.to_dict(), torch.__version__, device.type]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        if not name.startswith("classifier."):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


PART: Final = 250
"""Images whose features are computed and kept together."""


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """A network with its fitted head, and how to ask it without running the backbone again."""

    model: MobileNet
    embed: Embedding
    head: LinearHead

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Images uint8 `[B, H, W, C]` -> logits `[B, K]`; features that are kept are not computed again."""
        return self.head(self.embed(images))

    @property
    def record(self) -> dict[str, str]:
        """What the network is to remember of it, for its provenance."""
        return {"head": f"logistic regression on features, C={self.head.strength:g}, chosen {self.head.how}"}


@dataclass(frozen=True)
class HeadRun:
    """The run a head is trained in.

    Attributes:
        run: the run folder.
        experiment: what the run is, to be known by when it is resumed.
        device: where the backbone runs.
        progress: told of progress.
    """

    run: Path
    experiment: Experiment
    device: torch.device
    progress: Progress


def train_head(
    model: MobileNet,
    images: PreparedImages,
    classes: tuple[str, ...],
    recipe: Recipe,
    where: HeadRun,
    *,
    resume: bool,
    cache: FeatureCache | None = None,
) -> TrainedHead:
    """Fit the classifier of `model` to the images, into a run folder; nothing else of it changes.

    Args:
        model: with the weights to start from.
        images: the training images, prepared as the weights want them.
        classes: their names, in the order of the outputs.
        recipe: of `resolve_head_recipe`.
        where: the run folder, its experiment, the device and who receives progress.
        resume: go on with a run that was begun, whose weights stand in its state.
        cache: where features are kept; None takes the user's cache folder.

    Raises:
        TrainingInterruptedError: on Ctrl-C; the features done are kept.
        RunError: `resume`, and the run is another experiment's or damaged.
    """
    began = time.perf_counter()
    progress, cache = where.progress, cache or FeatureCache()
    if resume:
        _restore(where, model)
    else:
        _save(where, model, done=0)
    embed = Embedding(model, images.preprocessing, where.device, cache)
    views = _views(images, embed, recipe, progress)
    running = time.perf_counter() - began
    _tell(cache, progress)
    head = _fit(views, images.labels, len(classes), recipe, progress)
    fitted = {"weight": torch.from_numpy(head.weight), "bias": torch.from_numpy(head.bias)}
    model.get_classifier().load_state_dict(fitted)
    batch = np.empty(len(images), np.uint8), images.labels
    scored = evaluate_predictions(lambda _: head(views[0]), [batch], classes).metrics
    seconds = time.perf_counter() - began
    # As one epoch, whose rate of learning means nothing.
    point = EpochPoint(1, scored.loss, scored.top1, 0.0, seconds, len(views) * len(images) / running)
    with MetricLog(where.run, 0) as log:
        log.add(point)
    progress.epoch(point, 1)
    write_text_atomically(where.run / RECIPE, _toml(recipe))
    _save(where, model, done=1)
    return TrainedHead(model.eval(), embed, head)


def _fit(
    views: list[NDArray[np.float32]], labels: NDArray[np.int64], classes: int, recipe: Recipe, progress: Progress
) -> LinearHead:
    count = counted(progress.update, "fitting the head")
    head = fit_head(views, labels, classes, balance=recipe.balance != "none", seed=recipe.seed, progress=count)
    progress.message(f"head fitted: logistic regression with C={head.strength:g}, chosen {head.how}")
    if not head.converged:
        progress.message("note: the fit was ended before it had wholly converged")
    return head


def _views(images: PreparedImages, embed: Embedding, recipe: Recipe, progress: Progress) -> list[NDArray[np.float32]]:
    """Features `[N, F]` of the images as they are and, where the recipe flips, of the mirrored ones."""
    count = 2 if recipe.flip else 1
    found: list[list[NDArray[np.float32]]] = [[] for _ in range(count)]
    done, total = 0, count * len(images)

    def acknowledge() -> None:
        progress.message("stopping after these images; again to stop at once and lose them")

    with stop_on_interrupt(acknowledge) as stop:
        for pixels, _ in images.batches(PART):
            for view in range(count):
                found[view].append(embed(pixels if view == 0 else pixels[:, :, ::-1]))
                done += len(pixels)
                progress.update("running the backbone over training images", done, total)
                if stop:
                    said = f"stopped after {done:,} of {total:,} images; their features are kept"
                    raise TrainingInterruptedError(said, signal=stop.signal)
    return [np.concatenate(parts) for parts in found]


def _tell(cache: FeatureCache, progress: Progress) -> None:
    cache.prune()
    if cache.damaged:
        parts = "1 file of features was" if cache.damaged == 1 else f"{cache.damaged} files of features were"
        progress.message(f"note: {parts} damaged, and computed again")
    if cache.complaint:
        progress.message(f"note: features are not kept: {cache.complaint}")


def _toml(recipe: Recipe) -> str:
    """The fields that counted; the others had no part in it."""
    kept = [line for line in recipe.to_toml().splitlines() if line.split(" = ")[0] in ("freeze", *HEAD_FIELDS)]
    return "\n".join(["# --head-only: a logistic regression on the backbone's features, no epochs.", *kept]) + "\n"


def _restore(where: HeadRun, model: MobileNet) -> None:
    """Take up the weights that the run began with: its state has them, the file they came from may be gone."""
    state = load_state(where.run, torch.device("cpu"))
    if state.warning is not None:
        where.progress.message(f"warning: {state.warning}")
        drop_damaged(where.run)
    try:
        model.load_state_dict(state.model)
    except RuntimeError as error:
        raise RunError(f"{where.run}: its state does not fit this network; train in another folder") from error


def _save(where: HeadRun, model: MobileNet, *, done: int) -> None:
    """The run's state: there is no optimizer, and the features are kept elsewhere."""
    plan = {"device": where.device.type, "precision": "float32", "memory_format": "channels_last", "parts": 1}
    save_state(where.run, SavedState(where.experiment, plan, Position(epoch=done), model.state_dict(), {}))
