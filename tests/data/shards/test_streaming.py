"""An epoch over shards is decided by its seed: entered anywhere, shared by any number, it is the same."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenets.data.loader import Share
from mobilenets.data.shards.shard_set import Shard, ShardSet
from mobilenets.data.shards.streaming import ShardImages, epoch_order
from mobilenets.errors import BadImagesError, DataError
from mobilenets.preprocessing import Preprocessing

from .conftest import MakeTar, Numbered, numbers, picture

SIZE = Preprocessing(2)
SIZES = st.sampled_from([(1,), (5,), (3, 3, 3), (1, 9, 2), (7, 1, 1, 1), (4, 6, 2, 8, 1), (30, 2)])
WINDOWS = st.sampled_from([1, 5_000, 20_000, 2**30])
SEEDS = st.integers(0, 2**63 - 1)


def flat(parts: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(parts))


def seen(
    images: ShardImages, seed: int, batch_size: int, first: int = 0, share: Share | None = None
) -> list[list[int]]:
    batches = images.epoch(seed, batch_size, first=first, share=share or Share())
    found = []
    for pixels, labels in batches:
        assert labels.tolist() == [number % 10 for number in numbers(pixels)]
        found.append(numbers(pixels))
    return found


@settings(max_examples=30, deadline=None)
@given(SIZES, WINDOWS, SEEDS)
def test_every_image_comes_once(numbered: Numbered, sizes: tuple[int, ...], window: int, seed: int) -> None:
    images = ShardImages(numbered(sizes), SIZE, window_bytes=window)
    assert len(images) == sum(sizes)
    assert sorted(flat(seen(images, seed, 1))) == list(range(sum(sizes)))


@settings(max_examples=30, deadline=None)
@given(SIZES, WINDOWS, SEEDS, st.integers(1, 7), st.integers(0, 12))
def test_an_epoch_is_the_same_wherever_it_is_entered(
    numbered: Numbered, sizes: tuple[int, ...], window: int, seed: int, batch_size: int, first: int
) -> None:
    images = ShardImages(numbered(sizes), SIZE, window_bytes=window)
    whole = seen(images, seed, batch_size)
    assert len(whole) == sum(sizes) // batch_size
    assert len(set(flat(whole))) == len(whole) * batch_size
    assert seen(images, seed, batch_size, first) == whole[first:]


@settings(max_examples=20, deadline=None)
@given(SIZES, WINDOWS, SEEDS, st.integers(1, 2), st.integers(1, 6), st.integers(0, 3))
def test_shares_put_together_are_the_batch_also_with_more_of_them_than_shards(
    numbered: Numbered, sizes: tuple[int, ...], window: int, seed: int, each: int, count: int, first: int
) -> None:
    images = ShardImages(numbered(sizes), SIZE, window_bytes=window)
    whole = seen(images, seed, each * count, first)
    parts = [seen(images, seed, each * count, first, Share(index, count)) for index in range(count)]
    assert [flat(rows) for rows in zip(*parts, strict=True)] == whole


def test_other_seeds_give_other_orders(numbered: Numbered) -> None:
    for window in (10_000, 2**30):
        images = ShardImages(numbered((4, 6, 2, 8, 1)), SIZE, window_bytes=window)
        assert len({str(seen(images, seed, 1)) for seed in range(8)}) == 8


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 10**6)), min_size=1, max_size=30),
    st.integers(1, 10**6),
    SEEDS,
)
def test_windows_are_bounded_and_cover_the_epoch(sizes: list[tuple[int, int]], window: int, seed: int) -> None:
    shards = [Shard(str(place), images, size) for place, (images, size) in enumerate(sizes)]
    order = epoch_order(shards, seed, window_bytes=window)
    assert order.windows[0] == 0
    assert order.windows[-1] == sum(images for images, _ in sizes)
    assert (np.diff(order.windows) > 0).all()
    each = np.concatenate(
        [np.full(shards[place].images, shards[place].bytes / shards[place].images) for place in order.shards]
    )
    for start, stop in zip(order.windows[:-1], order.windows[1:], strict=True):
        # A cut shard's parts differ by an image at most, and one image is never cut.
        assert each[start:stop].sum() <= window + each[start:stop].max() + 1e-6
        place = int(order.windows[order.window_at(int(start))])
        assert place == start


def test_images_are_arranged_as_everywhere_else(numbered: Numbered) -> None:
    shards = numbered((4, 6, 2, 8, 1))
    streamed = {numbers(pixels)[0]: pixels[0] for pixels, _ in ShardImages(shards, Preprocessing(4)).epoch(3, 1)}
    split = shards.load()
    for number, source in enumerate(split.sources):
        assert np.array_equal(streamed[number], Preprocessing(4).arrange(source.open()))
        assert split.labels[number] == number % 10


def with_bad(folder: Path, make_tar: MakeTar, bad: set[int]) -> ShardSet:
    shards = []
    for place in range(3):
        each = range(place * 6, place * 6 + 6)
        records = [{"png": b"broken" if one in bad else picture(one), "cls": str(one % 10).encode()} for one in each]
        path = make_tar(folder / f"{place}.tar", records)
        shards.append(Shard(str(path), 6, path.stat().st_size))
    return ShardSet(tuple(shards), {str(digit): digit for digit in range(10)})


def test_unreadable_images_stop_or_are_replaced_equally_for_all(tmp_path: Path, make_tar: MakeTar) -> None:
    shards = with_bad(tmp_path, make_tar, {2, 7, 8, 9, 10})
    with pytest.raises(BadImagesError, match=r"/[01]\.tar/000\d\.png: not an image"):
        seen(ShardImages(shards, SIZE), 1, 1)
    told: list[str] = []
    threads: set[int] = set()

    def tell(image: object) -> None:
        told.append(getattr(image, "name", "").removeprefix(f"{tmp_path}/"))
        threads.add(threading.get_ident())

    images = ShardImages(shards, SIZE, skip_bad=True, told=tell, window_bytes=25_000)
    whole = seen(images, 1, 6)
    assert not {2, 7, 8, 9, 10} & set(flat(whole))
    assert sorted(told) == ["0.tar/0002.png", *(f"1.tar/000{place}.png" for place in (1, 2, 3, 4))]
    assert threads == {threading.get_ident()}
    assert seen(images, 1, 6, first=1) == whole[1:]
    parts = [seen(images, 1, 6, share=Share(index, 3)) for index in range(3)]
    assert [flat(rows) for rows in zip(*parts, strict=True)] == whole
    assert len(told) == len(images.skipped) == 5


def test_a_window_without_any_readable_image_stops(tmp_path: Path, make_tar: MakeTar) -> None:
    shards = with_bad(tmp_path, make_tar, set(range(18)))
    with pytest.raises(BadImagesError, match="18 images can't be read"):
        seen(ShardImages(shards, SIZE, skip_bad=True), 1, 1)


def test_a_shard_that_vanishes_in_the_middle(tmp_path: Path, make_tar: MakeTar) -> None:
    shards = with_bad(tmp_path, make_tar, set())
    batches = ShardImages(shards, SIZE, window_bytes=1).epoch(0, 1)
    next(batches)
    for shard in shards.shards:
        Path(shard.address).unlink()
    with pytest.raises(DataError, match=r"^shard \S+\.tar can't be read \(No such file or directory\): bring it back"):
        list(batches)


def test_a_shard_cut_between_two_members_is_noticed(tmp_path: Path, make_tar: MakeTar) -> None:
    shards = with_bad(tmp_path, make_tar, set())
    path = Path(shards.shards[1].address)
    path.write_bytes(path.read_bytes()[: 1024 * 4])  # two records of two members of 512 + 512 bytes
    with pytest.raises(DataError, match=r"1\.tar holds 2 images, not 6 as its index says"):
        seen(ShardImages(shards, SIZE), 1, 1)
    make_tar(path, [{"png": picture(1), "cls": b"1"}] * 7)
    with pytest.raises(DataError, match=r"1\.tar holds more images, not 6 as its index says"):
        seen(ShardImages(shards, SIZE), 1, 1)


def test_stopping_early_leaves_no_thread(numbered: Numbered) -> None:
    batches = ShardImages(numbered((30, 2)), SIZE, window_bytes=1).epoch(0, 2)
    assert len(list(islice(batches, 3))) == 3
    batches.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name.startswith("shards"):
            thread.join(10)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("decode", "shards"))]
