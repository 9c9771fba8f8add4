"""Later commands on the images of a run: none trained on is scored, none left out comes back, wrong ones are listed."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilenets.artifact.container import read_artifact
from mobilenets.cli.main import main
from mobilenets.data.datasets import load_dataset
from mobilenets.data.splits import image_digests
from mobilenets.image_record import IMAGE_RECORD, ImageRecord
from mobilenets.workflows.export import export
from mobilenets.workflows.train import train

from .conftest import Run

pytestmark = pytest.mark.slow

TINY = {"recipe": "quick", "epochs": 1, "width_mult": 0.1, "image_size": 16, "validation_fraction": 0.2}
QUICK_DEPLOY = ("--targets", "onnx", "--no-int8", "--seconds", "0", "--threads", "1", "--against", "pytorch")


def picture(path: Path, seed: int) -> None:
    """An image unlike every other."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `pets`, a list of images to leave out, a `run` trained without these, and its file."""
    folder = tmp_path_factory.mktemp("seen")
    for place, name in enumerate(("=cat", "dog")):
        for number in range(30):
            picture(folder / "pets" / name / f"{number:02d}.png", 100 * place + number)
    data = load_dataset(folder / "pets")
    listed = (data.train.sources[3].name, data.test.sources[2].name)
    (folder / "exclude.txt").write_text("".join(f"{name}\tdull\n" for name in listed))
    torch.set_num_threads(1)
    train("mobilenet_v1", folder / "pets", folder / "run", exclude=folder / "exclude.txt", **TINY)  # type: ignore[arg-type]
    export(folder / "run", folder / "pets.onnx", to="onnx", data=folder / "pets", threads=1)
    return folder


@pytest.fixture
def pets(made: Path, tmp_path: Path) -> Path:
    """The folder with eight images more than were there in training."""
    shutil.copytree(made / "pets", tmp_path / "pets")
    for number in range(8):
        picture(tmp_path / "pets" / "dog" / f"new{number}.png", 500 + number)
    return tmp_path / "pets"


