from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from tflite_writer import Form, write_network
from torch import nn

from mobilenets.errors import WeightsError
from mobilenets.models.network import MobileNet
from mobilenets.models.registry import create_model
from mobilenets.models.weights.fit import ImportedWeights
from mobilenets.models.weights.tflite import norm_identity, read_tflite_weights

GOOGLE = Path(__file__).resolve().parents[4] / "shared" / "data" / "google"
V1, V2, LARGE, SMALL = "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"
MINIMAL = f"{SMALL}_minimalistic"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def trained(name: str, width_mult: float = 0.35, num_classes: int = 7, size: int = 32, **options: str) -> MobileNet:
    """A network that has seen images: batch norm with statistics, scales and shifts of its own."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=num_classes, width_mult=width_mult, image_size=size, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        model.train()(torch.rand(16, 3, size, size) * 2 - 1)
    return model.eval()


def rebuilt(weights: ImportedWeights, like: MobileNet, **changes: object) -> MobileNet:
    arguments = {**like.config.to_dict(), "num_classes": weights.num_classes, **weights.options, **changes}
    model = create_model(**arguments).eval()  # type: ignore[arg-type]
    model.load_state_dict(weights.tensors(model))
    return model


def litert(path: Path, images: torch.Tensor) -> np.ndarray:
    """The file's answers to real-number images `[B, C, H, W]`, dequantized."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    entry, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    answers = []
    for image in images.permute(0, 2, 3, 1).numpy():
        given = image
        if entry["dtype"] != np.float32:
            scale, point = entry["quantization"]
            limits = np.iinfo(entry["dtype"])
            given = np.clip(np.round(image / scale) + point, limits.min, limits.max)
        interpreter.set_tensor(entry["index"], given[None].astype(entry["dtype"]))
        interpreter.invoke()
        value = interpreter.get_tensor(answer["index"])[0].astype(np.float64)
        scale, point = answer["quantization"]
        answers.append(value if answer["dtype"] == np.float32 else (value - point) * scale)
    return np.stack(answers)


def images_for(model: MobileNet, count: int = 4) -> torch.Tensor:
    size = model.config.image_size
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.slow
@pytest.mark.parametrize("form", [Form(), Form(in_pieces=True, average_pool=True), Form(fully_connected=True)], ids=str)
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize(
    ("name", "width_mult", "size"),
    [(V1, 0.25, 72), (V2, 0.35, 32), (LARGE, 0.75, 32), (SMALL, 1.0, 40), (MINIMAL, 0.5, 72)],
)
def test_a_float_file_gives_back_the_network(
    tmp_path: Path, name: str, width_mult: float, size: int, padding: str, form: Form
) -> None:
    model = trained(name, width_mult, size=size, padding=padding)
    path = tmp_path / "network.tflite"
    write_network(model, path, form)
    weights = read_tflite_weights(path)
    assert weights.options["padding"] == padding
    images = images_for(model, 2)
    with torch.inference_mode():
        expected, answer = model(images), rebuilt(weights, model)(images)
    torch.testing.assert_close(answer, expected, atol=2e-5, rtol=1e-4)
    assert np.abs(litert(path, images) - expected.numpy()).max() < 1e-4
    assert (expected[0] - expected[1]).abs().max() > 1e-3


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_the_activation_of_v1_is_the_files(tmp_path: Path, activation: str) -> None:
    model = trained(V1, 0.25, activation=activation, padding="same")
    write_network(model, tmp_path / "v1.tflite")
    assert read_tflite_weights(tmp_path / "v1.tflite").options["activation"] == activation


@pytest.mark.slow
@pytest.mark.parametrize("values", ["float16", "dynamic", "uint8", "int8"])
@pytest.mark.parametrize("name", [V1, V2, SMALL])
def test_weights_of_fewer_bits_are_those_of_the_file(tmp_path: Path, name: str, values: str) -> None:
    model = trained(name, padding="same", num_classes=1001)
    float_path, path = tmp_path / "float.tflite", tmp_path / "small.tflite"
    write_network(model, float_path)
    write_network(model, path, Form(values))
    whole, fewer = read_tflite_weights(float_path), read_tflite_weights(path)
    assert fewer.has_background
    assert fewer.num_classes == 1001
    exact, rounded = (weights.tensors(model) for weights in (whole, fewer))
    assert exact.keys() == rounded.keys()
    steps = {"float16": 2**-10, "dynamic": 1 / 127, "uint8": 1 / 255, "int8": 1 / 127}[values]
    for key, tensor in exact.items():
        if key.endswith(("conv.weight", "classifier.weight")):
            span = float(tensor.max().clamp(min=0) - tensor.min().clamp(max=0))
            assert (rounded[key] - tensor).abs().max() <= 0.51 * steps * span + 1e-6, key
    images = images_for(model)
    with torch.inference_mode():
        answer = rebuilt(fewer, model)(images).numpy()
    theirs = litert(path, images)
    # Integers of 8 bits cost a random network more than a trained one; a wrong scale or order costs it everything.
    assert np.corrcoef(answer.ravel(), theirs.ravel())[0, 1] > (0.999 if values == "float16" else 0.9)


