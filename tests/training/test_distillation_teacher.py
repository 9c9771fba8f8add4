"""A teacher fitted to a student: its own view of the same pixels, its answers in the student's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from mobilenets.errors import MobilenetsError, ModelError, RecipeError, RunError, WeightsError
from mobilenets.models.layers import Normalizer
from mobilenets.models.network import MobileNet
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.models.weights.fit import file_sha256
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent
from mobilenets.training.recipe import DISTILL_WEIGHT, TEMPERATURE, Recipe, resolve_recipe
from mobilenets.training.teacher import FittedTeacher, class_order, load_teacher

STUDENT = Preprocessing(image_size=16)
IMAGENET = Preprocessing(image_size=16, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8))
CLASSES = ("cat", "dog", "emu")


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)


def network(classes: int = 3, image_size: int = 16, in_channels: int = 3) -> MobileNet:
    torch.manual_seed(3)
    return create_model(
        "mobilenet_v2", num_classes=classes, width_mult=0.25, image_size=image_size, in_channels=in_channels
    )


def saved(folder: Path, *, classes: tuple[str, ...] = CLASSES, own: Preprocessing = IMAGENET) -> Path:
    model = network(len(classes), own.image_size, own.channels)
    save_network(folder, SavedNetwork(model, classes, own, {}))
    return folder


def test_it_answers_as_itself_on_the_students_inputs(tmp_path: Path) -> None:
    found = load_teacher(saved(tmp_path / "t"), CLASSES, STUDENT, network="mobilenet_v1", progress=Silent())
    expected = network().eval()(Normalizer(IMAGENET)(PIXELS))
    torch.testing.assert_close(found.network(Normalizer(STUDENT)(PIXELS)), expected, rtol=1e-4, atol=1e-5)


def test_classes_in_another_order_are_mapped_by_name(tmp_path: Path) -> None:
    folder, ours = saved(tmp_path / "t"), ("emu", "cat", "dog")
    found = load_teacher(folder, ours, IMAGENET, network="mobilenet_v2", progress=Silent())
    expected = network().eval()(Normalizer(IMAGENET)(PIXELS))[:, [2, 0, 1]]
    torch.testing.assert_close(found.network(Normalizer(IMAGENET)(PIXELS)), expected)


@given(st.permutations([f"class {number}" for number in range(7)]))
def test_an_order_leads_back_to_the_names(taught: list[str]) -> None:
    wanted = sorted(taught)
    assert [taught[place] for place in class_order(taught, wanted, "t")] == wanted


def test_a_larger_teacher_sees_the_same_picture_resized(tmp_path: Path) -> None:
    own, listener = Preprocessing(image_size=32, mean=(0.3,), std=(0.2,)), Listener()
    folder = saved(tmp_path / "t", own=own)
    found = load_teacher(folder, CLASSES, STUDENT, network="mobilenet_v2", progress=listener)
    assert listener.said == ["learning from t (mobilenet_v2 x0.25 32px, images resized for it)"]
    seen: list[torch.Tensor] = []
    found.network.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    found.network(Normalizer(STUDENT)(PIXELS))
    pictures = [Image.fromarray(image) for image in PIXELS.numpy()]
    enlarged = [np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR)) for picture in pictures]
    wanted = Normalizer(own)(torch.from_numpy(np.stack(enlarged)))
    one_grey_value = 1 / 255 / 0.2  # Pillow rounds to whole ones, in both directions
    assert (seen[0] - wanted).abs().max() <= 1.01 * one_grey_value


def test_it_stays_in_evaluation_mode_and_takes_no_gradient() -> None:
    fitted = FittedTeacher(network(), STUDENT, STUDENT, range(3))
    holder = nn.ModuleList([fitted]).train()
    assert not any(module.training for module in fitted.modules())
    assert not any(parameter.requires_grad for parameter in holder.parameters())


def test_the_record_names_the_network_and_the_digest_of_its_weights(tmp_path: Path) -> None:
    folder = saved(tmp_path / "t")
    by_file, by_folder = (
        load_teacher(path, CLASSES, STUDENT, network="mobilenet_v1", progress=Silent())
        for path in (folder / "model.safetensors", folder)
    )
    assert by_file.identity == by_folder.identity
    assert by_file.record == {
        "teacher": "t",
        "teacher_network": "mobilenet_v2 x0.25 16px",
        "teacher_sha256": file_sha256(folder / "model.safetensors"),
    }


def test_a_weight_file_teaches_as_the_network_said(tmp_path: Path) -> None:
    file = tmp_path / "own.pth"
    theirs = timm.create_model("mobilenetv2_035", num_classes=len(CLASSES))
    torch.save(theirs.state_dict(), file)
    arguments = {"network": "mobilenet_v2", "width_mult": 0.35}
    listener = Listener()
    found = load_teacher(file, CLASSES, STUDENT, progress=listener, **arguments)  # type: ignore[arg-type]
    assert listener.said[0] == "learning from own.pth (mobilenet_v2 x0.35 16px)"
    assert listener.said[-2:] == [
        "note: own.pth names no classes: its outputs are taken to be the images' classes, in order",
        "note: images for own.pth are taken to be prepared as the student's",
    ]
    ours = create_model("mobilenet_v2", num_classes=len(CLASSES), width_mult=0.35, image_size=16, weights=file)
    expected = ours.eval()(Normalizer(STUDENT)(PIXELS))
    torch.testing.assert_close(found.network(Normalizer(STUDENT)(PIXELS)), expected)
    with pytest.raises(WeightsError, match=r"can't teach these images: it does not answer 4 classes"):
        load_teacher(file, (*CLASSES, "fox"), STUDENT, progress=Silent(), **arguments)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="looks like mobilenet_v2"):
        load_teacher(file, CLASSES, STUDENT, network="mobilenet_v1", width_mult=0.35, progress=Silent())


@pytest.mark.parametrize(
    ("classes", "student", "error", "said"),
    [
        (("cat", "dog", "fox"), STUDENT, WeightsError, r"teacher t does not answer fox \(1 of the images' 3 classes"),
        (("cat", "dog"), STUDENT, WeightsError, "answers 3 classes, the images have 2"),
        (CLASSES, Preprocessing(image_size=16, channels=1), ModelError, "images of 3 channels, the student of 1"),
    ],
)
def test_a_teacher_of_other_classes_or_channels_is_one_line(
    tmp_path: Path, classes: tuple[str, ...], student: Preprocessing, error: type[MobilenetsError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        load_teacher(saved(tmp_path / "t"), classes, student, network="mobilenet_v2", progress=Silent())
    assert "\n" not in str(caught.value)


def test_a_missing_teacher_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="is no run folder"):
        load_teacher(tmp_path / "empty", CLASSES, STUDENT, network="mobilenet_v2", progress=Silent())
    for name, said in (("nowhere.pth", r"nowhere\.pth"), ("n" * 300, "300 letters")):
        with pytest.raises(WeightsError, match=said):
            load_teacher(
                tmp_path / name if len(name) < 99 else name, CLASSES, STUDENT, network="mobilenet_v2", progress=Silent()
            )


def test_a_damaged_teacher_is_said(tmp_path: Path) -> None:
    weights = saved(tmp_path / "t") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"model\.safetensors is cut short"):
        load_teacher(tmp_path / "t", CLASSES, STUDENT, network="mobilenet_v2", progress=Silent())
    weights.unlink()
    with pytest.raises(RunError, match=r"is missing: is .* a finished run"):
        load_teacher(tmp_path / "t", CLASSES, STUDENT, network="mobilenet_v2", progress=Silent())


def test_finding_a_teacher_draws_no_random_number(tmp_path: Path) -> None:
    folder = saved(tmp_path / "t")
    before = torch.get_rng_state()
    load_teacher(folder, CLASSES, STUDENT, network="mobilenet_v2", progress=Silent())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_recipe_is_completed_with_a_teacher_and_refused_without() -> None:
    done = resolve_recipe(Recipe(distill_weight=0.5), has_teacher=True)
    assert (done.temperature, done.distill_weight) == (TEMPERATURE, 0.5)
    assert resolve_recipe(Recipe(), has_teacher=True).distill_weight == DISTILL_WEIGHT
    assert resolve_recipe(Recipe(), has_teacher=False) == Recipe()
    for wrong in (Recipe(temperature=2.0), Recipe(distill_weight=0.5)):
        with pytest.raises(RecipeError, match="there is no teacher; give `teacher`"):
            resolve_recipe(wrong, has_teacher=False)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("temperature", 0.0, "must be above 0"),
        ("temperature", float("nan"), "must be above 0"),
        ("distill_weight", 0.0, "above 0, at most 1"),
        ("distill_weight", 1.5, "above 0, at most 1"),
        ("distill_weight", float("nan"), "above 0, at most 1"),
    ],
)
def test_values_no_distillation_can_have_are_refused(field: str, value: float, said: str) -> None:
    with pytest.raises(RecipeError, match=f"{field} is .*{said}"):
        Recipe(**{field: value})  # type: ignore[arg-type]
