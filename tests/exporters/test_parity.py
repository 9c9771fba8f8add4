from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mobilenets.errors import DataError, ExportError
from mobilenets.exporters.verify import allowed_difference, check_parity, compare_answers

ONE = np.zeros((1, 8, 8, 3), dtype=np.uint8)
TWO = np.zeros((2, 8, 8, 3), dtype=np.uint8)


def answering(logits: object) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    return lambda images: np.asarray(logits, dtype=np.float32)


def test_parity_by_hand() -> None:
    parity = check_parity(answering([[1, 0], [0, 1]]), answering([[1, 0.25], [0, -0.5]]), TWO, tolerance=1.5)
    assert (parity.max_difference, parity.mean_difference, parity.top1_agreement) == (1.5, 0.4375, 50)
    assert (parity.images, parity.allowed, parity.holds) == (2, 1.5, True)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        ([[1, 0.0002]], "differ .* by up to 0.0002, more than 0.0001"),
        ([[1, np.nan]], "no numbers"),
        ([[1, np.inf]], "infinite"),
        ([[1, 0, 0]], "logits"),
    ],
)
def test_parity_refuses(logits: object, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        check_parity(answering([[1, 0]]), answering(logits), ONE)


def test_a_network_that_diverged() -> None:
    with pytest.raises(ExportError, match="train it again"):
        check_parity(answering([[np.nan, 0]]), answering([[1, 0]]), ONE)


def test_large_logits_are_compared_relative_to_their_size() -> None:
    check_parity(answering([[1000, 0]]), answering([[1000.05, 0]]), ONE)
    with pytest.raises(ExportError):
        check_parity(answering([[100, 0]]), answering([[100.05, 0]]), ONE)


def test_parity_needs_images() -> None:
    with pytest.raises(DataError, match="without images"):
        check_parity(answering([]), answering([]), ONE[:0])


def test_a_file_that_answers_with_no_number_never_holds() -> None:
    nothing = np.full((1, 2), np.nan, np.float32)
    assert not compare_answers(np.ones((1, 2), np.float32), nothing, tolerance=1e9).holds


def test_coarser_arithmetic_may_differ_more() -> None:
    logits = np.array([[-20, 3]], np.float32)
    allowed = [allowed_difference(precision, logits) for precision in ("fp32", "fp16", "bf16", "int8")]
    assert allowed == sorted(allowed)
    assert allowed[0] == pytest.approx(0.02)
