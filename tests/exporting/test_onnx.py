import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from mobilenets.errors import DataError, ExportError
from mobilenets.exporting.onnx import METADATA_KEY, check_parity, digest, export_onnx
from mobilenets.models.normalizer import Normalizer
from mobilenets.models.registry import create_model
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.session import open_session, predict_function

CLASSES = tuple("0123456789")
UNUSUAL = Preprocessing(image_size=24, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def scans(preprocessing, count=16):
    """Real images as the network takes them: digits, enlarged, uint8 [B, H, W, C]."""
    size, channels = preprocessing.image_size, preprocessing.channels
    pictures = [
        Image.fromarray((scan * 15.9).astype(np.uint8)).resize((size, size)) for scan in load_digits().images[:count]
    ]
    return np.stack([np.repeat(np.asarray(picture)[..., None], channels, axis=-1) for picture in pictures])


def torch_predict(model, preprocessing):
    network = nn.Sequential(Normalizer(preprocessing), model).eval()

    @torch.inference_mode()
    def predict(images):
        return network(torch.from_numpy(images)).numpy()

    return predict


def shaken(model):
    """As training leaves a network: batch norm statistics, scales and shifts unlike those it starts with."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.7, 1.4, generator=generator)
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(0.0, 0.2, generator=generator)
    return model


def tiny(channels=3):
    """A network that exports in a moment, for what does not depend on its size."""
    layers = nn.Conv2d(channels, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1)
    return shaken(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 10)))


def exported(folder, model, preprocessing, classes=CLASSES):
    path = folder / "model.onnx"
    export_onnx(model, path, preprocessing=preprocessing, classes=classes)
    return path


@pytest.fixture(scope="module")
def v2(tmp_path_factory):
    torch.manual_seed(0)
    model = shaken(create_model("mobilenet_v2", num_classes=10, width_mult=0.35, image_size=24))
    return model, exported(tmp_path_factory.mktemp("v2"), model, UNUSUAL)


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("mobilenet_v1", {"Relu"}),
        ("mobilenet_v3_small", {"Relu", "HardSwish", "HardSigmoid"}),
        ("mobilenet_v3_large_minimalistic", {"Relu"}),
    ],
)
def test_the_file_answers_as_the_network(tmp_path, name, operators):
    torch.manual_seed(0)
    preprocessing = Preprocessing(image_size=32)
    model = shaken(create_model(name, num_classes=10, width_mult=0.5, image_size=32))
    path = exported(tmp_path, model, preprocessing)
    images = scans(preprocessing)
    parity = check_parity(torch_predict(model, preprocessing), predict_function(open_session(path)), images, 1e-4)
    assert parity.top1_agreement == 100
    assert 0 <= parity.mean_difference <= parity.max_difference < 1e-3
    found = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert operators <= set(found)
    # Batch norm is in the convolutions, one each, and the graph is plain: no shape arithmetic for the free batch.
    plain = {
        "Transpose",
        "Cast",
        "Mul",
        "Add",
        "Conv",
        "ReduceMean",
        "GlobalAveragePool",
        "Reshape",
        "Flatten",
        "Gemm",
        "Squeeze",
    }
    assert set(found) <= plain | operators
    assert found["Conv"] == sum(isinstance(module, nn.Conv2d) for module in model.modules())


def test_v2_with_other_normalisation(v2):
    model, path = v2
    predict = predict_function(open_session(path))
    check_parity(torch_predict(model, UNUSUAL), predict, scans(UNUSUAL), 1e-4)
    found = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert "Clip" in found
    assert "BatchNormalization" not in found


def test_grey_images(tmp_path):
    preprocessing = Preprocessing(image_size=16, channels=1, mean=(0.3,), std=(0.2,))
    model = tiny(channels=1)
    path = exported(tmp_path, model, preprocessing)
    check_parity(torch_predict(model, preprocessing), predict_function(open_session(path)), scans(preprocessing), 1e-4)


def test_input_and_output(v2):
    onnx.checker.check_model(v2[1], full_check=True)
    session = open_session(v2[1])
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 24, 24, 3])
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["batch", 10])


def test_what_travels_along(v2):
    metadata = open_session(v2[1]).get_modelmeta().custom_metadata_map
    assert set(metadata) == {METADATA_KEY}
    described = json.loads(metadata[METADATA_KEY])
    assert described["format"] == 1
    assert tuple(described["classes"]) == CLASSES
    assert Preprocessing.from_dict(described["preprocessing"]) == UNUSUAL
    file = onnx.load(v2[1])
    assert described["digest"] == digest(file)
    file.graph.initializer[0].raw_data = bytes(len(file.graph.initializer[0].raw_data))
    assert described["digest"] != digest(file)


def test_equal_networks_make_equal_files(tmp_path):
    model = tiny()
    assert exported(tmp_path, model, UNUSUAL).read_bytes() == exported(tmp_path / "again", model, UNUSUAL).read_bytes()


def test_the_file_holds_no_traces_of_this_machine(v2):
    content = v2[1].read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content


def test_the_model_is_left_as_it_was_and_nothing_is_printed(tmp_path, capfd, caplog):
    model = tiny()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert model.training
    with caplog.at_level(logging.DEBUG):
        exported(tmp_path, model, Preprocessing(image_size=16))
    assert model.training
    assert all(module.inplace for module in model.modules() if isinstance(module, nn.ReLU6))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


class Branching(nn.Module):
    """A network whose forward looks at its input, which symbolic tracing can't follow."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, images):
        features = self.norm(self.conv(images))
        if features.shape[2] > 1:
            features = features.mean((2, 3), keepdim=True)
        return self.linear(features.flatten(1))


def test_a_network_that_can_not_be_traced_symbolically(tmp_path):
    preprocessing = Preprocessing(image_size=8)
    model = shaken(Branching())
    path = exported(tmp_path, model, preprocessing, ("a", "b"))
    check_parity(torch_predict(model, preprocessing), predict_function(open_session(path)), scans(preprocessing), 1e-4)
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(path).graph.node}


