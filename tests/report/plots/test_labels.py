"""Names beside points."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mobilenets.report.plots.canvas import Box, place_labels

AREA = Box(0.0, 0.0, 370.0, 280.0)
inside_area = st.tuples(st.floats(0.0, 370.0), st.floats(0.0, 280.0))


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@example(points=[(0.0, 0.0), (10.0, 6.19921875), (87.0, 0.0), (87.5, 9.703125)], width=26.25)
@given(points=st.lists(inside_area, min_size=1, max_size=12), width=st.floats(20.0, 150.0))
def test_up_to_twelve_labels_stay_inside_and_apart(points: list[tuple[float, float]], width: float) -> None:
    boxes = place_labels(points, [(width, 14.0)] * len(points), AREA)
    assert len(boxes) == len(points)
    assert all(box.inside(AREA) for box in boxes)
    assert all(one.overlap(other) < 1e-6 for one, other in combinations(boxes, 2))


def test_a_lone_label_is_right_beside_its_point() -> None:
    (box,) = place_labels([(100.0, 100.0)], [(60.0, 14.0)], AREA, gap=8.0)
    assert box == Box(108.0, 93.0, 168.0, 107.0)


def test_a_label_at_the_right_edge_goes_left() -> None:
    (box,) = place_labels([(360.0, 100.0)], [(60.0, 14.0)], AREA, gap=8.0)
    assert box.right == 352.0


@pytest.mark.parametrize("kind", ["texts", "bars"])
def test_a_label_makes_way_for_an_obstacle(kind: str) -> None:
    box_beside = Box(105.0, 90.0, 200.0, 110.0)
    (box,) = place_labels([(100.0, 100.0)], [(60.0, 14.0)], AREA, **{kind: [box_beside]})
    assert box.overlap(box_beside) == 0.0


def test_equal_points_get_labels_apart() -> None:
    first, second = place_labels([(100.0, 100.0)] * 2, [(60.0, 14.0)] * 2, AREA)
    assert first.overlap(second) == 0.0


def test_a_label_wider_than_the_area_still_gets_a_place() -> None:
    (box,) = place_labels([(100.0, 100.0)], [(600.0, 14.0)], AREA)
    assert box.right - box.left == pytest.approx(600.0)


@given(inside_area, inside_area)
def test_distance_and_overlap_agree(one: tuple[float, float], other: tuple[float, float]) -> None:
    box = Box(min(one[0], other[0]), min(one[1], other[1]), max(one[0], other[0]), max(one[1], other[1]))
    assert box.distance(one) == 0.0
    assert box.overlap(box) == (box.right - box.left) * (box.top - box.bottom)
