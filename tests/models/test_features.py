from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import FeaturePyramidNetwork

from mobilenets.errors import ModelError
from mobilenets.models.features import MobileNetFeatures
from mobilenets.models.registry import create_model, list_models
from mobilenets.models.saved import SavedNetwork, save_network
from mobilenets.preprocessing import Preprocessing

TIMM_NAMES = {
    "mobilenet_v1": "mobilenetv1_100",
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "mobilenet_v3_large_minimalistic": "tf_mobilenetv3_large_minimal_100",
    "mobilenet_v3_small_minimalistic": "tf_mobilenetv3_small_minimal_100",
    "mobilenet_v4_conv_small": "mobilenetv4_conv_small",
    "mobilenet_v4_conv_medium": "mobilenetv4_conv_medium",
    "mobilenet_v4_conv_large": "mobilenetv4_conv_large",
    "mobilenet_v4_hybrid_medium": "mobilenetv4_hybrid_medium",
    "mobilenet_v4_hybrid_large": "mobilenetv4_hybrid_large",
}
SIDE = 96


def backbone(name: str, **arguments: Any) -> MobileNetFeatures:
    torch.manual_seed(0)
    network = create_model(name, **{"width_mult": 0.25, "image_size": SIDE, **arguments}, features_only=True)
    assert isinstance(network, MobileNetFeatures)
    return network


