"""The whole way from a user's code or file to findings, on the mistakes public implementations are known for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from torchvision.ops.misc import Conv2dNormActivation, SqueezeExcitation

from mobilenets.auditing.result import Audit
from mobilenets.errors import AuditError
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.preprocessing import Preprocessing
from mobilenets.workflows.audit import audit

pytestmark = pytest.mark.slow

V2_ROWS = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]


def rules(found: Audit) -> list[str]:
    """Names of the errors, after a look that everything adds up."""
    chain, published = found.comparison.found, found.comparison.reference.chain
    parameters = sum(finding.parameters for finding in found.findings) + found.unexplained_parameters
    macs = sum(finding.macs for finding in found.findings) + found.unexplained_macs
    assert parameters == chain.parameters - published.parameters
    assert macs == chain.macs - published.macs
    return [finding.diagnostic.rule for finding in found.errors]


def kept_expansion() -> nn.Module:
    network = mobilenet_v2()
    network.features[1].conv.insert(0, Conv2dNormActivation(32, 32, kernel_size=1, activation_layer=nn.ReLU6))
    return network


def shifted_strides() -> nn.Module:
    rows = [list(row) for row in V2_ROWS]
    rows[3][3], rows[4][3] = 1, 2
    return mobilenet_v2(inverted_residual_setting=rows)


def relu_throughout() -> nn.Module:
    network = mobilenet_v2()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(module, name, nn.ReLU())
    return network


def sigmoid_gates() -> nn.Module:
    network = mobilenet_v3_large()
    for module in network.modules():
        if isinstance(module, SqueezeExcitation):
            module.scale_activation = nn.Sigmoid()
    return network


def biased() -> nn.Module:
    network = mobilenet_v2()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d):
                same = {"stride": child.stride, "padding": child.padding, "groups": child.groups, "bias": True}
                size = child.in_channels, child.out_channels, child.kernel_size
                setattr(module, name, nn.Conv2d(*size, **same))  # type: ignore[arg-type]
    return network


def no_momentum() -> nn.Module:
    network = mobilenet_v3_small()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    return network


class AlwaysDropping(nn.Module):
    """Functional dropout that never hears of `eval()`."""

    def __init__(self) -> None:
        super().__init__()
        self.network = mobilenet_v2()
        self.network.classifier = nn.Identity()
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = nn.functional.dropout(self.network(x), 0.2, training=True)
        answer: torch.Tensor = self.classifier(features)
        return answer


@pytest.mark.parametrize(
    ("build", "expected", "parameters", "macs"),
    [
        (kept_expansion, ["expansion-kept"], 3_505_960, 313.62),
        (shifted_strides, ["stride-shifted"], 3_504_872, 416.27),
        (relu_throughout, ["relu-for-relu6"], 3_504_872, 300.77),
        (sigmoid_gates, ["hard-sigmoid-variant"], 5_483_032, 216.59),
        (biased, ["bias-with-norm"], 3_521_928, 300.77),
        (no_momentum, ["norm-momentum"], 2_542_856, 56.51),
        (AlwaysDropping, ["left-in-training"], 3_504_872, 300.77),
        (lambda: mobilenet_v3_large(width_mult=0.75), ["v3-scaled-table", "head-scaled"], 3_377_576, None),
    ],
)
def test_known_mistakes(
    build: Callable[[], nn.Module], expected: list[str], parameters: int, macs: float | None
) -> None:
    found = audit(build())
    assert found.comparison.found.parameters == parameters
    assert macs in (None, round(found.comparison.found.macs / 1e6, 2))
    assert rules(found) == expected
    assert (found.unexplained_parameters, found.unexplained_macs) == (0, 0)


def test_a_shortcut_through_a_convolution_as_in_a_popular_cifar_repository() -> None:
    """1x1 convolutions with batch norm on stride-1 shortcuts, and the expansion kept: 2,296,922 parameters."""

    class Block(nn.Module):
        def __init__(self, inner: nn.Module, inputs: int, outputs: int) -> None:
            super().__init__()
            self.inner = inner
            self.side = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            total: torch.Tensor = self.inner(x) + self.side(x)
            return total

    network = mobilenet_v2(num_classes=10)
    kept = Conv2dNormActivation(32, 32, kernel_size=1, activation_layer=nn.ReLU6)
    network.features[1].conv.insert(0, kept)
    network.features[0][0].stride = (1, 1)
    network.features[2].conv[1][0].stride = (1, 1)
    for index, inputs, outputs in ((1, 32, 16), (2, 16, 24), (11, 64, 96), (17, 160, 320)):
        network.features[index] = Block(network.features[index], inputs, outputs)
    found = audit(network, image_size=32)
    assert found.comparison.found.parameters == 2_296_922
    assert found.comparison.reference.chain.parameters == 2_236_682
    assert rules(found) == ["expansion-kept", "shortcut-projected"]
    shortcut = found.errors[1]
    assert shortcut.parameters == 60_240 - 1_088
    assert len(shortcut.diagnostic.where) == 4


def test_imagenet_strides_at_32_pixels_leave_one_place() -> None:
    found = audit(mobilenet_v2(num_classes=10), image_size=32)
    assert rules(found) == ["last-map-1x1"]
    assert found.comparison.found.pooling.map_size == 1


def test_expectations_are_kept_and_a_wrong_one_is_one_line() -> None:
    network = create_model("mobilenet_v2", width_mult=0.5)
    assert rules(audit(network, expect="mobilenet_v2", width_mult=0.5)) == []
    assert rules(audit(network, expect="mobilenet_v1"))
    with pytest.raises(AuditError, match="did you mean mobilenet_v2"):
        audit(network, expect="mobilenet-v2")


def test_a_file_of_our_own(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    network = create_model("mobilenet_v3_small", num_classes=10, image_size=32)
    torch.onnx.export(network.eval(), (torch.zeros(1, 3, 32, 32),), path, verbose=False)
    found = audit(path)
    assert rules(found) == []
    assert found.front_end == "ONNX"


def test_a_network_that_is_no_mobilenet_is_one_finding() -> None:
    class Plain(nn.Sequential):
        def __init__(self) -> None:
            layers: list[nn.Module] = []
            for inputs, outputs in ((3, 64), (64, 128), (128, 256), (256, 512)):
                layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU()]
            super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))

    assert rules(audit(Plain())) == ["not-a-mobilenet"]


def test_a_run_folder_is_held_to_what_it_says_it_is(tmp_path: Path) -> None:
    network = create_model("mobilenet_v1", width_mult=0.25, num_classes=2, image_size=64)
    save_network(tmp_path, SavedNetwork(network, ("a", "b"), Preprocessing(image_size=64), {}))
    result = audit(tmp_path)
    reference = result.comparison.reference
    assert (reference.name, reference.width_mult) == ("mobilenet_v1", 0.25)
    assert result.comparison.expected_by_user
    assert not result.errors
    assert "it is expected to be what the run folder says: mobilenet_v1, width 0.25" in result.notes
    assert audit(tmp_path, expect="mobilenet_v2").comparison.reference.name == "mobilenet_v2"


def test_a_file_of_one_size_is_not_counted_at_another(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    network = create_model("mobilenet_v1", width_mult=0.25, image_size=64).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(network, (torch.zeros(1, 3, 64, 64),), str(path), dynamo=False)
    with pytest.raises(AuditError, match="takes images of 64 pixels only: leave `image_size=96` out"):
        audit(path, image_size=96)
    assert audit(path, image_size=64).unexplained_macs == 0


def test_answers_that_are_no_numbers_do_not_vary() -> None:
    network = create_model("mobilenet_v1", width_mult=0.25, image_size=64)
    torch.nn.init.constant_(network.classifier.weight, float("nan"))
    assert rules(audit(network, image_size=64)) == []


def test_shortcuts_in_v1_are_not_told_by_v2s_rule() -> None:
    class WithShortcuts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            network = create_model("mobilenet_v1", width_mult=0.25, image_size=64)
            self.stem, self.blocks, self.classifier = network.stem, network.blocks, network.classifier

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.stem(images)
            for block in self.blocks:
                answer = block(maps)
                maps = maps + answer if maps.shape == answer.shape else answer
            return self.classifier(maps.mean((2, 3)))

    (finding,) = audit(WithShortcuts(), image_size=64).errors
    assert (finding.diagnostic.rule, finding.diagnostic.expected) == (
        "shortcut-extra",
        "no shortcut: this network has none",
    )
