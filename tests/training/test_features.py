from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mobilenets.models.network import MobileNet
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing
from mobilenets.training.head import Embedding, FeatureCache
from mobilenets.training.run import torch_predict

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def model() -> MobileNet:
    torch.manual_seed(0)
    return create_model("mobilenet_v3_small", num_classes=4, width_mult=0.25, image_size=16)


def embedding(model: MobileNet, folder: Path, **preprocessing: object) -> Embedding:
    return Embedding(model, Preprocessing(16, **preprocessing), CPU, FeatureCache(folder))  # type: ignore[arg-type]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.npz"))


def test_features_through_the_classifier_are_the_networks_answer(model: MobileNet, tmp_path: Path) -> None:
    embed = embedding(model, tmp_path)
    with torch.no_grad():
        answers = model.classifier(torch.from_numpy(embed(IMAGES))).numpy()
    wanted = torch_predict(model, Preprocessing(16), CPU, torch.channels_last)(IMAGES)
    assert answers == pytest.approx(wanted, abs=1e-5)


def test_what_was_computed_is_read_again_and_all_it_depends_on_is_in_its_key(model: MobileNet, tmp_path: Path) -> None:
    embed = embedding(model, tmp_path)
    first = embed(IMAGES)
    (file,) = files(tmp_path)
    written = file.stat().st_ino
    assert np.array_equal(embed(IMAGES), first)
    assert np.array_equal(embedding(model, tmp_path)(IMAGES), first)
    assert [one.stat().st_ino for one in files(tmp_path)] == [written]

    assert not np.array_equal(embed(IMAGES[:, :, ::-1]), first)
    embedding(model, tmp_path, mean=(0.4,))(IMAGES)
    with torch.no_grad():
        model.classifier.weight += 1
    embedding(model, tmp_path)(IMAGES)  # the head has no part in them
    assert len(files(tmp_path)) == 3
    with torch.no_grad():
        next(model.blocks.parameters()).add_(1)
    embedding(model, tmp_path)(IMAGES)
    assert len(files(tmp_path)) == 4


@pytest.mark.parametrize("damage", ["cut", "flipped bit", "empty", "of another shape", "not finite"])
def test_a_damaged_file_is_computed_again(model: MobileNet, tmp_path: Path, damage: str) -> None:
    first = embedding(model, tmp_path)(IMAGES)
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        with file.open("wb") as handle:
            np.savez(handle, features=first[:2] if damage == "of another shape" else first * np.nan)
    embed = embedding(model, tmp_path)
    assert np.array_equal(embed(IMAGES), first)
    assert embed.cache.damaged == 1
    again = embedding(model, tmp_path)
    assert np.array_equal(again(IMAGES), first)
    assert again.cache.damaged == 0


def test_a_folder_that_cannot_be_written_costs_only_the_keeping(model: MobileNet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    embed = embedding(model, tmp_path / "file" / "features")
    first = embed(IMAGES)
    assert "can't be made a folder" in embed.cache.complaint
    assert np.array_equal(embed(IMAGES), first)


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    for age, key in enumerate(("aa", "bb", "cc")):
        cache.put(key, np.ones((10, 10), np.float32))
        os.utime(tmp_path / key / f"{key}.npz", (1000 - age, 1000 - age))
    assert cache.get("cc", (10, 10)) is not None
    size = files(tmp_path)[0].stat().st_size
    cache.prune(2 * size)
    assert [file.stem for file in files(tmp_path)] == ["aa", "cc"]
    cache.prune()
    assert len(files(tmp_path)) == 2
