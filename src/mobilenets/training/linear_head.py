"""A linear classifier fitted to features: logistic regression, its strength chosen within the training images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from mobilenets.data.splits import fold_of
from mobilenets.errors import DataError

STRENGTHS: Final = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)
"""scikit-learn's C to choose from, the most regularised first; features have standard deviation 1."""
FOLDS: Final = 5
MANY_IMAGES: Final = 2_000
"""From here on one fold is held out instead of five in turn: it is large enough to tell the strengths apart."""
MAX_ITERATIONS: Final = 300


Features = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A fitted head.

    Attributes:
        weight: `[K, F]` float32.
        bias: `[K]` float32.
        strength: scikit-learn's C.
        how: how it was chosen, for people.
        converged: whether the fit ended by itself.
    """

    weight: Features
    bias: Features
    strength: float
    how: str
    converged: bool

    def __call__(self, features: Features) -> Features:
        """Features `[N, F]` -> logits `[N, K]`."""
        logits: Features = features @ self.weight.T + self.bias
        return logits


def fit_head(
    views: Sequence[Features],
    labels: NDArray[np.int64],
    classes: int,
    *,
    balance: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LinearHead:
    """Fit a head to features of images, which may come in several views (as they are, flipped, ...).

    Args:
        views: features `[N, F]` of the N images, the first as they are.
        labels: class indices `[N]`; every class has an image.
        classes: K, at least 2.
        balance: let every class count as much as any other, however many images it has.
        seed: of the folds.
        progress: told the number of fits done and of all.

    Raises:
        DataError: a class has no image.
    """
    counts = np.bincount(labels, minlength=classes)
    if classes < 2 or (counts == 0).any():
        raise DataError(f"a head needs images of every class, and two classes at least; images a class: {counts}")
    mean, std = views[0].mean(axis=0), views[0].std(axis=0)
    std = np.where(std > 1e-6, std, 1).astype(np.float32)
    scaled = [(view - mean) / std for view in views]
    # Of few images the products are so small that a second thread waits more than it works.
    with threadpool_limits(1 if len(labels) < MANY_IMAGES else None, user_api="blas"):
        strength, how = _choose_strength(scaled, labels, balance=balance, seed=seed, progress=progress)
        weight, bias, converged = next(iter(_path(scaled, labels, [strength], balance=balance)))
    if progress is not None:
        progress(1, 1)
    # Folded into the weights, the scaling costs nothing when the network runs.
    weight = (weight / std).astype(np.float32)
    return LinearHead(weight, (bias - weight @ mean).astype(np.float32), strength, how, converged)


def _choose_strength(
    views: Sequence[Features],
    labels: NDArray[np.int64],
    *,
    balance: bool,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[float, str]:
    """The strength with the smallest mean cross-entropy on images held out of the training images."""
    fold = fold_of(labels, FOLDS, seed)
    tried = [one for one in range(FOLDS if len(labels) < MANY_IMAGES else 1) if (fold == one).any()]
    if not tried:
        return STRENGTHS[len(STRENGTHS) // 2], "not chosen: every class has one image"
    losses = np.zeros(len(STRENGTHS))
    for turn, held in enumerate(tried):
        out, kept = fold == held, fold != held
        heads = _path([view[kept] for view in views], labels[kept], STRENGTHS, balance=balance)
        for place, (weight, bias, _) in enumerate(heads):
            logs = log_softmax((views[0][out] @ weight.T + bias).astype(np.float64), axis=1)
            losses[place] -= _mean(logs[np.arange(len(logs)), labels[out]], labels[out], balance=balance)
            if progress is not None:
                progress(turn * len(STRENGTHS) + place + 1, len(tried) * len(STRENGTHS) + 1)
    how = f"{FOLDS}-fold cross-validation" if len(tried) > 1 else f"{(fold == tried[0]).sum():,} images held out"
    return STRENGTHS[int(losses.argmin())], f"by {how} within the training images"


def _mean(values: NDArray[np.float64], labels: NDArray[np.int64], *, balance: bool) -> float:
    """The mean over images, or over the classes' means."""
    if not balance:
        return float(values.mean())
    return float(np.mean([values[labels == label].mean() for label in np.unique(labels)]))


def _path(
    views: Sequence[Features], labels: NDArray[np.int64], strengths: Sequence[float], *, balance: bool
) -> Iterator[tuple[Features, Features, bool]]:
    """Weights `[K, F]`, biases `[K]` and whether it converged, for each strength, each fit starting from the last."""
    from sklearn.exceptions import ConvergenceWarning  # takes a second to load
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        max_iter=MAX_ITERATIONS, tol=1e-3, warm_start=True, class_weight="balanced" if balance else None
    )
    features, repeated = np.concatenate(list(views)), np.tile(labels, len(views))
    for strength in strengths:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # handed back, for the caller to tell
            model.fit(features, repeated)
        weight, bias = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
        if len(weight) == 1:  # of two classes scikit-learn keeps the second's margin over the first
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        yield weight, bias, bool(model.n_iter_.max() < MAX_ITERATIONS)