def scored(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """How many images `evaluate` scored, and what it said."""
    capfd.readouterr()
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    said = capfd.readouterr()
    return json.loads(said.out)["count"], said.err


def test_the_run_folder_remembers(made: Path) -> None:
    record = ImageRecord.load(made / "run")
    assert record is not None
    data = load_dataset(made / "pets", exclude=made / "exclude.txt")
    assert (
        record.was_trained_on(image_digests(data.train.sources))
        | record.was_validated_on(image_digests(data.train.sources))
    ).all()
    assert len(record.trained) + len(record.validated) == len(data.train)
    assert not record.was_trained_on(image_digests(data.test.sources)).any()
    described = json.loads((made / "run" / "model.json").read_text())["provenance"]
    assert described["excluded"] == "2 images, listed in exclude.txt"
    assert load_dataset(made / "pets", exclude=made / "run" / "exclude.txt").digest == data.digest
    in_file = read_artifact(made / "pets.onnx").description.images
    assert in_file is not None
    assert dict(in_file.excluded) == dict(record.excluded)
    assert in_file.was_trained_on(record.trained).all()


@pytest.mark.parametrize("network", ["run", "pets.onnx"])
def test_a_grown_folder_is_scored_on_what_is_new_to_the_network(
    made: Path, pets: Path, network: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = load_dataset(made / "pets", exclude=made / "exclude.txt")
    count, said = scored(capfd, made / network, "--data", made / "pets")
    assert count == len(data.test)
    assert "2 images left out, as they were in training" in said
    grown, _ = scored(capfd, made / network, "--data", pets)
    assert len(data.test) <= grown <= len(data.test) + 8
    everything, said = scored(capfd, made / network, "--data", pets, "--split", "all")
    assert everything == len(data.test) + 8
    assert "it was trained on and" in said
    for path in (made / "pets").glob("*/*.png"):  # copies of all of them, under other names
        shutil.copyfile(path, pets / path.parent.name / f"copy{path.name}")
    assert scored(capfd, made / network, "--data", pets, "--split", "all")[0] == 8 + 2 * len(data.test) + 2


def test_an_older_run_folder_warns(made: Path, pets: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made / "run", tmp_path / "old")
    (tmp_path / "old" / IMAGE_RECORD).unlink()
    assert "some of these may be among them" in scored(capfd, tmp_path / "old", "--data", pets)[1]


def test_wrong_answers_are_listed_for_spreadsheets_and_programs(
    made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        picture(tmp_path / "own" / "=cat" / f"=1+{number}.png", 900 + number)
        picture(tmp_path / "own" / "dog" / f"{number}.png", 950 + number)
    for network in ("run", "pets.onnx"):
        arguments = (made / network, "--data", tmp_path / "own", "--split", "all", "--mistakes")
        count, said = scored(capfd, *arguments, tmp_path / "wrong.json")
        listed = json.loads((tmp_path / "wrong.json").read_text())
        assert count == 6
        assert f"{len(listed)} image" in said
        assert scored(capfd, *arguments, tmp_path / "wrong.csv")[0] == 6
        with (tmp_path / "wrong.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert 1 <= len(rows) == len(listed) <= 5
        for row, one in zip(rows, listed, strict=True):
            assert set(row) == set(one) == {"image", "truth", "answer", "probability"}
            assert one["truth"] != one["answer"]
            assert one["image"].startswith(f"{one['truth']}/")
            assert float(row["probability"]) == one["probability"] > 0.5
            assert not any(cell.startswith("=") for cell in row.values())
            assert [row[key].lstrip("'") for key in ("image", "truth", "answer")] == [
                one[key] for key in ("image", "truth", "answer")
            ]
        probabilities = [one["probability"] for one in listed]
        assert probabilities == sorted(probabilities, reverse=True)
    capfd.readouterr()
    assert main(["evaluate", str(made / "run"), "--data", str(tmp_path / "own"), "--mistakes", "wrong.txt"]) == 2
    assert "written as .csv or .json" in capfd.readouterr().err


def test_every_command_that_scores_leaves_them_out(call: Run, made: Path, pets: Path) -> None:
    """Not only `evaluate`: here a folder whose test images are those of training, and two new ones."""
    data = load_dataset(made / "pets", exclude=made / "exclude.txt")
    for part, sources in (("train", data.test.sources), ("test", data.train.sources)):
        for source in sources:
            target = pets.parent / "turned" / part / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made / "pets" / source.name, target)
    for name in ("=cat", "dog"):
        picture(pets.parent / "turned" / "test" / name / "new.png", 700 + len(name))
        picture(pets.parent / "turned" / "test" / name / "newer.png", 800 + len(name))
    run, few = str(made / "run"), f"of {len(data.train) + 4} test images, the network has seen"
    common = ("--data", "turned")
    tiny = ("--epochs", "1", "--width-mult", "0.1", "--image-size", "16", "--recipe", "quick")
    one_way = ("--backends", "onnxruntime", "--precisions", "fp32", "--threads", "1", "--batch-sizes", "1")
    commands = {
        "evaluate": ("evaluate", run, *common),
        "export": ("export", run, *common, "--to", "onnx", "--out", "a.onnx"),
        "quantize": ("quantize", run, *common, "--out", "b.onnx", "--max-drop", "100", "--no-finetune"),
        "deploy": ("deploy", run, *common, "--out", "c", *QUICK_DEPLOY),
        "benchmark": ("benchmark", str(made / "pets.onnx"), *common, "--seconds", "0.01", "--starts", "1", *one_way),
        "train": ("train", "mobilenet_v1", "--weights", run, *common, *tiny, "--out", "d"),
    }
    for verb, arguments in commands.items():
        done = call(*arguments)
        assert done.returncode == 0, (verb, done.stderr)
        assert few in done.stderr + " ".join(done.stdout.split()), (verb, done.stdout, done.stderr)
    resumed = call(*commands["train"], "--resume")
    assert resumed.returncode == 0, resumed.stderr
    chained = ImageRecord.load(pets.parent / "d")
    assert chained is not None
    assert chained.was_trained_on(image_digests(data.test.sources)).any()
    first = ImageRecord.load(made / "run")
    assert first is not None
    assert chained.was_trained_on(first.trained).all()


def test_a_list_goes_with_export_quantize_deploy_too(call: Run, made: Path, pets: Path) -> None:
    test = load_dataset(made / "pets", exclude=made / "exclude.txt").test
    (pets.parent / "more.txt").write_text(f"{test.sources[0].name}\tdull\n")
    (pets.parent / "wrong.txt").write_text("cat/there-is-no-such.png\n")
    common = ("--data", str(made / "pets"))
    run = str(made / "run")
    commands = {
        "evaluate": ("evaluate", run, *common),
        "export": ("export", run, *common, "--to", "onnx", "--out", "a.onnx"),
        "quantize": ("quantize", run, *common, "--out", "b.onnx", "--max-drop", "100", "--no-finetune"),
        "deploy": ("deploy", run, *common, "--out", "c", *QUICK_DEPLOY),
    }
    for verb, arguments in commands.items():
        done = call(*arguments, "--exclude", "wrong.txt")
        assert done.returncode == 2, verb
        assert "wrong.txt lists cat/there-is-no-such.png" in done.stderr
        if verb == "quantize":  # takes the longest, and the list the same way
            continue
        done = call(*arguments, "--exclude", "more.txt")
        said = done.stderr + " ".join(done.stdout.split())
        assert done.returncode == 0, (verb, done.stderr)
        assert "1 image left out, as more.txt lists them" in said, (verb, said)
        assert "2 images left out, as they were in training" in said, (verb, said)