@pytest.mark.parametrize(("values", "mean"), [("uint8", 0.5), ("int8", 0.5)])
def test_the_preprocessing_is_the_inputs_quantization(tmp_path: Path, values: str, mean: float) -> None:
    write_network(trained(V2, padding="same"), tmp_path / "v2.tflite", Form(values, softmax=True))
    weights = read_tflite_weights(tmp_path / "v2.tflite")
    assert weights.preprocessing is not None
    assert weights.preprocessing.mean[0] == pytest.approx(mean, abs=1 / 255)
    assert weights.preprocessing.std[0] == pytest.approx(0.5, abs=1e-3)
    assert (weights.preprocessing.image_size, weights.preprocessing.resize_size) == (32, 37)
    assert weights.notes == ()


def test_a_float_file_without_metadata_is_said_to_be_silent(tmp_path: Path) -> None:
    write_network(trained(V2, padding="same"), tmp_path / "v2.tflite")
    weights = read_tflite_weights(tmp_path / "v2.tflite")
    assert weights.preprocessing is not None
    assert weights.preprocessing.mean == weights.preprocessing.std == (0.5, 0.5, 0.5)
    assert weights.notes == ("It does not say how images are prepared: [-1, 1] is assumed, as in the authors' code.",)
    assert weights.classes is None
    assert not weights.has_background


def message(path: Path, model: MobileNet) -> str:
    weights = read_tflite_weights(path)
    with pytest.raises(WeightsError) as caught:
        weights.tensors(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_network_is_refused_by_the_files_names(tmp_path: Path) -> None:
    path = tmp_path / "v2.tflite"
    write_network(trained(V2), path)
    assert "of another shape (stem/weights [16, 3, 3, 3] where stem.conv has [8, 3, 3, 3]" in message(
        path, create_model(V1, width_mult=0.25)
    )
    assert "too many (" in message(path, create_model(V1, width_mult=0.5))
    assert "missing (" in message(path, create_model(LARGE, width_mult=0.35))
    assert "does not fit mobilenet_v2 at width 1" in message(path, create_model(V2))


def test_another_activation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "minimal.tflite"
    model = trained(MINIMAL)
    model.stem.activation = nn.Hardswish()
    write_network(model, path)
    assert "1 other activations (stem/weights hard_swish where stem.conv has relu)" in message(path, trained(MINIMAL))


def test_another_stride_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v2.tflite"
    model = trained(V2, size=72)
    model.stem.conv.stride = (1, 1)
    write_network(model, path)
    assert "1 other strides (stem/weights (1, 1) where stem.conv has (2, 2))" in message(path, trained(V2, size=72))


@pytest.mark.slow
def test_a_missing_shortcut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v2.tflite"
    model = trained(V2, size=72)
    model.blocks[2].has_shortcut = False
    write_network(model, path)
    said = message(path, trained(V2, size=72))
    assert "1 other shortcuts (block2/project/weights without where blocks.2.project.conv has with)" in said


def test_weights_of_large_images_fit_the_network_for_small_ones(tmp_path: Path) -> None:
    large = trained(V2, size=72, padding="same")
    write_network(large, tmp_path / "v2.tflite")
    weights = read_tflite_weights(tmp_path / "v2.tflite")
    small = create_model(V2, num_classes=7, width_mult=0.35, image_size=32)
    small.load_state_dict(weights.tensors(small))
    torch.testing.assert_close(small.classifier.weight, large.classifier.weight)


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 1e-4, 1.1e-3, 0.1, 3e-7])
def test_the_folded_batch_norm_is_an_exact_identity(eps: float) -> None:
    norm = nn.BatchNorm2d(8, eps=eps).eval()
    norm.running_var = norm_identity(norm)
    x = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(norm(x), x)
        assert torch.equal(norm(x.contiguous(memory_format=torch.channels_last)), x)


@pytest.mark.parametrize(
    ("file", "name", "width_mult", "size"),
    [("mobilenet_v1_0.25_128_quant", V1, 0.25, 128), ("mobilenet_v2_1.0_224_quant", V2, 1.0, 224)],
)
def test_googles_files(file: str, name: str, width_mult: float, size: int) -> None:
    path = GOOGLE / f"{file}.tflite"
    if not path.exists():
        pytest.skip("the shared data is not there")
    weights = read_tflite_weights(path)
    assert weights.preprocessing is not None
    assert weights.preprocessing.mean == weights.preprocessing.std == (128 / 255,) * 3
    assert weights.preprocessing.image_size == size
    assert weights.options["padding"] == "same"
    assert weights.has_background
    assert weights.classes is not None
    assert weights.classes[:2] == ("background", "tench, Tinca tinca")
    model = create_model(name, num_classes=1001, width_mult=width_mult, image_size=size, **weights.options).eval()
    model.load_state_dict(weights.tensors(model))
    pattern = torch.nn.functional.interpolate(torch.rand(4, 3, 8, 8), size=size, mode="bilinear") * 1.98 - 1
    with torch.inference_mode():
        ours = model(pattern).softmax(1).numpy()
    assert np.corrcoef(ours.ravel(), litert(path, pattern).ravel())[0, 1] > 0.9
