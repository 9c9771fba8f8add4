from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mobilenets.errors import WeightsError
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.models.weights.read import read_weights
from mobilenets.preprocessing import Preprocessing

from .conftest import Reference

V2 = {"name": "mobilenet_v2", "width_mult": 0.35, "num_classes": 10}


@pytest.fixture
def tensors(timm_network: Reference) -> dict[str, Tensor]:
    return timm_network("mobilenetv2_035").state_dict()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder's network with options of its own."""
    model = create_model(
        "mobilenet_v1", num_classes=2, width_mult=0.25, image_size=32, activation="relu6", norm_eps=1e-3
    )
    save_network(tmp_path / "run", SavedNetwork(model, ("cold", "warm"), Preprocessing(32, mean=(0.3,)), {}))
    return tmp_path / "run"


def test_the_contents_decide_not_the_name(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(tensors, tmp_path / "a.safetensors")
    save_file(tensors, tmp_path / "b.pth")
    for file in ("a.safetensors", "b.pth"):
        assert read_weights(tmp_path / file).origin == "timm"


def test_a_safetensors_header_may_begin_with_the_byte_of_pickle(tmp_path: Path) -> None:
    path = tmp_path / "w"
    tensors = {"conv_stem.weight": torch.zeros(8, 3, 3, 3), "classifier.weight": torch.zeros(2, 8)}
    for length in range(0, 256, 8):  # the header's length is a multiple of 8
        save_file(tensors, path, metadata={"padding": "-" * length})
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    assert read_weights(path).num_classes == 2


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: {"state_dict": tensors, "epoch": 3},
        lambda tensors: {"model": tensors, "optimizer": {"state": {}}},
        lambda tensors: {"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}},
        lambda tensors: {f"_orig_mod.module.{name}": tensor for name, tensor in tensors.items()},
        lambda tensors: {"model": {f"module.{name}": tensor for name, tensor in tensors.items()}, "n": torch.zeros(())},
        lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.endswith("tracked")},
        lambda tensors: {name: tensor.half() for name, tensor in tensors.items()},
        lambda tensors: {name: tensor.bfloat16() for name, tensor in tensors.items()},
        lambda tensors: {"model_state_dict": tensors, "optimizer_state_dict": {}, "loss": 0.1},
        lambda tensors: {"state_dict": {f"model.{name}": tensor for name, tensor in tensors.items()}},
        lambda tensors: {"model": tensors, "args": argparse.Namespace(lr=0.1, data="images")},
    ],
    ids=[
        "state_dict",
        "model",
        "parallel",
        "compiled",
        "model beside a tensor",
        "without counters",
        "half precision",
        "bfloat16",
        "as PyTorch's tutorials",
        "as Lightning",
        "with the options of torchvision's and timm's training",
    ],
)
def test_wrapped_tensors_are_found(wrap: object, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    assert callable(wrap)
    torch.save(wrap(tensors), tmp_path / "w.pth")
    model = create_model(**V2, weights=tmp_path / "w.pth")
    assert torch.allclose(model.classifier.weight, tensors["classifier.weight"], rtol=1e-2)
    assert model.classifier.weight.dtype == torch.float32


def test_the_averaged_network_is_taken_and_said(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    averaged = {f"module.{name}": tensor for name, tensor in tensors.items()}
    averaged["n_averaged"] = torch.tensor(7)
    other = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    torch.save({"model": other, "model_ema": averaged}, tmp_path / "w.pth")
    imported = read_weights(tmp_path / "w.pth")
    assert imported.notes[0] == "the file holds several networks: the averaged one (model_ema) is used"
    assert torch.equal(create_model(**V2, weights=tmp_path / "w.pth").classifier.bias, tensors["classifier.bias"])


def test_a_run_folder_brings_its_options_classes_and_preparation(run: Path) -> None:
    for given in (run, run / "model.safetensors", str(run)):
        imported = read_weights(given)
        assert imported.origin == "run folder"
        assert imported.classes == ("cold", "warm")
        assert imported.preprocessing == Preprocessing(32, mean=(0.3,))
    model = create_model("mobilenet_v1", num_classes=2, width_mult=0.25, weights=run)
    assert (model.config.options["activation"], model.config.options["norm_eps"]) == ("relu6", 1e-3)


def failure(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert str(path.name) in str(caught.value)
    return str(caught.value)


def test_a_damaged_run_folder_names_the_file(run: Path) -> None:
    description = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps({**description, "classes": None}))
    assert "model.json does not describe a network" in failure(run)
    (run / "model.json").write_text("[]")
    assert "model.json does not describe a network" in failure(run)
    (run / "model.json").write_text("{")
    assert "model.json can't be read" in failure(run)
    (run / "model.json").write_text(json.dumps(description))
    (run / "model.safetensors").unlink()
    assert "model.safetensors is missing" in failure(run)
    (run / "model.json").unlink()
    assert "is no run folder" in failure(run)


def test_a_file_that_is_none_says_what_can_be(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    assert "does not exist" in failure(tmp_path / "absent.pth")
    (tmp_path / "w").write_bytes(b"")
    assert "is empty" in failure(tmp_path / "w")
    for content in (b"short", b"\xff" * 100, b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"):
        (tmp_path / "w").write_bytes(content)
        assert "is no weight file known here" in failure(tmp_path / "w")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "w")
    assert "holds 1 tensors (weight, ...) of no MobileNet" in failure(tmp_path / "w")
    for content in ([1, 2], {}, {"state_dict": {"epoch": 3}}, torch.zeros(3)):
        torch.save(content, tmp_path / "w")
        assert "holds no network's tensors" in failure(tmp_path / "w")
    tensors["classifier.bias"][3] = float("nan")
    torch.save(tensors, tmp_path / "w")
    assert "NaN or infinity in classifier.bias" in failure(tmp_path / "w")


def test_damaged_files_are_refused(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    torch.save(tensors, tmp_path / "w.pth")
    save_file(tensors, tmp_path / "w.safetensors")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for file in ("w.pth", "w.safetensors", "old.pth"):
        path = tmp_path / file
        path.write_bytes(path.read_bytes()[:5000])
        assert "download or save it again" in failure(path) or "is damaged" in failure(path)


class _Code:
    """What a pickle does when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "pickle"])
def test_a_file_that_could_run_code_is_not_opened(
    tmp_path: Path, tensors: dict[str, Tensor], legacy: bool, protocol: int
) -> None:
    content = {"model": tensors, "more": _Code(tmp_path / "ran")}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    assert "could run code" in failure(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_other_things_under_the_name_of_weights_are_called_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("\n<!DOCTYPE html><title>Not found</title>")
    assert "is a web page" in failure(tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("photos/data.png", b"")
    assert "zip archive, but not of weights" in failure(tmp_path / "w.pth")


@pytest.mark.parametrize("given", ["", "a\0b", 3, b"w.pth", "long" * 2000])
def test_what_is_no_path_is_said(given: object) -> None:
    with pytest.raises(WeightsError, match="path of") as caught:
        read_weights(given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensor: tensor.to(torch.int8), "as int8, not as plain real numbers"),
        (lambda tensor: tensor.to(torch.complex64), "as complex64, not as plain real numbers"),
        (lambda tensor: tensor.to_sparse(), "as sparse_coo, not as plain real numbers"),
        (lambda tensor: tensor.to("meta"), "as shapes without values, not as plain real numbers"),
        (lambda tensor: tensor.double() * 1e300, "NaN or infinity"),
    ],
    ids=["int8", "complex", "sparse", "meta", "beyond float32"],
)
def test_tensors_that_would_become_other_numbers_are_refused(
    change: Callable[[Tensor], Tensor], said: str, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    tensors["classifier.weight"] = change(tensors["classifier.weight"])
    torch.save(tensors, tmp_path / "w.pth")
    assert said in failure(tmp_path / "w.pth")
    assert "classifier.weight" in failure(tmp_path / "w.pth")


def test_names_of_a_network_with_other_dimensions_are_refused(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    torch.save({**tensors, "conv_stem.weight": torch.zeros(())}, tmp_path / "w.pth")
    assert "of other shapes than its layers have" in failure(tmp_path / "w.pth")
    torch.save({**tensors, "classifier.bias": torch.zeros(9)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"contradicts itself: \[9\] is its classifier.bias for 10 classes"):
        create_model(**V2, weights=tmp_path / "w.pth")


@pytest.mark.slow
def test_our_own_tensors_without_a_description_are_refused_until_padding_and_eps_are_said(tmp_path: Path) -> None:
    theirs = create_model(**V2, in_channels=1)
    for content in (theirs.state_dict(), {"model": theirs.state_dict(), "ema": None, "format": 1}):
        torch.save(content, tmp_path / "w.pth")
        imported = read_weights(tmp_path / "w.pth")
        assert (imported.num_classes, imported.in_channels, imported.preprocessing) == (10, 1, None)
        assert "no model.json beside the file" in imported.notes[0]
        with pytest.raises(
            WeightsError, match=r"does not state the padding and norm_eps .* put its model\.json beside"
        ):
            create_model(**V2, in_channels=1, weights=tmp_path / "w.pth")
        said = {"padding": "symmetric", "norm_eps": 1e-5}
        ours = create_model(**V2, in_channels=1, weights=tmp_path / "w.pth", **said)
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_the_file_given_is_read_not_the_one_beside_it(run: Path) -> None:
    description = json.loads((run / "model.json").read_text())["network"]
    other = create_model(**description)
    torch.save(other.state_dict(), run / "best.pth")
    model = create_model("mobilenet_v1", num_classes=2, width_mult=0.25, weights=run / "best.pth")
    assert torch.equal(model.stem.conv.weight, other.stem.conv.weight)
    assert model.config.options["activation"] == "relu6"


def test_a_description_of_another_network_than_the_tensors_is_refused(run: Path) -> None:
    tensors = create_model("mobilenet_v1", num_classes=3, width_mult=0.25).state_dict()
    save_file(tensors, run / "model.safetensors")
    assert "describes 2 outputs and names 2 classes, and model.safetensors has 3" in failure(run / "model.safetensors")
    save_file({"weight": torch.zeros(3)}, run / "model.safetensors")
    with pytest.raises(WeightsError, match=r"is not what model\.json beside it describes"):
        read_weights(run)
