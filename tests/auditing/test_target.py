from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mobilenets.auditing.target import TargetKind, load_target, module_target
from mobilenets.errors import AuditError, RunError
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.preprocessing import Preprocessing

CODE = """
import helper_beside_it
import torch
from torch import nn

print("hello from the user's file")


class Net(nn.Module):
    def __init__(self, classes: int = 10, channels: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3)
        self.head = nn.Linear(4 * 30 * 30, classes)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))


class Tools:
    make = Net


def failing():
    raise ValueError("no weights here")


def table():
    return {"a": 1}


built = Net()
number = 3
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    (tmp_path / "helper_beside_it.py").write_text("VALUE = 1\n")
    path = tmp_path / "types.py"
    path.write_text(CODE)
    return path


def test_a_class_in_a_file_is_built_at_a_size_it_takes(user_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = load_target(f"{user_file}:Net", {"classes": 7})
    assert isinstance(target.module, nn.Module)
    assert target.module.head.out_features == 7
    assert target.kind is TargetKind.MODULE
    assert target.input_shape == (1, 3, 32, 32)
    assert target.notes == ("it fails on images of 224 x 224; audited at 32 x 32",)
    assert target.title == f"{user_file}:Net"
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "hello" in printed.err


def test_channels_come_from_the_first_filter(user_file: Path) -> None:
    assert load_target(f"{user_file}:Net", {"channels": 1}, 32).input_shape == (1, 1, 32, 32)


def test_nested_names_and_networks_that_are_there(user_file: Path) -> None:
    assert load_target(f"{user_file}:Tools.make").module is not None
    assert load_target(f"{user_file}:built").module is not None


def test_a_package_and_the_current_directory(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_target("torchvision.models:mobilenet_v2", {"num_classes": 5}).input_shape == (1, 3, 224, 224)
    (user_file.parent / "my_networks_of_today.py").write_text(CODE)
    monkeypatch.chdir(user_file.parent)
    assert load_target("my_networks_of_today:Net").title == "my_networks_of_today:Net"


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("Nett", {}, r"types\.py has no Nett; did you mean Net\?"),
        ("Net", {"clases": 3}, r"Net\(classes: int = 10, channels: int = 3\) can't take these arguments: .*'clases'"),
        ("failing", {}, r"failing fails when called: ValueError: no weights here; pass what it needs with `args`"),
        ("table", {}, r"table makes a dict, not a PyTorch module"),
        ("number", {}, r"number is a int, not a class or function"),
        ("built", {"classes": 3}, r"built is built already: leave them out"),
    ],
)
def test_mistakes_are_one_line(user_file: Path, name: str, args: dict[str, int], message: str) -> None:
    with pytest.raises(AuditError, match=message) as caught:
        load_target(f"{user_file}:{name}", args)
    assert "\n" not in str(caught.value)


def test_files_that_can_not_be_loaded(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("x = 1\ndef f(:\n")
    with pytest.raises(AuditError, match=r"broken\.py is not Python: .* in line 2 of"):
        load_target(f"{broken}:f")
    with pytest.raises(AuditError, match=r"nowhere\.py is not there"):
        load_target(f"{tmp_path / 'nowhere.py'}:f")
    with pytest.raises(AuditError, match="no_such_package can't be imported: No module named"):
        load_target("no_such_package:f")
    with pytest.raises(AuditError, match="is a Python file: name the network in it"):
        load_target(str(broken))
    with pytest.raises(AuditError, match="is no network and no file that is there; give package"):
        load_target("mobilenet")
    leaving = tmp_path / "leaving.py"
    leaving.write_text("raise SystemExit(0)\n")
    with pytest.raises(AuditError, match="ends the program when imported"):
        load_target(f"{leaving}:f")


def test_files_are_known_by_suffix_or_content(tmp_path: Path) -> None:
    for name, head, kind in [
        ("a.onnx", b"", TargetKind.ONNX),
        ("b.bin", b"\x08\x07\x12\x00", TargetKind.ONNX),
        ("c.tflite", b"", TargetKind.TFLITE),
        ("d.bin", b"\x1c\x00\x00\x00TFL3", TargetKind.TFLITE),
    ]:
        (tmp_path / name).write_bytes(head)
        target = load_target(str(tmp_path / name))
        assert (target.kind, target.path, target.input_shape) == (kind, tmp_path / name, None)
    (tmp_path / "e.bin").write_bytes(b"something else")
    with pytest.raises(AuditError, match=r"e\.bin is neither an ONNX nor a TensorFlow Lite file"):
        load_target(str(tmp_path / "e.bin"))


def test_a_run_folder_says_what_it_is(tmp_path: Path) -> None:
    network = create_model("mobilenet_v2", width_mult=0.35, num_classes=2, image_size=64)
    save_network(tmp_path, SavedNetwork(network, ("a", "b"), Preprocessing(image_size=64), {}))
    target = load_target(str(tmp_path))
    assert target.config == network.config
    assert target.input_shape == (1, 3, 64, 64)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(RunError, match="missing"):
        load_target(str(tmp_path))
    with pytest.raises(AuditError, match="leave them out"):
        load_target(str(tmp_path), {"num_classes": 3})


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"is a folder without model\.json"):
        load_target(str(tmp_path))


def test_sizes_are_the_users_when_given() -> None:
    head = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 2))
    assert module_target(head).input_shape == (1, 3, 28, 28)
    assert module_target(head).title == "Sequential"
    with pytest.raises(AuditError, match=r"Sequential fails on images of 64 x 64: .*; choose another `image_size`"):
        module_target(head, 64)
    with pytest.raises(AuditError, match="and the other usual sizes"):
        module_target(nn.Linear(5, 5))


def test_a_size_no_network_takes_is_refused_before_anything_runs() -> None:
    for size in (0, -5, 100_000):
        with pytest.raises(AuditError, match=f"`image_size` is {size}: it must be from 8 to 4096 pixels"):
            module_target(nn.Conv2d(3, 4, 3), size)


def test_weights_made_from_the_first_image_are_made() -> None:
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(2))
    module = module_target(network).module
    assert module is not None
    assert [tuple(weight.shape) for weight in module.parameters()] == [(4, 3, 3, 3), (4,), (2, 4), (2,)]
    assert isinstance(network[0].weight, nn.UninitializedParameter)


class Answering(nn.Module):
    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: torch.Tensor) -> object:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [(None, "forward returns NoneType, no tensor"), (torch.zeros(1, 0), r"its answer \[1, 0\] is empty")],
)
def test_a_network_must_answer(answer: object, message: str) -> None:
    with pytest.raises(AuditError, match=message):
        module_target(Answering(answer))


class TrainsOn(nn.Module):
    """Batch norm by the batch's own statistics, whatever the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.answer = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        vector = self.conv(x).mean((2, 3))
        return self.answer(nn.functional.batch_norm(vector, None, None, training=True))


def test_a_network_that_takes_two_images_but_not_one_is_told_why() -> None:
    with pytest.raises(AuditError, match=r"two at once work, so batch norm goes on training after eval\(\)"):
        module_target(TrainsOn(), 32)
