"""Every image is decoded and checked once; batches are the same from memory and decoded on the fly."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mobilenets.data.decoding as decoding
import mobilenets.data.loader as loader
from mobilenets.data.datasets import load_dataset
from mobilenets.data.decoding import TrainingDecoding
from mobilenets.data.loader import PreparedImages, prepare
from mobilenets.data.sources import ImageSource, ImageSplit
from mobilenets.errors import BadImagesError, DataError
from mobilenets.image_formats import AS_STORED, DeepPixels
from mobilenets.preprocessing import Preprocessing

CIFAR10_ZIP = Path(__file__).parents[3] / "shared" / "data" / "cifar10.zip"
MakeFolder = Callable[[dict[str, int]], Path]
SIZE = Preprocessing(8)


def plain_split(root: Path) -> ImageSplit:
    """All images of a folder, in order, as one split."""
    data = load_dataset(root)
    sources: list[ImageSource] = sorted([*data.train.sources, *data.test.sources], key=lambda source: source.name)
    labels = [data.classes.index(source.name.split("/")[0]) for source in sources]
    return ImageSplit(sources, np.array(labels, np.int64))


@pytest.fixture(params=[loader.MEMORY_LIMIT, 0], ids=["memory", "fly"])
def memory_limit(request: pytest.FixtureRequest) -> int:
    """Both ways of keeping pixels."""
    return int(request.param)


def reds(pixels: np.ndarray) -> list[int]:
    return [int(red) for red in pixels[:, 0, 0, 0]]


def test_batches(make_folder: MakeFolder, memory_limit: int) -> None:
    split = plain_split(make_folder({"cat": 7, "dog": 4}))
    images = prepare(split, SIZE, memory_limit=memory_limit)
    assert images.in_memory == (memory_limit > 0)
    assert len(images) == 11
    assert images.names[7] == "dog/0.png"
    assert images.skipped == ()
    batch = images.batch([10, 0, 3, 3])
    assert (batch.dtype, batch.shape) == (np.uint8, (4, 8, 8, 3))
    assert reds(batch) == [3, 0, 3, 3]
    found = list(images.batches(4))
    assert [reds(pixels) for pixels, _ in found] == [[0, 1, 2, 3], [4, 5, 6, 0], [1, 2, 3]]
    assert [labels.tolist() for _, labels in found] == [[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1]]
    assert [labels.dtype for _, labels in found] == [np.int64] * 3


def test_a_batch_is_a_copy(make_folder: MakeFolder, memory_limit: int) -> None:
    images = prepare(plain_split(make_folder({"cat": 2, "dog": 2})), SIZE, memory_limit=memory_limit)
    images.batch([1])[:] = 99
    assert reds(images.batch([1])) == [1]


def test_no_images_and_no_batches(memory_limit: int) -> None:
    seen: list[tuple[int, int]] = []
    empty = ImageSplit([], np.empty(0, np.int64))
    images = prepare(empty, SIZE, memory_limit=memory_limit, progress=lambda *done: seen.append(done))
    assert list(images.batches(4)) == []
    assert images.batch([]).shape == (0, 8, 8, 3)
    assert seen == [(0, 0)]
    with pytest.raises(DataError, match="batch_size must be at least 1, not 0"):
        images.batches(0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 39), max_size=9), max_size=6))
def test_stream_is_the_same_from_memory_and_on_the_fly(index_batches: list[list[int]]) -> None:
    data = load_dataset("digits").train.take(np.arange(40))
    kept, decoded = (prepare(data, SIZE, memory_limit=limit) for limit in (2**20, 0))
    for one, other, indices in zip(
        kept.stream(index_batches), decoded.stream(index_batches), index_batches, strict=True
    ):
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[0], kept.batch(indices))
        assert one[1].tolist() == other[1].tolist() == data.labels[indices].tolist()


class GatedSource:
    """A source that reports being opened and can be made to wait."""

    size = 100_000

    def __init__(self, name: str, opened: set[str], gate: threading.Event) -> None:
        self.name, self.opened, self.gate = name, opened, gate

    def open(self, deep: DeepPixels = AS_STORED) -> Image.Image:
        self.opened.add(self.name)
        assert self.gate.wait(10)
        return Image.new("RGB", (8, 8))

    def read_size(self) -> tuple[int, int]:
        return 8, 8


def test_one_batch_is_decoded_ahead_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "usable_cores", lambda: 1)
    opened: set[str] = set()
    gate = threading.Event()
    gate.set()
    split = ImageSplit([GatedSource(str(i), opened, gate) for i in range(6)], np.zeros(6, np.int64))
    images = prepare(split, SIZE, memory_limit=0)
    opened.clear()
    asked: list[int] = []

    def ask() -> Iterator[list[int]]:
        for start in (0, 2, 4):
            asked.append(start)
            yield [start, start + 1]

    stream = images.stream(ask())
    next(stream)
    assert asked == [0, 2]
    images.batch([0])  # the one thread takes tasks in their order, so what was begun before is done after this
    assert opened == {"0", "1", "2", "3"}
    stream.close()  # type: ignore[attr-defined]
    assert asked == [0, 2]


def test_all_bad_images_are_listed(make_folder: MakeFolder, memory_limit: int) -> None:
    root = make_folder({"cat": 70, "dog": 70})
    split = plain_split(root)
    for name in ("cat/3.png", "dog/69.png", "dog/5.png"):
        (root / name).write_bytes(b"hello" * 9)
    (root / "cat/4.png").write_bytes(b"")
    with pytest.raises(BadImagesError) as caught:
        prepare(split, SIZE, memory_limit=memory_limit)
    assert [image.name for image in caught.value.bad] == [
        str(root / name) for name in ("cat/3.png", "cat/4.png", "dog/5.png", "dog/69.png")
    ]
    assert caught.value.bad[1].reason == "empty file (0 bytes)"
    assert str(caught.value).startswith("4 images can't be read: ")


def test_bad_images_are_left_out_on_request(make_folder: MakeFolder, memory_limit: int) -> None:
    root = make_folder({"cat": 4, "dog": 3})
    split = plain_split(root)
    (root / "cat/1.png").write_bytes(b"")
    (root / "dog/0.png").write_bytes(b"")
    images = prepare(split, SIZE, skip_bad=True, memory_limit=memory_limit)
    assert [image.name for image in images.skipped] == [str(root / "cat/1.png"), str(root / "dog/0.png")]
    assert images.names == ("cat/0.png", "cat/2.png", "cat/3.png", "dog/1.png", "dog/2.png")
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    assert reds(images.batch(range(5))) == [0, 2, 3, 1, 2]
    assert [reds(pixels) for pixels, _ in images.batches(3)] == [[0, 2, 3], [1, 2]]


def test_a_class_that_is_lost(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 4, "dog": 2})
    split = plain_split(root)
    for index in range(2):
        (root / f"dog/{index}.png").write_bytes(b"")
    (root / "cat/0.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"^left without \S+dog/0\.png, \S+dog/1\.png, which can't be read, a class"):
        prepare(split, SIZE, skip_bad=True)


def test_an_image_that_goes_bad_later(make_folder: MakeFolder) -> None:
    root = make_folder({"cat": 4, "dog": 2})
    images = prepare(plain_split(root), SIZE, memory_limit=0)
    (root / "cat/2.png").unlink()
    with pytest.raises(BadImagesError, match=r"cat/2\.png: no such file"):
        list(images.batches(2))
    assert reds(images.batch([0, 1])) == [0, 1]


def test_progress_is_told_from_the_calling_thread_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(decoding.time, "monotonic", lambda: next(clock) * 0.03)
    calls: list[tuple[int, int]] = []
    threads: set[int] = set()

    def progress(done: int, total: int) -> None:
        calls.append((done, total))
        threads.add(threading.get_ident())

    prepare(load_dataset("digits").train, SIZE, progress=progress)
    assert calls[-1] == (1438, 1438)
    assert threads == {threading.get_ident()}
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert 2 <= len(calls) <= 23 * 0.03 / 0.1 + 2


@pytest.mark.slow
def test_a_broken_off_run_stops_decoding() -> None:
    opened: set[str] = set()
    gate = threading.Event()
    gate.set()
    others = set(threading.enumerate())
    split = ImageSplit([GatedSource(str(i), opened, gate) for i in range(20_000)], np.zeros(20_000, np.int64))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(split, SIZE, progress=interrupt)
    for thread in set(threading.enumerate()) - others:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert len(opened) < 20_000


class SlowSource(GatedSource):
    """A source whose first picture interrupts the run while others are being decoded."""

    def open(self, deep: DeepPixels = AS_STORED) -> Image.Image:
        self.opened.add(self.name)
        if len(self.opened) == 1:
            raise KeyboardInterrupt
        self.gate.wait(0.02)
        return Image.new("RGB", (8, 8))


def test_an_interrupted_run_does_not_finish_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "usable_cores", lambda: 2)
    opened: set[str] = set()
    split = ImageSplit([SlowSource(str(i), opened, threading.Event()) for i in range(128)], np.zeros(128, np.int64))
    for source in split.sources:
        source.size = 8192  # type: ignore[misc]
    with pytest.raises(KeyboardInterrupt):
        prepare(split, SIZE)
    assert len(opened) < 20  # of the 64 in the other chunk


def test_a_closed_stream_does_not_finish_the_batch_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "usable_cores", lambda: 1)
    opened: set[str] = set()
    gates = [threading.Event(), threading.Event()]
    for gate in gates:
        gate.set()
    split = ImageSplit([GatedSource(str(i), opened, gates[i > 0]) for i in range(82)], np.zeros(82, np.int64))
    images = prepare(split, SIZE, memory_limit=0)
    opened.clear()
    gates[1].clear()
    stream = images.stream([[0], range(1, 81)])
    next(stream)
    while "1" not in opened:  # the first picture of the batch ahead is being decoded now
        time.sleep(0.001)
    stream.close()  # type: ignore[attr-defined]
    gates[1].set()
    images.batch([81])  # the one thread takes tasks in their order, so what was begun before is done after this
    assert opened == {"0", "1", "81"}


def test_chunks_are_small_for_large_files() -> None:
    def chunks(sizes: list[int]) -> list[int]:
        gate = threading.Event()
        sources: list[GatedSource] = []
        for size in sizes:
            sources.append(GatedSource("", set(), gate))
            sources[-1].size = size
        return [len(chunk) for chunk in decoding._chunks(sources)]

    assert chunks([]) == []
    assert chunks([1000] * 150) == [64, 64, 22]
    assert chunks([2**20] * 10) == [4, 4, 2]
    assert chunks([2**30, 5, 2**30]) == [1, 1, 1]


def test_a_small_machine_keeps_fewer_pixels(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    split = plain_split(make_folder({"cat": 2, "dog": 2}))
    monkeypatch.setattr(loader, "_kept", 0)
    for memory, in_memory in ((4 * 768, True), (4 * 768 - 4, False), (None, True), (2**60, True)):
        monkeypatch.setattr(loader, "usable_memory", lambda memory=memory: memory)
        assert prepare(split, SIZE).in_memory == in_memory
        assert loader.default_memory_limit() <= loader.MEMORY_LIMIT


def test_splits_and_processes_share_one_limit(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    split = plain_split(make_folder({"cat": 2, "dog": 2}))
    monkeypatch.setattr(loader, "_kept", 0)
    monkeypatch.setattr(loader, "usable_memory", lambda: 4 * 2000)
    train, test = prepare(split, SIZE), prepare(split, SIZE)
    assert (train.in_memory, test.in_memory) == (True, True)
    assert loader.default_memory_limit() == 2000 - 2 * 768
    third = prepare(split, SIZE)
    assert not third.in_memory
    assert np.array_equal(third.batch([0, 3]), train.batch([0, 3]))
    view = train.for_training(TrainingDecoding(None, True))  # another view of the same pixels is no more of them
    del train, test
    assert loader.default_memory_limit() == 2000 - 768
    del view
    assert loader.default_memory_limit() == 2000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert loader.default_memory_limit() == 1000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert not prepare(split, SIZE).in_memory


def test_workers_are_the_cores_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "usable_cores", lambda: 3)
    gate = threading.Event()
    assert decoding.worker_count([GatedSource("", set(), gate)]) == 3


def test_grey_and_other_sizes() -> None:
    images: PreparedImages = prepare(load_dataset("digits").test, Preprocessing(16, channels=1))
    assert images.batch([0, 1]).shape == (2, 16, 16, 1)


@pytest.mark.slow
def test_real_jpegs_out_of_a_zip() -> None:
    if not CIFAR10_ZIP.exists():
        pytest.skip(f"{CIFAR10_ZIP} is not there")
    test = load_dataset(CIFAR10_ZIP).test
    images = prepare(test.take(np.arange(0, 10_000, 50)), Preprocessing(32))
    assert np.array_equal(images.batch([7])[0], np.asarray(test.sources[350].open()))
    assert 100 < images.batch(range(200)).mean() < 140  # the training images' mean is 121
