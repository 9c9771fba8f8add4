"""What a difference in accuracy is worth: 95 % intervals, and paired tests between networks.

Two things vary when a network is scored. *Seeds*: trained again with another seed, the same network scores
differently. *Images*: another draw of images to score on would score differently. Every function says which of the two
it covers. None covers what never varied here: another training set, recipe, or images unlike those scored on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import DataError
from mobilenets.evaluation.results import Interval, PairedTest

CONFIDENCE = 0.95
ALPHA = 0.05

Correct = NDArray[np.bool_]


def mean_interval(values_percent: Sequence[float]) -> Interval:
    """Mean over K >= 2 seeds with Student's t interval, clipped to 0..100.

    Covers what the seed changes (initial weights, order of images, augmentation). Does not cover the draw of test
    images: all seeds are scored on the same ones. With 2 or 3 seeds it is wide, as it should be.

    Raises:
        DataError: fewer than 2 values.
    """
    from scipy import stats  # takes a second to load, here and below

    values = np.asarray(values_percent, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise DataError(
            f"an interval over seeds needs at least 2 values, not {values.size}: train with `seeds=2` or more"
        )
    mean = float(values.mean())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean, max(0.0, mean - half), min(100.0, mean + half), f"{len(values)} seeds")


def proportion_interval(correct: int, total: int, split: str = "test") -> Interval:
    """Accuracy of one trained network on the images of `split` with Wilson's score interval, in percent.

    Covers the draw of the test images. Does not cover the seed: trained again, the network may score outside of it.

    Source: Wilson 1927; chosen because it stays within 0..100 and holds its level near 100 %, where good networks are.

    Raises:
        DataError: no images, or a count outside 0..total.
    """
    return _wilson(correct, total, f"{_images(total, split)}, 1 seed")


def top1_interval(correct: Correct, split: str = "test") -> Interval:
    """Top-1 in percent with its interval, from `correct` `[K seeds, N images]` of the images of `split`.

    One seed gives Wilson's interval over images, several the t interval over seeds. Where all seeds score exactly the
    same the latter would have no width, as if accuracy were known exactly: Wilson's interval of one seed is given then.

    Raises:
        DataError: not a `[K, N]` array with K, N >= 1.
    """
    seeds, images = _seeds_and_images(correct)
    hits = correct.sum(axis=1)
    if seeds == 1:
        return proportion_interval(int(hits[0]), images, split)
    if (hits == hits[0]).all():
        return _wilson(int(hits[0]), images, f"{_images(images, split)}, {seeds} seeds of the same score")
    return mean_interval([float(value) for value in 100 * hits / images])


def paired_test(first: str, second: str, correct_a: Correct, correct_b: Correct, split: str = "test") -> PairedTest:
    """Whether two networks answer the same images differently well; `correct_*` are `[K seeds, N images]` of `split`.

    One seed each: McNemar's exact test, a binomial test on the images that only one of the two gets right. It covers
    the images and compares two *trained* networks: a difference may be the seed's and not the architecture's.

    K > 1 seeds each: a t test on the difference of mean accuracy whose variance is the sum of two parts, that of the
    per-image differences (each averaged over seeds, paired over images) and that of each network's accuracy over its
    seeds (Welch), with Satterthwaite's degrees of freedom. The images alone would not do: a lucky seed lifts many
    images at once, and a test that does not know this calls two sets of runs of the *same* network different far more
    often than it may (tests/evaluation/test_significance.py shows it). The chance of single answers counts in both
    parts, which makes the test conservative.

    The interval of the difference is Bonett and Price's (2012, "Adjusted Wald Confidence Interval for a Difference of
    Binomial Proportions Based on Paired Data"): one imagined image is added in either network's favour, so that
    networks which agree on every image do not get an interval without width. With K > 1 the same addition is made
    before the t test.

    Returns:
        The test for this one pair, hence `p_adjusted` equal to `p_value`; `compare_all` corrects over many pairs.

    Raises:
        DataError: the arrays are not of one shape `[K, N]` with K, N >= 1.
    """
    seeds, images = _seeds_and_images(correct_a)
    if correct_a.shape != correct_b.shape:
        raise DataError(
            f"{first} was scored on (seeds, images) {correct_a.shape}, {second} on {correct_b.shape}: "
            "a paired test needs the same images and as many seeds"
        )
    differences = correct_a.mean(axis=0) - correct_b.mean(axis=0)
    if seeds == 1:
        p_value = _mcnemar(differences)
        centre, half, _ = _adjusted_difference(differences, ())
        method = f"McNemar's exact test, {_images(images, split)}, 1 seed"
    else:
        centre, half, p_value = _adjusted_difference(differences, (correct_a.mean(axis=1), correct_b.mean(axis=1)))
        method = f"t test over {_images(images, split)} and {seeds} seeds each"
    return PairedTest(
        first=first,
        second=second,
        difference=100 * float(differences.mean()),
        low=max(-100.0, 100 * (centre - half)),
        high=min(100.0, 100 * (centre + half)),
        p_value=p_value,
        p_adjusted=p_value,
        differs=p_value < ALPHA,
        method=method,
    )


def compare_all(correct: Mapping[str, Correct], split: str = "test") -> tuple[PairedTest, ...]:
    """Test every pair of networks on the images of `split`, in the mapping's order, with Holm's correction over pairs.

    With the correction the chance of calling any two equal networks different is at most 5 % in the whole comparison.
    The intervals stay those of single pairs, so one may exclude 0 for a pair that is not called different.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    Raises:
        DataError: as `paired_test`.
    """
    tests = [paired_test(a, b, correct[a], correct[b], split) for a, b in combinations(correct, 2)]
    adjusted = holm([test.p_value for test in tests])
    return tuple(
        replace(test, p_adjusted=p, differs=p < ALPHA, method=f"{test.method}; Holm over {len(tests)} pairs")
        if len(tests) > 1
        else test
        for test, p in zip(tests, adjusted, strict=True)
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's adjusted p-values, in the order given: the smallest times m, the next times m - 1, and so on, to 1."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return tuple(float(value) for value in adjusted)


def _mcnemar(differences: NDArray[np.float64]) -> float:
    from scipy import stats

    first_only, second_only = int((differences > 0).sum()), int((differences < 0).sum())
    if first_only + second_only == 0:
        return 1.0
    return float(stats.binomtest(first_only, first_only + second_only, 0.5).pvalue)


def _adjusted_difference(
    differences: NDArray[np.float64], accuracies: Sequence[NDArray[np.float64]]
) -> tuple[float, float, float]:
    """Centre and half width of the interval (0..1), and the p-value of no difference; `accuracies` are over seeds."""
    from scipy import stats

    with_imagined = np.append(differences, (1.0, -1.0))
    centre = float(with_imagined.mean())
    variances = [float(with_imagined.var()) / len(with_imagined)]
    variances += [float(values.var(ddof=1)) / len(values) for values in accuracies]
    # Without seeds this is Bonett and Price's interval, which is normal; a t of infinitely many degrees of freedom.
    freedoms = [len(differences) if accuracies else np.inf, *(len(values) - 1 for values in accuracies)]
    total = sum(variances)
    weights = sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
    freedom = total**2 / weights if weights else np.inf
    error = float(np.sqrt(total))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return centre, half, float(2 * stats.t.sf(abs(centre) / error, freedom))


def _wilson(correct: int, total: int, basis: str) -> Interval:
    if total < 1 or not 0 <= correct <= total:
        raise DataError(f"{correct} right of {total} images is no accuracy: is the split empty?")
    from scipy import stats

    ends = stats.binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")
    # At 0 and 100 % rounding can put an end a hair beyond the mean it encloses.
    mean = 100 * correct / total
    return Interval(mean, min(mean, 100 * float(ends.low)), max(mean, 100 * float(ends.high)), basis)


def _seeds_and_images(correct: Correct) -> tuple[int, int]:
    if correct.ndim != 2 or correct.size == 0:
        raise DataError(f"right and wrong answers come as [seeds, images], at least one of each, not {correct.shape}")
    return correct.shape[0], correct.shape[1]


def _images(count: int, split: str = "test") -> str:
    return f"1 {split} image" if count == 1 else f"{count} {split} images"
