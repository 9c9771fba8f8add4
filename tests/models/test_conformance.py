"""PyTorch's ways of copying, tracing and converting a network, on every registered one: the outputs stay the same."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from mobilenets.models.features import MobileNetFeatures
from mobilenets.models.mobilenet_v4_blocks import LayerScale
from mobilenets.models.network import MobileNet
from mobilenets.models.registry import create_model, list_models

SIDE = 16
CLASSES = 7
Convert = Callable[[nn.Module, Tensor], Callable[[Tensor], Tensor]]

# With TensorFlow's padding, strided convolutions are modules of our own.
NETWORKS = [*((name, "symmetric") for name in list_models()), ("mobilenet_v1", "same"), ("mobilenet_v3_small", "same")]


@pytest.fixture(scope="module", params=NETWORKS, ids="-".join)
def network(request: pytest.FixtureRequest) -> MobileNet:
    """A narrow network whose batch norms have seen images, so that its outputs are neither tiny nor huge."""
    name, padding = request.param
    torch.manual_seed(0)
    model = create_model(name, num_classes=CLASSES, width_mult=0.25, image_size=SIDE, padding=padding, norm_eps=1e-5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
        if isinstance(module, LayerScale):  # float16 has few digits at the 1e-5 it starts with
            nn.init.constant_(module.gamma, 0.1)
    with torch.no_grad():
        model.train()(torch.randn(32, 3, SIDE, SIDE))
    return model.eval()


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, SIDE, SIDE)


@pytest.fixture(autouse=True)
def _unoptimized_scripts() -> Iterator[None]:
    """TorchScript's optimizer takes seconds for a network, and changes the order of sums."""
    with torch.jit.optimized_execution(False), warnings.catch_warnings():  # type: ignore[attr-defined, no-untyped-call]
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # deprecated, and still in use
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)  # sizes become constants, as they should
        yield


def _pickled(model: nn.Module, _: Tensor) -> nn.Module:
    copied = pickle.loads(pickle.dumps(model))
    assert isinstance(copied, nn.Module)
    return copied


def _saved(model: nn.Module, _: Tensor) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert isinstance(loaded, nn.Module)
    return loaded


def _traced(model: nn.Module, images: Tensor) -> nn.Module:
    traced = torch.jit.trace(model, images, check_trace=False)  # type: ignore[no-untyped-call]
    assert isinstance(traced, nn.Module)
    return traced


def _functional(model: nn.Module, _: Tensor) -> Callable[[Tensor], Tensor]:
    tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    with torch.device("meta"):
        empty = copy.deepcopy(model).to("meta")

    def call(images: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(empty, tensors, (images,))
        return output

    return call


CONVERSIONS: dict[str, Convert] = {
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "pickle": _pickled,
    "save": _saved,
    "script": lambda model, _: torch.jit.script(model),
    "trace": _traced,
    "fx": lambda model, _: torch.fx.symbolic_trace(model),
    "export": lambda model, images: torch.export.export(model, (images,)).module(),
    "functional_call": _functional,
}


@pytest.mark.slow
@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_a_converted_network_gives_the_same_outputs(network: MobileNet, images: Tensor, conversion: str) -> None:
    with torch.no_grad():
        expected = network(images)
        found = CONVERSIONS[conversion](network, images)(images)
    assert torch.equal(found, expected)


def test_vmap_over_images_gives_the_same_outputs(network: MobileNet, images: Tensor) -> None:
    with torch.no_grad():
        found = torch.vmap(lambda image: network(image[None])[0])(images)
        torch.testing.assert_close(found, network(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.3), (torch.float16, 0.1)])
def test_half_precision_gives_nearly_the_same_outputs(
    network: MobileNet, images: Tensor, dtype: torch.dtype, tolerance: float
) -> None:
    with torch.no_grad():
        expected = network(images)
        found = copy.deepcopy(network).to(dtype)(images.to(dtype))
        with torch.autocast("cpu", dtype):
            mixed = network(images)
    assert found.dtype == dtype
    for output in (found, mixed):
        assert (output.float() - expected).norm() <= tolerance * expected.norm()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small"])
@pytest.mark.parametrize("conversion", ["deepcopy", "pickle", "script", "trace", "fx", "export"])
def test_feature_maps_too(name: str, images: Tensor, conversion: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, width_mult=0.25, image_size=SIDE, features_only=True, out_indices=(0, -1)).eval()
    assert isinstance(network, MobileNetFeatures)
    with torch.no_grad():
        found = CONVERSIONS[conversion](network, images)(images)
        for one, expected in zip(found, network(images), strict=True):
            assert torch.equal(one, expected)


def test_gradients_of_single_images(images: Tensor) -> None:
    torch.manual_seed(0)
    network = create_model("mobilenet_v4_conv_small", num_classes=CLASSES, width_mult=0.25, image_size=SIDE).eval()
    tensors = {name: tensor.detach() for name, tensor in network.named_parameters()}

    def loss(given: dict[str, Tensor], image: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(network, given, (image[None],))
        return output.square().sum()

    gradients = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(tensors, images)
    for number, image in enumerate(images):
        network.zero_grad()
        network(image[None]).square().sum().backward()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(gradients[name][number], parameter.grad, rtol=1e-3, atol=1e-5)
