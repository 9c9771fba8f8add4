"""An image is known by its bytes, wherever they lie."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mobilenets.data.archives import read_zip
from mobilenets.data.shards.shard_set import Spool
from mobilenets.data.sources import ArraySource, FileSource, ImageSplit
from mobilenets.data.splits import image_digest, image_digests, with_digests
from mobilenets.image_record import digest_of


def test_the_same_bytes_have_the_same_digest_everywhere(
    png: Callable[..., bytes], make_zip: Callable[[dict[str, bytes]], Path], tmp_path: Path
) -> None:
    content = png(7)
    path = tmp_path / "other name.png"
    path.write_bytes(content)
    ((_, member),) = read_zip(make_zip({"a/b.png": content})).files
    sources = [FileSource(path, "x", len(content)), member, Spool().add("y", content)]
    assert {image_digest(source) for source in sources} == {digest_of(content)}
    assert image_digests(sources).tolist() == [digest_of(content)] * 3
    path.write_bytes(png(8))
    assert image_digest(sources[0]) != digest_of(content)


def test_arrays_differ_by_shape_too() -> None:
    flat, tall = np.zeros((2, 8), np.uint8), np.zeros((8, 2), np.uint8)
    assert image_digest(ArraySource("a", flat)) == image_digest(ArraySource("b", flat.copy()))
    assert image_digest(ArraySource("a", flat)) != image_digest(ArraySource("a", tall))


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders there")
def test_what_can_not_be_read_is_known_by_its_name_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to("nowhere")
    sources = [FileSource(tmp_path / name, name, 0) for name in ("pipe.png", "dangling.png")]
    digests = [image_digest(source) for source in sources]
    assert len({*digests, digest_of(b"")}) == 3
    assert digests == [image_digest(source) for source in sources]


def test_a_part_keeps_the_digests_of_its_images() -> None:
    sources = [ArraySource(str(shade), np.full((2, 2), shade, np.uint8)) for shade in range(5)]
    split = with_digests(ImageSplit(sources, np.zeros(5, np.int64)))
    assert with_digests(split) is split
    assert split.digests is not None
    part = split.take(np.array([4, 1])).digests
    assert part is not None
    assert part.tolist() == [split.digests[4], split.digests[1]]