@pytest.mark.parametrize("name", list_models())
def test_the_maps_are_those_of_timm(name: str) -> None:
    with torch.device("meta"):
        ours = create_model(name)
        theirs: Any = timm.create_model(TIMM_NAMES[name])
        maps = create_model(name, features_only=True).feature_info
        their_maps: Any = timm.create_model(TIMM_NAMES[name], features_only=True).feature_info
    assert maps.channels() == their_maps.channels()
    assert maps.reduction() == their_maps.reduction() == [2, 4, 8, 16, 32]
    assert (ours.num_classes, ours.num_features) == (theirs.num_classes, theirs.num_features)
    assert ours.head_hidden_size == theirs.head_hidden_size
    assert ours.feature_info == maps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width_mult", "options", "timm_name"),
    [
        ("mobilenet_v1", 1.0, {"activation": "relu6"}, "mobilenetv1_100"),
        ("mobilenet_v2", 0.35, {}, "mobilenetv2_035"),
        ("mobilenet_v3_small", 0.75, {"norm_eps": 1e-5}, "mobilenetv3_small_075"),
        ("mobilenet_v4_conv_small", 0.5, {"norm_eps": 1e-5}, "mobilenetv4_conv_small_050"),
    ],
)
def test_the_maps_have_the_values_of_timms(
    name: str, width_mult: float, options: dict[str, Any], timm_name: str
) -> None:
    theirs = timm.create_model(timm_name, features_only=True).eval()
    ours = backbone(name, width_mult=width_mult, **options).eval()
    given, wanted = theirs.state_dict(), ours.state_dict()
    assert [tensor.shape for tensor in given.values()] == [tensor.shape for tensor in wanted.values()]
    ours.load_state_dict(dict(zip(wanted, given.values(), strict=True)))
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        for mine, expected in zip(ours(images), theirs(images), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize(
    ("planned", "side", "reductions"), [(224, 80, [2, 4, 8, 16, 32]), (32, 32, [1, 2, 4, 8]), (8, 9, [1, 2])]
)
def test_the_info_says_what_the_maps_are(name: str, planned: int, side: int, reductions: list[int]) -> None:
    network = backbone(name, image_size=planned, in_channels=1).eval()
    with torch.inference_mode():
        maps = network(torch.randn(1, 1, side, side))
    assert network.feature_info.reduction() == reductions
    assert [one.shape[1] for one in maps] == network.feature_info.channels()
    assert [tuple(one.shape[2:]) for one in maps] == [(-(-side // step),) * 2 for step in reductions]


@pytest.mark.parametrize("name", list_models())
def test_the_maps_are_the_outputs_of_the_named_modules(name: str) -> None:
    torch.manual_seed(0)
    whole = create_model(name, width_mult=0.25, image_size=SIDE).eval()
    network = backbone(name).eval()
    missing, _ = network.load_state_dict(whole.state_dict(), strict=False)
    assert not missing
    seen: dict[str, Tensor] = {}
    for module in network.feature_info.module_name():
        whole.get_submodule(module).register_forward_hook(
            lambda _, __, output, module=module: seen.update({module: output.clone()})
        )
    images = torch.randn(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        whole(images)
        for module, found in zip(network.feature_info.module_name(), network(images), strict=True):
            assert torch.equal(found, seen[module])


def test_only_the_selected_maps_are_computed() -> None:
    whole, part = backbone("mobilenet_v3_large"), backbone("mobilenet_v3_large", out_indices=(-2, 1))
    assert part.feature_info.maps == (whole.feature_info[1], whole.feature_info[3])
    assert part.feature_info.get_dicts()[0] == {"channels": 8, "reduction": 4, "module": "blocks.2"}
    assert part.head is None
    assert len(part.blocks) == 12
    images = torch.randn(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        maps = whole.eval()(images)
        for found, expected in zip(part.eval()(images), (maps[1], maps[3]), strict=True):
            assert torch.equal(found, expected)
    first = backbone("mobilenet_v3_small", out_indices=[0])
    assert (len(first.blocks), first.feature_info.module_name()) == (0, ["stem"])


@pytest.mark.parametrize("wrong", [(5,), (-6,), (), (0, 0), (0, -5), (1.5,), "04", 3])
def test_indices_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(ModelError, match=r"distinct whole numbers from -5 to 4, .* \(strides 2, 4, 8, 16, 32\)"):
        backbone("mobilenet_v2", out_indices=wrong)


def test_indices_are_for_features() -> None:
    with pytest.raises(ModelError, match="give features_only=True"):
        create_model("mobilenet_v2", out_indices=(1,))  # type: ignore[call-overload]


def test_trained_weights_are_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = create_model("mobilenet_v2", num_classes=3, width_mult=0.25, image_size=SIDE)
    save_network(tmp_path, SavedNetwork(whole, ("a", "b", "c"), Preprocessing(image_size=SIDE), {}))
    network = backbone("mobilenet_v2", weights=tmp_path)
    tensors = whole.state_dict()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in network.state_dict().items())
    assert not caplog.messages


@pytest.mark.parametrize("name", list_models())
def test_a_feature_pyramid_trains_on_it(name: str) -> None:
    network = backbone(name, out_indices=(1, 2, 3, 4))
    pyramid = FeaturePyramidNetwork(network.feature_info.channels(), out_channels=8)
    maps = network(torch.randn(2, 3, SIDE, SIDE))
    levels = pyramid(OrderedDict((str(step), one) for step, one in zip((4, 8, 16, 32), maps, strict=True)))
    assert {key: tuple(level.shape) for key, level in levels.items()} == {
        str(step): (2, 8, SIDE // step, SIDE // step) for step in (4, 8, 16, 32)
    }
    torch.stack([level.square().mean() for level in levels.values()]).sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in network.parameters())


class NamedMaps(nn.Module):
    """What torchvision's detectors take: maps in an ordered dictionary."""

    def __init__(self, network: MobileNetFeatures) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return OrderedDict((str(number), one) for number, one in enumerate(self.network(images)))


@pytest.mark.parametrize(
    "name",
    ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v4_conv_small", "mobilenet_v4_hybrid_medium"],
)
def test_an_ssdlite_detector_trains_on_it(name: str) -> None:
    network = backbone(name, out_indices=(-2, -1))
    anchors = DefaultBoxGenerator([[2, 3], [2, 3]], min_ratio=0.2, max_ratio=0.95)
    head = SSDLiteHead(network.feature_info.channels(), anchors.num_anchors_per_location(), 4, nn.BatchNorm2d)
    detector = SSD(NamedMaps(network), anchors, (SIDE, SIDE), 4, head=head)
    images = list(torch.rand(2, 3, SIDE, SIDE))
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 60.0, 70.0]]), "labels": torch.tensor([label])} for label in (1, 3)]
    losses = detector(images, targets)
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    with torch.inference_mode():
        found = detector.eval()(images)
    assert {"boxes", "scores", "labels"} <= found[0].keys()
