"""`predict` in Python: what the command prints, as a result; and what goes with Ray alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from described import write_onnx
from PIL import Image
from ray_processes import needs_ray

from mobilenets import predict
from mobilenets.cli.main import main
from mobilenets.errors import DataError
from mobilenets.progress import Silent
from mobilenets.runtime.bulk.predict_many import ManySummary
from mobilenets.workflows.predict import ClassifiedImages


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "net.onnx").path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two pictures, one file that is none, and a text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("a", (250, 20, 10)), ("b", (10, 20, 250))):
        Image.fromarray(np.full((9, 9, 3), colour, np.uint8)).save(folder / f"{name}.png")
    (folder / "c.png").write_text("no picture")
    (folder / "notes.txt").write_text("a text")
    return folder


def test_the_result_holds_what_the_command_prints(net: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []

    class Watch(Silent):
        def update(self, what: str, done: int, total: int | None) -> None:
            seen.append(done)

    result = predict(str(net), str(photos), top=2, progress=Watch())
    assert isinstance(result, ClassifiedImages)
    assert [(one.label, len(one.top)) for one in result.predictions] == [("red", 2), ("blue", 2)]
    assert [Path(image.name).name for image in result.bad] == ["c.png"]
    assert "1 .txt" in str(result.left_out)
    assert seen == [1, 2, 3]
    assert main(["predict", str(net), str(photos), "--top", "2", "--json"]) == 1
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == result.to_dict()["images"]
    assert [row["class"] for row in result._rows()] == ["red", "blue"]
    assert repr(result) == "<ClassifiedImages: 2 images classified by net.onnx; 1 can't be read>"


@pytest.mark.parametrize("name", ["out", "format", "address", "workers", "part_size"])
def test_what_goes_with_ray_is_refused_without_it(net: Path, photos: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"`{name}` goes with `engine=ray`"):
        predict(net, photos, **{name: "csv" if name == "format" else 1})


def test_no_image_and_no_such_engine_are_refused(net: Path, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in"):
        predict(net, tmp_path / "empty")
    with pytest.raises(DataError, match="`engine` is threads or ray, not spark"):
        predict(net, photos, engine="spark")
    with pytest.raises(DataError, match="name it by `out`"):
        predict(net, photos, engine="ray")


@needs_ray
@pytest.mark.slow
def test_ray_writes_a_folder_and_its_result_reads_it(
    net: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = predict(net, photos, engine="ray", out=tmp_path / "answers", workers=1)
    assert isinstance(result, ManySummary)
    assert [row["class"] for row in result.answers()] == ["red", "blue"]
    assert (result.answered, result.bad, len(result.left_out)) == (2, 1, 1)
    assert result.to_dict()["out"] == str(tmp_path / "answers")
    assert repr(result).startswith("<ManySummary: 2 images classified, 1 part in ")
