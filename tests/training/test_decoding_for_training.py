"""A run that decodes its images for each batch says what decodes them, and warns of another decoder when it goes on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mobilenets.data.decoding as training_decoding
from mobilenets.progress import Silent
from mobilenets.training import scoring
from mobilenets.training.checkpoints import load_state
from mobilenets.workflows.train import train

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of ten JPEGs, too many for the memory allowed."""
    monkeypatch.setattr(scoring, "default_memory_limit", lambda: 0)
    draws = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for index in range(10):
            pixels = draws.integers(100 * label, 100 * label + 100, (120, 150, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.jpg")
    return tmp_path / "photos"


def trained(photos: Path, out: Path, listener: Listener, **options: object) -> Path:
    settings = {
        "recipe": "quick",
        "width_mult": 0.25,
        "image_size": 32,
        "epochs": 1,
        "batch_size": 8,
        "device": "cpu",
        "precision": "float32",
        "memory_format": "channels_last",
    }
    train("mobilenet_v2", photos, out, progress=listener, **{**settings, **options})  # type: ignore[arg-type]
    return out


def test_what_decodes_is_kept_and_another_is_told_of(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained(photos, tmp_path / "first", Listener())
    name = str(training_decoding.TrainingDecoding())
    assert load_state(first, CPU).plan["decoded by"] == name
    described = json.loads((first / "model.json").read_text(encoding="utf-8"))
    assert described["provenance"]["training_images_decoded"] == name
    assert name.endswith(" at reduced scale")

    again = trained(photos, tmp_path / "again", Listener())
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()

    (first / "scores.json").unlink()  # so that there is something to go on with
    listener = Listener()
    monkeypatch.setattr(training_decoding, "decoder_name", lambda: "Another 1.0")
    trained(photos, first, listener, resume=True)
    (warning,) = (text for text in listener.messages if text.startswith("warning: "))
    assert warning == (
        f"warning: begun with training images decoded {name}, now by Another 1.0 at reduced scale: the weights will "
        "differ a little from its own"
    )


def test_exact_decoding_is_a_field_of_the_recipe(photos: Path, tmp_path: Path) -> None:
    exact = trained(photos, tmp_path / "exact", Listener(), reduced_decoding=False)
    assert load_state(exact, CPU).plan["decoded by"] == "exactly"
