from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mobilenets.models.registry import create_model
from mobilenets.quantization.fake_quantization import ActivationRounding, RoundedLayer, fake_quantized

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def with_statistics(name: str, **options: str) -> nn.Module:
    """A network whose batch norms are not at their start, where folding would be trivial."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=5, width_mult=0.25, image_size=16, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)  # type: ignore[arg-type]
            for tensor in (module.bias, module.running_mean):
                nn.init.uniform_(tensor, -0.5, 0.5)  # type: ignore[arg-type]
    return model.eval()


def layers(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v4_conv_small", "mobilenet_v4_hybrid_medium"],
)
def test_a_network_of_each_kind_with_nothing_rounded_answers_as_before(name: str) -> None:
    model = with_statistics(name)
    rounded = fake_quantized(model, keep_float=layers(model)).eval()
    for module in rounded.modules():  # sums and products are rounded still
        if isinstance(module, ActivationRounding):
            module.forward = lambda x: x  # type: ignore[method-assign]
    with torch.no_grad():
        torch.testing.assert_close(rounded(IMAGES), model(IMAGES), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v4_conv_small"])
def test_every_layer_is_rounded_and_8_bits_change_little(name: str) -> None:
    model = with_statistics(name, padding="same")
    rounded = fake_quantized(model)
    found = [module for module in rounded.modules() if isinstance(module, RoundedLayer)]
    assert len(found) == len(layers(model))
    assert all(module.largest == 127 for module in found)
    with torch.no_grad():
        rounded.train()(IMAGES)
        answer, expected = rounded.eval()(IMAGES), model(IMAGES)
    error = float((answer - expected).norm() / expected.norm())
    assert 0 < error < 0.1


def test_it_trains_the_networks_own_parameters_but_not_its_statistics() -> None:
    model = with_statistics("mobilenet_v3_small")
    before = copy.deepcopy(model.state_dict())
    rounded = fake_quantized(model).train()
    parameters = {id(parameter) for parameter in rounded.parameters()}
    assert parameters == {id(parameter) for parameter in model.parameters()}
    rounded(IMAGES).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    torch.optim.SGD(rounded.parameters(), lr=0.01).step()
    after = model.state_dict()
    assert not torch.equal(before["stem.conv.weight"], after["stem.conv.weight"])
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name)


def test_v2_rounds_what_is_read_once_each() -> None:
    """A block's input serves its first layer and its sum; pool and classifier read one value each."""
    model = with_statistics("mobilenet_v2")
    rounded = fake_quantized(model)
    roundings = [node for node in rounded.graph.nodes if str(node.target).startswith("rounding_")]
    sums = sum(getattr(module, "has_shortcut", False) for module in model.modules())
    convolutions = len(layers(model)) - 1
    assert len(roundings) == 1 + convolutions + sums + 1  # the image, what each of them answers, and what the pool does
    assert len({node.args[0] for node in roundings}) == len(roundings)


@pytest.mark.slow
def test_a_block_kept_in_float_has_float_filters_and_reads_floats() -> None:
    model = with_statistics("mobilenet_v2")
    rounded = fake_quantized(model, keep_float=["blocks.2", "stem.conv"])
    kept = [name for name, module in rounded.named_modules() if isinstance(module, RoundedLayer) and not module.largest]
    assert len(kept) == 4
    assert all("blocks_2_" in name or "stem" in name for name in kept)
    image = next(node for node in rounded.graph.nodes if node.op == "placeholder")
    assert [str(user.target) for user in image.users] == ["rounded_stem_conv"]


def grid(rounding: ActivationRounding, values: Tensor) -> np.ndarray:
    rounding.train()(values)
    return np.unique(rounding.eval()(torch.linspace(-20, 20, 4001)).numpy())


@given(st.floats(-10, 10), st.floats(0.01, 10), st.integers(2, 8), st.booleans())
def test_the_grid_has_a_zero_and_no_more_steps_than_bits_allow(
    low: float, width: float, bits: int, symmetric: bool
) -> None:
    rounding = ActivationRounding(bits, symmetric=symmetric)
    values = torch.linspace(low, low + width, 100)[None]  # one image
    points = grid(rounding, values)
    step = float(np.diff(points).max())
    assert 0.0 in points
    assert len(points) <= 2**bits
    # Nothing seen is cut off: it is at most half a step off wherever it lies.
    assert float((rounding(values) - values).abs().max()) <= 0.505 * step


def test_ranges_are_a_mean_over_images_and_stand_still_in_evaluation() -> None:
    rounding = ActivationRounding(8, symmetric=False).train()
    for reach in (1.0, 2.0, 6.0):
        rounding(torch.tensor([[-reach / 2, reach]]))
    assert (rounding.low.item(), rounding.high.item()) == pytest.approx((-1.5, 3.0))
    rounding.eval()(torch.tensor([[100.0]]))
    assert rounding.high.item() == pytest.approx(3.0)


def test_where_an_outlier_stands_among_the_images_decides_nothing() -> None:
    images = torch.full((64, 3), 1.0)
    images[5] = 500.0
    found = []
    for order in (images, images.flip(0)):
        rounding = ActivationRounding(8, symmetric=False).train()
        for batch in order.split(16):
            rounding(batch)
        found.append(rounding.high.item())
    assert found[0] == pytest.approx(found[1])
    assert found[0] == pytest.approx(images.mean().item(), rel=1e-4)  # not 125.75, the mean of the batches' largest


def test_gradients_pass_where_values_are_in_range() -> None:
    rounding = ActivationRounding(8, symmetric=False).train()
    rounding(torch.tensor([[-1.0, 1.0]]))
    x = torch.tensor([[-3.0, 0.3, 3.0]], requires_grad=True)
    rounding.eval()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 1.0, 0.0]]
