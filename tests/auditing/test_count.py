from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest
import torch
import torchinfo
import torchvision
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from mobilenets.auditing.count import NetworkCount, count
from mobilenets.errors import ModelError
from mobilenets.models.layers import InvertedResidual, SqueezeExcitation, relu6
from mobilenets.models.registry import create_model, list_models


def columns_add_up(counted: NetworkCount) -> bool:
    layers = counted.layers
    return (
        sum(layer.parameters for layer in layers) == counted.parameters
        and sum(layer.macs for layer in layers) == counted.macs
        and sum(layer.activation_bytes for layer in layers) == counted.activation_bytes
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize(("width_mult", "image_size"), [(0.35, 97), (1.0, 32)])
def test_totals_are_torchs_and_torchinfos(name: str, width_mult: float, image_size: int) -> None:
    shape = (1, 3, image_size, image_size)
    model = create_model(name, width_mult=width_mult, image_size=image_size, num_classes=10).eval()
    counted = count(model)
    assert counted.input_shape == shape
    assert columns_add_up(counted)
    with FlopCounterMode(display=False) as flops, torch.inference_mode():
        model(torch.zeros(shape))
    assert 2 * counted.macs == flops.get_total_flops()
    assert counted.parameters == torchinfo.summary(model, input_size=shape, verbose=0, device="cpu").total_params


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "vgg11_bn"])
def test_other_peoples_networks(name: str) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name).eval()
        images = torch.empty(1, 3, 96, 96)
    counted = count(model, (3, 96, 96))
    assert columns_add_up(counted)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(images)
    assert 2 * counted.macs == flops.get_total_flops()
    assert counted.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_output_shapes_are_those_of_a_real_run() -> None:
    model = create_model("mobilenet_v3_small", image_size=48, num_classes=10).eval()
    shapes: dict[str, tuple[int, ...]] = {}

    def note(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            shapes[path] = tuple(output.shape)

        return hook

    for path, module in model.named_modules():
        if not list(module.children()) or isinstance(module, SqueezeExcitation):
            module.register_forward_hook(note(path))
    with torch.inference_mode():
        model(torch.zeros(2, 3, 48, 48))
    counted = count(model, (2, 3, 48, 48))
    assert {layer.path: layer.output_shape for layer in counted.layers} == shapes


class LiveStorages(fx.Interpreter):
    """Runs a traced network on real tensors, freeing each after its last use, and keeps the largest sum it saw."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(fx.symbolic_trace(model))
        self.peak = 0

    def run_node(self, n: fx.Node) -> object:
        # Looked up before the run: the interpreter drops a value from `env` once its last reader has it.
        alive = [*self.env.values(), *(self.env[node] for node in n.all_input_nodes)]
        result = super().run_node(n)
        if n.op != "output":
            tensors = [tensor for tensor in (*alive, result) if isinstance(tensor, Tensor)]
            storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
            self.peak = max(self.peak, sum(storages.values()))
        return result


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("image_size", [32, 96])
def test_peak_memory_is_that_of_real_tensors_freed_after_their_last_use(name: str, image_size: int) -> None:
    model = create_model(name, image_size=image_size, width_mult=0.5, num_classes=10).eval()
    interpreter = LiveStorages(model)
    with torch.no_grad():
        interpreter.run(torch.zeros(1, 3, image_size, image_size))
    assert count(model).peak_activation_bytes == interpreter.peak


def test_peak_memory_by_hand() -> None:
    """A shortcut keeps its input (1) alive around the wide inside (6, in and out of a norm): 1 + 6 + 6 maps."""
    block = InvertedResidual(8, 48, 8, kernel=3, stride=1, squeeze_channels=None, norm=nn.BatchNorm2d, activation=relu6)
    counted = count(block, (1, 8, 10, 10))
    assert counted.peak_activation_bytes == (1 + 6 + 6) * 8 * 10 * 10 * 4
    assert counted.peak_layer == "expand.norm"
    # Two wide convolutions and norms, two narrow; activations and the sum work in place.
    assert counted.activation_bytes == (6 + 6 + 6 + 6 + 1 + 1) * 8 * 10 * 10 * 4


def test_no_memory_is_needed() -> None:
    with torch.device("meta"):
        model = create_model("mobilenet_v2", width_mult=4.0)
    counted = count(model, (64, 3, 4096, 4096))
    assert counted.peak_activation_bytes > 2**39
    assert counted.macs == 64 * count(model, (3, 4096, 4096)).macs


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_not_changed(training: bool) -> None:
    model = create_model("mobilenet_v3_small", image_size=32, width_mult=0.5).train(training)
    model.stem.eval()
    before = copy.deepcopy(model)
    tensors = [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())]
    count(model)
    assert [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())] == tensors
    for (name, tensor), kept in zip(model.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(tensor, kept), name
    assert [module.training for module in model.modules()] == [module.training for module in before.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_half_precision_and_doubles_are_counted_in_float32() -> None:
    model = create_model("mobilenet_v1", image_size=32, width_mult=0.25)
    counted = count(model)
    assert count(model.half()) == count(model.double()) == counted


class Odd(nn.Module):
    """A layer run twice, a shared weight, a layer never run, a parameter of its own and a functional convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.shared = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.shared.weight = self.twice.weight
        self.idle = nn.Linear(5, 6)
        self.scale = nn.Parameter(torch.ones(7))

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.twice(self.twice(x)))
        return nn.functional.conv2d(x, self.twice.weight) * self.scale.sum()


