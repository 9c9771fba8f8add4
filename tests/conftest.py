"""What the tests of several packages share: small real images, and a machine-wide cache that tests must not touch."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from mobilenets.data.datasets import Dataset, load_dataset
from mobilenets.data.loader import PreparedImages, prepare
from mobilenets.preprocessing import Preprocessing

# A busy machine is no fault: without this, an example of more than 0.2 s fails.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep measured compute plans of one test from another and from the user's home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """scikit-learn's scans."""
    return load_dataset("digits")


@pytest.fixture(scope="session")
def few_digits(digits: Dataset) -> PreparedImages:
    """The first 96 training digits at 8x8: a data set an epoch of which takes a blink."""
    return prepare(digits.train.take(range(96)), Preprocessing(image_size=8))


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported network without training: a MobileNetV2 for 16x16 images and 3 classes."""
    import torch

    from mobilenets.exporters.export import export_onnx
    from mobilenets.models.registry import create_model
    from mobilenets.preprocessing import Preprocessing

    torch.manual_seed(0)
    model = create_model("mobilenet_v2", num_classes=3, width_mult=0.35, image_size=16)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_onnx(model, path, preprocessing=Preprocessing(image_size=16), classes=("a", "b", "c"))
    return path
