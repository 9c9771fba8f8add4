import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mobilenets.exporters.export import synthetic_images
from mobilenets.exporters.verify import choose_golden
from mobilenets.preprocessing import Preprocessing


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(0, 5))
def test_golden_images_are_of_different_classes_as_far_as_there_are_any(labels: list[int], seed: int) -> None:
    array = np.array(labels, np.int64)
    chosen = choose_golden(array, 4, seed)
    assert list(chosen) == sorted(set(chosen))
    assert len(chosen) == min(4, len(labels))
    assert len(set(array[chosen])) == min(4, len(set(labels)))
    assert np.array_equal(chosen, choose_golden(array, 4, seed))


def test_synthetic_images_are_smooth_varied_and_always_the_same() -> None:
    images = synthetic_images(Preprocessing(image_size=40), 8)
    assert (images.shape, images.dtype) == ((8, 40, 40, 3), np.uint8)
    assert np.array_equal(images, synthetic_images(Preprocessing(image_size=40), 8))
    wide = images.astype(np.int64)
    assert np.abs(np.diff(wide, axis=2)).mean() < 10 < wide.std()
    assert len(np.unique(images.reshape(8, -1), axis=0)) == 8


def test_synthetic_images_can_be_grey_and_small() -> None:
    assert synthetic_images(Preprocessing(image_size=8, channels=1, mean=(0.5,), std=(0.5,)), 2).shape == (2, 8, 8, 1)