def test_odd_networks_are_counted_once_and_whole() -> None:
    counted = count(Odd(), (1, 4, 8, 8))
    layers = {layer.path: layer for layer in counted.layers}
    one_run = 4 * 4 * 9 * 64
    assert layers["twice"].calls == 2
    assert layers["twice"].macs == 2 * one_run
    assert layers["twice"].parameters == 4 * 4 * 9 + 4
    assert layers["shared"].parameters == 0
    assert layers["shared"].macs == one_run
    assert layers["idle"].calls == layers["idle"].macs == 0
    assert layers["idle"].parameters == 36
    assert layers[""].macs == 4 * 4 * 9 * 36
    assert layers[""].parameters == 7
    assert counted.parameters == 4 * 4 * 9 + 4 + 36 + 7
    assert columns_add_up(counted)


def test_transposed_convolutions_and_batched_products() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2), nn.Flatten(2), nn.Linear(81, 5, bias=False))
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(torch.zeros(2, 4, 4, 4))
    assert 2 * count(model, (2, 4, 4, 4)).macs == flops.get_total_flops()


def test_the_record_is_json() -> None:
    counted = count(create_model("mobilenet_v1", image_size=32, width_mult=0.25))
    record = json.loads(json.dumps(counted.to_dict()))
    assert record["parameters"] == counted.parameters
    assert record["layers"][0]["output_shape"] == [1, 8, 32, 32]
    assert [pair["ratio"] for pair in record["separable_pairs"]] == [pair.ratio for pair in counted.separable_pairs]


@pytest.mark.parametrize("shape", [(), (0, 3, 32, 32), (1, 3, -1, 32), (1, 3, 32.0, 32), (True, 3, 32, 32), "abc"])
def test_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="must be whole numbers above 0"):
        count(nn.Conv2d(3, 8, 3), shape)


def test_a_shape_that_does_not_fit_gives_torchs_reason() -> None:
    with pytest.raises(ModelError, match=r"^MobileNet can't take an input of 1 x 4 x 32 x 32: .*channel.*$"):
        count(create_model("mobilenet_v1", width_mult=0.25), (1, 4, 32, 32))


def test_another_network_needs_a_shape() -> None:
    with pytest.raises(ModelError, match="Conv2d does not say what images it is for"):
        count(nn.Conv2d(3, 8, 3))
