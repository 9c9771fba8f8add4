"""Small real image files, folders and zips for the tests of `mobilenets.data`."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

MakeFolder = Callable[[dict[str, int]], Path]


def png(shade: int = 0, size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (shade % 256, 100, 200)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(name="png")
def png_fixture() -> Callable[..., bytes]:
    """Bytes of a small picture whose red is the number given."""
    return png


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Make a folder `pets` from `{"cat": 3}`: folders and how many images each gets."""

    def make(counts: dict[str, int]) -> Path:
        root = tmp_path / "pets"
        root.mkdir(exist_ok=True)
        for name, count in counts.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                (root / name / f"{index}.png").write_bytes(png(index))
        return root

    return make


@pytest.fixture
def make_zip(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """Make `pets.zip` from member names and their bytes."""

    def make(members: dict[str, bytes]) -> Path:
        path = tmp_path / "pets.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return make
