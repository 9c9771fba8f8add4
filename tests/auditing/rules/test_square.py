"""Images, maps and filters with two sides: one finding each, with all that comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torchvision.models import mobilenet_v2, mobilenet_v3_large

from mobilenets.auditing.rules.finding import Audit
from mobilenets.workflows.audit import audit


def closed(target: nn.Module | Path, size: int | None = None) -> Audit:
    result = audit(target, image_size=size)
    assert (result.unexplained_parameters, result.unexplained_macs) == (0, 0)
    return result


@pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
@pytest.mark.parametrize(
    "name", ["mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_small_100", "mobilenetv4_conv_small"]
)
@pytest.mark.parametrize("shape", [(96, 160), (161, 95)])
def test_images_that_are_not_square_are_a_note(tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    file = tmp_path / "net.onnx"
    torch.onnx.export(timm.create_model(name).eval(), (torch.zeros(1, 3, *shape),), str(file), dynamo=False)
    result = closed(file)
    assert result.errors == ()
    assert [one.diagnostic.rule for one in result.findings].count("image-shape") == 1


@pytest.mark.parametrize(
    ("build", "block", "kernel", "sides", "parameters"),
    [
        (mobilenet_v2, 3, (1, 3), "1 by 3", -864),
        (mobilenet_v2, 3, (3, 1), "1 by 3", -864),
        (mobilenet_v2, 3, (3, 5), "3 by 5", 864),
        (mobilenet_v3_large, 5, (1, 3), "1 by 3", -2640),
    ],
)
def test_a_filter_with_two_sides_is_one_finding(
    build: type[nn.Module], block: int, kernel: tuple[int, int], sides: str, parameters: int
) -> None:
    network = build()
    for holder in network.get_submodule(f"features.{block}").modules():
        if isinstance(holder, nn.Sequential) and isinstance(conv := holder[0], nn.Conv2d) and conv.groups > 1:
            padding = kernel[0] // 2, kernel[1] // 2
            holder[0] = nn.Conv2d(
                conv.in_channels, conv.out_channels, kernel, conv.stride, padding, groups=conv.groups, bias=False
            )
    (error,) = closed(network, 96).errors
    assert (error.diagnostic.rule, error.parameters) == ("kernel", parameters)
    assert f"not square: {sides}" in error.diagnostic.found


def test_a_stride_of_one_direction_is_one_finding() -> None:
    network = mobilenet_v2()
    network.features[4].conv[1][0].stride = (1, 2)
    (error,) = closed(network, 96).errors
    assert error.diagnostic.rule == "map-shape"
    assert error.diagnostic.where[0] == "features.4.conv.1.0"


@pytest.mark.parametrize("name", ["mobilenetv4_conv_aa_medium", "mobilenetv4_conv_blur_medium"])
def test_pools_that_do_the_strides_are_no_error_at_odd_sizes(name: str) -> None:
    assert closed(timm.create_model(name), 225).errors == ()