class Unexportable(nn.Module):
    def forward(self, images):
        if images.sum() > 0:
            return images.mean((2, 3))
        return images.amax((2, 3))


def test_a_network_that_can_not_be_exported(tmp_path, capfd):
    with pytest.raises(ExportError, match="can't be written as ONNX") as caught:
        exported(tmp_path, Unexportable(), Preprocessing(image_size=8), ("a", "b", "c"))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_classes_that_do_not_fit(tmp_path):
    with pytest.raises(ExportError, match="there are 10 classes"):
        exported(tmp_path, Branching(), Preprocessing(image_size=8))


def answering(logits):
    return lambda images: np.asarray(logits, dtype=np.float32)


def test_parity_by_hand():
    images = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    parity = check_parity(answering([[1, 0], [0, 1]]), answering([[1, 0.25], [0, -0.5]]), images, tolerance=1.5)
    assert (parity.max_difference, parity.mean_difference, parity.top1_agreement) == (1.5, 0.4375, 50)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        ([[1, 0.002]], "differ .* by up to 0.002, more than 0.001"),
        ([[1, np.nan]], "no numbers"),
        ([[1, 0, 0]], "logits"),
    ],
)
def test_parity_refuses(logits, message):
    with pytest.raises(ExportError, match=message):
        check_parity(answering([[1, 0]]), answering(logits), np.zeros((1, 8, 8, 3), dtype=np.uint8))


def test_large_logits_are_compared_relative_to_their_size():
    images = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    check_parity(answering([[1000, 0]]), answering([[1000.5, 0]]), images)
    with pytest.raises(ExportError):
        check_parity(answering([[100, 0]]), answering([[100.5, 0]]), images)


def test_parity_needs_images():
    with pytest.raises(DataError, match="without images"):
        check_parity(answering([]), answering([]), np.zeros((0, 8, 8, 3), dtype=np.uint8))
