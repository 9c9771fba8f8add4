from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mobilenets.data.datasets import load_dataset
from mobilenets.data.loader import PreparedImages
from mobilenets.errors import BadImagesError, RunError
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.report.scores import run_line
from mobilenets.training import run
from mobilenets.training.checkpoints import STATE
from mobilenets.training.distributed import Team
from mobilenets.training.recipe import Recipe
from mobilenets.training.run import read_run, train_and_score
from mobilenets.training.scoring import SCORES, prepare_splits, torch_predict


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes in train/ and test/, three pictures each, one unreadable in either split."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (9, 9), (number, 0, 0)).save(tmp_path / split / name / f"{number}.png")
        (tmp_path / split / "a" / "bad.png").write_bytes(b"")
    return tmp_path


def test_unreadable_images_of_both_splits_are_listed_at_once(folder: Path) -> None:
    with pytest.raises(BadImagesError) as caught:
        prepare_splits(load_dataset(folder), Preprocessing(image_size=8), skip_bad=False, progress=Silent())
    names = [image.name for image in caught.value.bad]
    assert len(names) == 2
    assert any("train" in name for name in names)
    assert any("test" in name for name in names)


def test_they_are_left_out_and_said_on_request(folder: Path) -> None:
    listener = Listener()
    splits = prepare_splits(load_dataset(folder), Preprocessing(image_size=8), skip_bad=True, progress=listener)
    assert (len(splits.train), len(splits.test)) == (6, 6)
    assert listener.said[0] == "2 images left out:"
    assert [line.count("bad.png") for line in listener.said[1:]] == [1, 1]


def test_reading_an_unfinished_or_damaged_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not finished: it has no scores\.json"):
        read_run(tmp_path, 0)
    (tmp_path / SCORES).write_text("{}")
    with pytest.raises(RunError, match="is damaged"):
        read_run(tmp_path, 0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_predict_function_is_the_network_on_normalized_images(
    few_digits: PreparedImages, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    model = create_model("mobilenet_v2", num_classes=10, width_mult=0.25, image_size=8)
    with torch.no_grad():  # give batch norm its statistics, or all logits are nearly 0
        model(torch.from_numpy(few_digits.preprocessing.normalize(few_digits.batch(range(64)))))
    images = few_digits.batch(range(5))
    predict = torch_predict(model, few_digits.preprocessing, torch.device("cpu"), layout)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(few_digits.preprocessing.normalize(images))).numpy()
    np.testing.assert_allclose(predict(images), expected, rtol=1e-3, atol=1e-5)


def test_a_recipe_that_scores_mirror_images_too_says_so_in_every_score(folder: Path, tmp_path: Path) -> None:
    dataset = load_dataset(folder)
    splits = prepare_splits(dataset, Preprocessing(image_size=8), skip_bad=True, progress=Silent())
    network = {"name": "mobilenet_v3_small", "num_classes": 2, "width_mult": 0.1, "image_size": 8}
    recipe = Recipe(epochs=1, flip_test=True, precision="float32", memory_format="contiguous")
    run = tmp_path / "run"
    done = train_and_score(network, splits, recipe, run, resume=False, device=torch.device("cpu"), progress=Silent())
    assert done.train.flip_test
    assert done.test.flip_test
    assert '"flip_test":true' in (run / SCORES).read_text()
    assert "each answered together with its mirror image" in run_line(done)


def test_a_restart_of_torchrun_takes_up_its_own_run_and_no_other(tmp_path: Path) -> None:
    """Its second attempt would otherwise go on with what the first was refused."""

    def take(team: Team, *, resume: bool = False) -> bool:
        with ExitStack() as held:
            return run._take(tmp_path, resume, held, team, Silent())

    assert not take(Team(launch="a 1"))
    (tmp_path / STATE).touch()
    assert take(Team(restarts=1, launch="a 1"))
    for other in (Team(launch="b 2"), Team(restarts=1, launch="b 2"), Team(restarts=1)):
        with pytest.raises(RunError, match="holds a run already"):
            take(other)
    assert take(Team(launch="b 2"), resume=True)
    assert take(Team(restarts=3, launch="b 2"))
