from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.fx.proxy import TraceError

from mobilenets.exporters.prepare import folded
from mobilenets.models.mobilenet_v4_blocks import LayerScale, MultiQueryAttention
from mobilenets.models.registry import list_models


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_every_network_folds_and_answers_as_before(shaken: Callable[..., nn.Module], name: str, padding: str) -> None:
    width = 0.25 if "large" not in name else 0.1
    model = shaken(name, width_mult=width, padding=padding)
    network = folded(model)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = model(images)
        torch.testing.assert_close(network(images), expected, rtol=0, atol=1e-5 * float(expected.abs().max().clamp(1)))
    left = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | LayerScale)]
    # Attention whose keys and values pass a padded filter first needs its norm.
    assert len(left) == sum(
        isinstance(module, MultiQueryAttention) and len(module.key) > 1 for module in model.modules()
    )


def test_the_network_is_left_as_it_was(shaken: Callable[..., nn.Module]) -> None:
    model = shaken("mobilenet_v4_hybrid_medium", width_mult=0.1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class TwoReaders(nn.Module):
    """A convolution whose output is also read before its norm: nothing may be folded into it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.conv(images)
        return x + self.norm(x)


class CalledTwice(nn.Module):
    """One convolution called twice, once without the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(self.conv(images)))


class NormAhead(nn.Module):
    """A norm ahead of a 1x1 convolution; padded, its shift would be lost at the border."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1, padding=padding)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(images))


@pytest.mark.parametrize(
    ("model", "norms"),
    [
        (TwoReaders(), 1),
        (CalledTwice(), 1),
        (NormAhead(0), 0),
        (NormAhead(1), 1),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)), 0),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), 1),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), 1),
    ],
)
def test_only_what_is_exact_is_folded(model: nn.Module, norms: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    network, images = folded(model), torch.randn(2, 3, 6, 6, generator=generator)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), model.eval()(images))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == norms


def test_a_way_that_depends_on_the_input_can_not_be_traced() -> None:
    class Branching(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    with pytest.raises(TraceError):
        folded(Branching())
