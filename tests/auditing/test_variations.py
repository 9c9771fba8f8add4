"""Kinds of faults told of other networks and of files: each one finding that says what it is."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from mutations import Beside
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small

from mobilenets.auditing.result import Audit
from mobilenets.auditing.rules.context import Finding
from mobilenets.workflows.audit import audit

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def exported(network: nn.Module, folder: Path, size: int = 96) -> Path:
    file = folder / "net.onnx"
    torch.onnx.export(network.eval(), (torch.zeros(1, 3, size, size),), str(file), dynamo=False, opset_version=17)
    return file


def closed(target: nn.Module | Path, size: int | None = None) -> Audit:
    result = audit(target, image_size=size)
    assert (result.unexplained_parameters, result.unexplained_macs) == (0, 0)
    return result


def rules(result: Audit) -> list[str]:
    return [one.diagnostic.rule for one in result.findings]


class Fused(nn.Sequential):
    """A convolution at stride 1, a depthwise one at stride 2, a projection without activation."""

    def __init__(self, entering: int, hidden: int, leaving: int) -> None:
        first, second = (nn.Conv2d(entering, hidden, 3, 1, 1, bias=False), nn.BatchNorm2d(hidden))
        down = nn.Conv2d(hidden, hidden, 3, 2, 1, groups=hidden, bias=False)
        last = nn.Conv2d(hidden, leaving, 1, bias=False)
        super().__init__(
            first, second, nn.ReLU(), down, nn.BatchNorm2d(hidden), nn.ReLU(), last, nn.BatchNorm2d(leaving)
        )


def test_a_filter_that_takes_a_fused_blocks_stride() -> None:
    network = timm.create_model("mobilenetv4_conv_small")
    network.blocks[0], network.blocks[1] = Fused(32, 32, 32), Fused(32, 96, 64)
    result = closed(network)
    extra, _ = result.errors
    assert [one.diagnostic.rule for one in result.errors] == ["layer-extra", "activation-missing"]
    assert (extra.parameters, extra.macs) == (1_408, 153_312_768)
    assert "which takes the stride" in extra.diagnostic.found


def test_a_head_of_its_own_does_not_hide_that_norms_are_folded(tmp_path: Path) -> None:
    network = mobilenet_v2()
    head = [nn.Linear(1280, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 10)]
    network.classifier = nn.Sequential(nn.Dropout(0.2), *head)
    result = closed(exported(network, tmp_path))
    assert [one.diagnostic.rule for one in result.errors] == ["layer-extra"]
    assert "norms-folded" in rules(result)


@pytest.mark.parametrize(("build", "attribute"), [(mobilenet_v2, "conv"), (mobilenet_v3_large, "block")])
@pytest.mark.parametrize("as_file", [False, True])
def test_a_projected_shortcut_where_the_input_itself_belongs(
    tmp_path: Path, build: type[nn.Module], attribute: str, as_file: bool
) -> None:
    network = build()
    block = network.get_submodule(f"features.3.{attribute}")
    side = nn.Sequential(nn.Conv2d(24, 24, 1, bias=False), nn.BatchNorm2d(24))
    network.features[3] = Beside(block, side)  # type: ignore[operator]
    (error,) = closed(exported(network, tmp_path) if as_file else network, None if as_file else 96).errors
    assert (error.diagnostic.rule, error.parameters) == ("shortcut-projected", 600 if as_file else 624)
    assert error.diagnostic.fix.startswith("add the block's input as it is")


@pytest.mark.parametrize(("build", "blocks"), [(mobilenet_v2, (15, 16, 17)), (mobilenet_v3_large, (13, 14, 15))])
def test_weights_fit_a_dilated_filter(build: type[nn.Module], blocks: tuple[int, ...]) -> None:
    network = build()
    for module in (one for index in blocks for one in network.get_submodule(f"features.{index}").modules()):
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.dilation = (2, 2)
            module.padding = tuple(2 * pixels for pixels in module.padding)  # type: ignore[arg-type]
    (error,) = closed(network, 96).errors
    assert error.diagnostic.rule == "dilation"
    assert error.diagnostic.effect.startswith("published weights load")


class Frozen(nn.Module):
    """Batch norm of buffers alone, as detectors have it."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


@pytest.mark.parametrize(
    ("build", "eps", "parameters"), [(mobilenet_v2, 1e-5, -34_112), (mobilenet_v3_large, 1e-3, -24_400)]
)
def test_a_frozen_norm_of_ones_own_is_a_note(build: type[nn.Module], eps: float, parameters: int) -> None:
    result = closed(build(norm_layer=partial(Frozen, eps=eps)), 96)
    assert result.errors == ()
    frozen: Finding = next(one for one in result.findings if one.diagnostic.rule == "norms-frozen")
    assert frozen.parameters == parameters
    assert not {"norm-eps", "norm-eps-tiny"} & set(rules(result))


@pytest.mark.parametrize("name", ["mobilenetv1_100", "mobilenetv3_large_100", "mobilenetv4_conv_small"])
def test_a_file_of_pooled_features_has_no_classes(tmp_path: Path, name: str) -> None:
    result = closed(exported(timm.create_model(name, num_classes=0), tmp_path))
    assert result.errors == ()
    assert result.comparison.found.num_classes is None
    assert "no-classifier" in rules(result)


def test_tensorflows_padding_in_a_file_of_an_odd_size(tmp_path: Path) -> None:
    result = closed(exported(timm.create_model("tf_mobilenetv3_small_100"), tmp_path, 300))
    assert result.errors == ()
    assert "same-padding" in rules(result)


class TwoHeads(nn.Module):
    """Two classifiers on the same features: the larger is audited, the other is named with what it costs."""

    def __init__(self) -> None:
        super().__init__()
        self.features = mobilenet_v3_small().features
        self.first, self.second = nn.Linear(576, 10), nn.Linear(576, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.features(x).mean((2, 3))
        return self.first(y), self.second(y)


@pytest.mark.parametrize("as_file", [False, True])
def test_a_second_head_belongs_to_a_finding(tmp_path: Path, as_file: bool) -> None:
    network = TwoHeads()
    result = closed(exported(network, tmp_path) if as_file else network, None if as_file else 96)
    second = next(one for one in result.errors if one.diagnostic.rule == "unfolded")
    assert (second.parameters, second.macs) == (576 * 3 + 3, 576 * 3)
