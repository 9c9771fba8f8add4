from __future__ import annotations

from pathlib import Path

import pytest

from mobilenets.errors import RunError
from mobilenets.files import outside


def test_a_folder_beside_the_images_is_fine(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert outside(tmp_path / "photos", tmp_path / "run") == tmp_path / "run"
    assert outside("digits", tmp_path / "run") == tmp_path / "run"
    assert outside(tmp_path / "photos.zip", tmp_path / "photos.zip.run") == tmp_path / "photos.zip.run"


@pytest.mark.parametrize("out", ["photos", "photos/run", "photos/../photos/a/b"])
def test_one_within_them_is_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(RunError, match="lies within the images"):
        outside(tmp_path / "photos", tmp_path / out)
