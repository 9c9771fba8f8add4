from __future__ import annotations

import pytest

from mobilenets.errors import MobilenetsError
from mobilenets.evaluation.results import Bounds


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("max_latency_ms", float("nan"), "max_latency_ms must be a number above 0, not nan"),
        ("max_latency_ms", -3.0, "max_latency_ms must be a number above 0"),
        ("max_params", 0, "max_params must be a number above 0"),
        ("min_top1", 101.0, "min_top1 is a percentage from 0 to 100, not 101"),
    ],
)
def test_a_bound_that_cant_be_is_refused_when_it_is_given(name: str, value: float, said: str) -> None:
    with pytest.raises(MobilenetsError, match=said):
        Bounds(**{name: value})  # type: ignore[arg-type]


def test_no_bounds_are_fine() -> None:
    assert Bounds() == Bounds(None, None, None)
