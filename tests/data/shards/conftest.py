"""Shards of tiny pictures, each of which tells its own number by its colour."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from webdataset.writer import TarWriter

from mobilenets.data.shards.shard_set import Shard, ShardSet

Numbered = Callable[[Sequence[int]], ShardSet]
MakeTar = Callable[[Path, Sequence[dict[str, bytes]]], Path]


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


def numbers(pixels: np.ndarray) -> list[int]:
    """Which pictures a batch `[B, 2, 2, 3]` holds."""
    return (pixels[:, 0, 0, 0] + 256 * pixels[:, 0, 0, 1].astype(int)).tolist()


def make_tar(path: Path, records: Sequence[dict[str, bytes]]) -> Path:
    """Write records as someone else might: `{"jpg": ..., "cls": ...}`."""
    with path.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as tar:
        for number, record in enumerate(records):
            tar.write({"__key__": f"{number:04d}", **record})
    return path


@pytest.fixture(name="make_tar")
def make_tar_fixture() -> MakeTar:
    return make_tar


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    """Make shards of these sizes, of pictures 0, 1, 2, ...; a picture's class is its number modulo 10."""
    made: dict[tuple[int, ...], ShardSet] = {}

    def make(sizes: Sequence[int]) -> ShardSet:
        if tuple(sizes) not in made:
            folder = tmp_path_factory.mktemp("numbered")
            shards, number = [], 0
            for place, size in enumerate(sizes):
                records = [{"png": picture(one), "cls": str(one % 10).encode()} for one in range(number, number + size)]
                path = make_tar(folder / f"train-{place}.tar", records)
                shards.append(Shard(str(path), size, path.stat().st_size))
                number += size
            made[tuple(sizes)] = ShardSet(tuple(shards), {str(digit): digit for digit in range(10)})
        return made[tuple(sizes)]

    return make
