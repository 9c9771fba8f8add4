"""Very many images by Ray Data, here few: one Ray for all tests of this file."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from described import write_onnx
from PIL import Image
from ray_processes import needs_ray, processes_of, workers_of

from mobilenets.artifact.description import Confidence
from mobilenets.errors import ArtifactError, BadImage, ClusterError, DataError, RunError
from mobilenets.progress import Silent
from mobilenets.runtime.bulk.predict_many import predict_many
from mobilenets.runtime.bulk.session import ray_session
from mobilenets.runtime.classifier import Classifier, Prediction
from mobilenets.runtime.prediction_text import write_csv, write_json_lines
from mobilenets.runtime.streaming import predict_files

pytestmark = pytest.mark.slow

COLOURS = {"red": (250, 20, 10), "green": (20, 250, 10), "blue": (10, 20, 250)}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ray, running in this process; yields what its temporary folder is named after."""
    job = tmp_path_factory.mktemp("job")
    with ray_session(None, job):
        yield job
    assert not processes_of(job)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "net.onnx").path


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """23 pictures in two folders and two files that are none, as seen from the folder above."""
    for number in range(23):
        name = list(COLOURS)[number % 3]
        (tmp_path / "photos" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        colour = tuple(max(0, channel - 3 * number) for channel in COLOURS[name])
        Image.new("RGB", (12, 9), colour).save(tmp_path / f"photos/{number % 2}/{number:02}-{name}.png")
    (tmp_path / "photos/0/03-bad.jpg").write_text("no picture")
    (tmp_path / "photos/1/99-ä.png").touch()
    monkeypatch.chdir(tmp_path)
    return Path("photos")


def plain(net: Path, paths: list[Path], form: str) -> tuple[str, list[dict[str, str]]]:
    """What the engine without Ray says: the answers as text, and the bad files."""
    records = list(predict_files(Classifier(net), paths))
    text = io.StringIO()
    write = {"csv": write_csv, "jsonl": write_json_lines}[form]
    write((record for record in records if isinstance(record, Prediction)), text)
    bad = [{"file": one.name, "reason": one.reason} for one in records if isinstance(one, BadImage)]
    return text.getvalue(), bad


def listed(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@needs_ray
def test_answers_are_those_of_the_engine_without_ray(job: Path, net: Path, photos: Path) -> None:
    paths = [photos, Path("absent.png"), photos.absolute() / "1"]
    seen: list[int] = []

    class Watch(Silent):
        def update(self, what: str, done: int, total: int | None) -> None:
            assert (what, total) in (("classifying", None), ("classifying", 38))
            seen.append(done)

    summary = predict_many(net, paths, "answers", part_size=10, progress=Watch())
    assert (summary.answered, summary.bad, summary.parts, summary.parts_before) == (34, 4, 4, 0)
    text, bad = plain(net, paths, "jsonl")
    parts = sorted(Path("answers").glob("part-*.jsonl"))
    assert "".join(part.read_text(encoding="utf-8") for part in parts) == text
    assert listed(summary.bad_list) == bad
    assert seen[-1] == 38
    assert [(row["file"], row["class"]) for row in summary.answers()] == [
        (row["file"], row["label"]) for row in map(json.loads, text.splitlines())
    ]

    parts[1].unlink()  # a part that is gone is answered again, alone
    written = parts[0].stat().st_mtime_ns
    again = predict_many(net, paths, "answers", part_size=10)
    assert (again.answered, again.bad, again.parts, again.parts_before) == (34, 4, 4, 3)
    assert parts[0].stat().st_mtime_ns == written
    assert "".join(part.read_text(encoding="utf-8") for part in parts) == text

    (photos / "0/00-another.png").touch()
    with pytest.raises(RunError, match="answers: the files found are no longer those part 0 was made of"):
        predict_many(net, paths, "answers", part_size=10)


@needs_ray
def test_one_path_as_text_and_a_zip(job: Path, net: Path, photos: Path) -> None:
    with zipfile.ZipFile("photos.zip", "w") as archive:
        for path in photos.rglob("*.*"):
            archive.write(path)
    for given, out in (("photos", "of-folder"), ("photos.zip", "of-zip")):
        summary = predict_many(net, given, out, workers=1)
        assert (summary.answered, summary.bad, summary.parts) == (23, 2, 1)
        text, bad = plain(net, [Path(given)], "jsonl")
        assert Path(out, "part-00000.jsonl").read_text(encoding="utf-8") == text
        assert listed(summary.bad_list) == bad


@needs_ray
def test_as_csv_past_a_worker_that_is_killed(
    job: Path, net: Path, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if sys.platform != "linux":
        pytest.skip("the workers are found by Linux' /proc")
    killed: list[int] = []

    class Kill(Silent):
        def update(self, what: str, done: int, total: int | None) -> None:
            if not killed:
                killed.extend(workers_of(job))
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)

    summary = predict_many(
        net, [photos], "answers", format="csv", part_size=3, batch_size=1, workers=1, progress=Kill()
    )
    assert killed
    assert (summary.answered, summary.bad, summary.parts) == (23, 2, 9)
    assert capfd.readouterr() == ("", "")
    head, *rows = plain(net, [photos], "csv")[0].splitlines()
    files = [path.read_text(encoding="utf-8").splitlines() for path in sorted(Path("answers").glob("part-*.csv"))]
    assert {lines[0] for lines in files} == {head}
    assert [row for lines in files for row in lines[1:]] == rows
    assert len(list(summary.answers())) == 23


@needs_ray
def test_a_network_whose_answers_are_none(job: Path, tmp_path: Path, photos: Path) -> None:
    write_onnx(tmp_path / "net.onnx", confidence=Confidence(1e-320, 0.0, "a test"))
    with pytest.raises(ArtifactError, match=r"^\S+net.onnx: \S+net.onnx: it answers with NaN or infinity"):
        predict_many(tmp_path / "net.onnx", [photos], "answers")


@needs_ray
def test_more_workers_than_cores_are_refused(job: Path, net: Path, photos: Path) -> None:
    with pytest.raises(ClusterError, match="1000 workers with 2 threads each want 2000 cores, this machine has"):
        predict_many(net, [photos], "answers", workers=1000, threads=2)
    with pytest.raises(ClusterError, match="has joined Ray already"):
        predict_many(net, [photos], "answers", address="auto")


@needs_ray
def test_nothing_found(job: Path, net: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no images in .*empty"):
        predict_many(net, [tmp_path / "empty"], tmp_path / "answers")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        *(({name: 0}, f"{name} is 0") for name in ("workers", "threads", "top", "batch_size", "part_size")),
        ({"format": "table"}, "format is table; it is csv or jsonl"),
        ({"threshold": 7.0}, "a threshold is a probability"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    net: Path, tmp_path: Path, options: dict[str, object], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        predict_many(net, [tmp_path], tmp_path / "answers", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "answers").exists()
