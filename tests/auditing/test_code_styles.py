"""Networks as other authors write them: audited whole, from a module of unknown style to its findings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor, nn

from mobilenets.auditing.result import Audit
from mobilenets.errors import AuditError
from mobilenets.workflows.audit import audit

pytestmark = pytest.mark.slow

ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def unit(entering: int, leaving: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(entering, leaving, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(leaving), nn.ReLU6(inplace=True)]


class Block(nn.Module):
    def __init__(self, entering: int, leaving: int, stride: int, ratio: int) -> None:
        super().__init__()
        hidden = entering * ratio
        expand = unit(entering, hidden) if ratio != 1 else []
        self.way = nn.Sequential(*expand, *unit(hidden, hidden, 3, stride, hidden), *unit(hidden, leaving)[:2])
        self.adds = stride == 1 and entering == leaving

    def forward(self, x: Tensor) -> Tensor:
        return x + self.way(x) if self.adds else self.way(x)


class Net(nn.Module):
    """MobileNetV2, right in every layer; its answer takes the mean of the map's columns, then of its rows."""

    def __init__(
        self, rows: Sequence[Sequence[int]] = ROWS, channels: Callable[[float], int] = int, width: float = 1.0
    ) -> None:
        super().__init__()
        entering = channels(32 * width)
        body: list[nn.Module] = unit(3, entering, 3, 2)
        for ratio, leaving, repeats, stride in rows:
            for number in range(repeats):
                body.append(Block(entering, channels(leaving * width), 1 if number else stride, ratio))
                entering = channels(leaving * width)
        self.body = nn.Sequential(*body, *unit(entering, 1280))
        self.answer = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self.body(x).mean(3).mean(2))


def names(found: Audit) -> list[str]:
    assert (found.unexplained_parameters, found.unexplained_macs) == (0, 0)
    return [finding.diagnostic.rule for finding in found.errors]


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dims", [(3, 2), (2, 2)])
def test_a_mean_of_columns_then_rows_is_the_global_pool(dims: tuple[int, int], keepdim: bool) -> None:
    class Means(Net):
        def forward(self, x: Tensor) -> Tensor:
            last = 3 if keepdim and dims[0] == 2 else dims[1]
            return self.answer(self.body(x).mean(dims[0], keepdim=keepdim).mean(last, keepdim=keepdim).flatten(1))

    found = audit(Means(), image_size=96)
    assert names(found) == []
    assert found.comparison.found.pooling.kind == "global"


def test_a_bias_added_by_hand_and_log_softmax_are_no_errors() -> None:
    class ByHand(Net):
        def forward(self, x: Tensor) -> Tensor:
            features = self.body(x).flatten(2).mean(-1)
            return F.log_softmax(features @ self.answer.weight.t() + self.answer.bias, dim=1)

    found = audit(ByHand(), image_size=96)
    assert names(found) == []
    assert found.comparison.found.final == "log_softmax"


def test_a_compiled_network_is_read_without_compiling_it(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = 0

    def backend(*args: object) -> object:
        nonlocal compiled
        compiled += 1
        return args[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, while its compiler is loaded
        network = nn.Sequential(torch.compile(Net(), backend=backend))
    assert names(audit(network, image_size=96)) == []
    assert compiled == 0


def test_torchscript_is_refused_in_a_line() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still about
        script = torch.jit.trace(Net().eval(), torch.zeros(1, 3, 96, 96))
    with pytest.raises(AuditError, match=r"is TorchScript.*audit the Python module"):
        audit(script)


def test_one_block_in_two_places_is_said_to_share_its_weights() -> None:
    network = Net()
    blocks = [place for place, layer in enumerate(network.body) if isinstance(layer, Block)]
    network.body[blocks[9]] = network.body[blocks[8]]
    found = audit(network, image_size=96)
    assert names(found) == ["weights-shared"]
    # 64 -> 384 -> 64: two 1x1 convolutions, the 3x3 filter, and their batch norms.
    assert found.errors[0].parameters == -(2 * 64 * 384 + 9 * 384 + 2 * (384 + 384 + 64))


@pytest.mark.parametrize(("earlier", "later"), [(3, 4), (5, 2), (2, 5)])
def test_a_border_between_rows_in_the_wrong_place_is_a_matter_of_repeats(earlier: int, later: int) -> None:
    rows = [list(row) for row in ROWS]
    rows[3][2], rows[4][2] = earlier, later
    found = audit(Net(rows), image_size=96)
    assert names(found) == ["repeats"]
    assert found.errors[0].diagnostic.expected == (
        "4 blocks of 64 channels and 3 of 96" if earlier < 4 else "3 blocks of 96 channels and 4 of 64"
    )


def test_a_row_with_other_channels_is_no_matter_of_repeats() -> None:
    rows = [list(row) for row in ROWS]
    rows[4][1] = 160
    assert names(audit(Net(rows), image_size=96)) == ["channels"]


def test_a_shortcut_that_wrong_channels_allow_is_no_error_of_its_own() -> None:
    """At width 0.35 the stem's 11.2 channels become 8 without the 10 % rule, as many as leave the first block."""
    found = audit(Net(width=0.35, channels=lambda channels: max(8, int(channels + 4) // 8 * 8)), image_size=96)
    assert names(found) == ["rounding-ten-percent"]


def test_a_backbone_answers_with_its_last_map() -> None:
    class Backbone(Net):
        def __init__(self) -> None:
            super().__init__()
            del self.answer

        def forward(self, x: Tensor) -> Tensor:
            maps = []
            for layer in self.body:
                x = layer(x)
                maps.append(x)
            return maps[-9::4]  # type: ignore[return-value]

    found = audit(Backbone(), image_size=96)
    assert found.comparison.reference.name == "mobilenet_v2"
    assert names(found) == []


def test_logits_beside_features_are_the_answer() -> None:
    class Both(Net):
        def forward(self, x: Tensor) -> Tensor:
            features = self.body(x)
            return {"features": features, "logits": self.answer(features.mean((2, 3)))}  # type: ignore[return-value]

    assert names(audit(Both(), image_size=96)) == []


def test_a_size_at_which_one_image_has_many_answers_is_not_taken() -> None:
    class Flat(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.answer(F.avg_pool2d(self.body(x), 1).permute(0, 2, 3, 1).reshape(-1, 1280))

    with pytest.raises(AuditError, match=r"224 x 224: one image has 49 answers"):
        audit(Flat(), image_size=224)


@pytest.mark.parametrize("name", ["resnet18", "mnasnet1_0", "efficientnet_b0", "shufflenet_v2_x1_0"])
def test_another_familys_network_has_one_clear_answer(name: str) -> None:
    found = audit(getattr(torchvision.models, name)(), image_size=96)
    assert [finding.diagnostic.rule for finding in found.findings] == ["not-a-mobilenet"]
    assert (found.unexplained_parameters, found.unexplained_macs) == (0, 0)


def test_the_published_widths_tell_the_network_even_if_every_filter_is_wrong() -> None:
    found = audit(wrong_filters(torchvision.models.mobilenet_v2(num_classes=10)), image_size=64)
    assert found.comparison.reference.name == "mobilenet_v2"
    assert {finding.diagnostic.rule for finding in found.errors} == {"kernel", "dense-for-depthwise"}


def wrong_filters(network: nn.Module) -> nn.Module:
    """Every depthwise 3x3 filter made a dense 5x5."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and child.groups > 1:
                stride = child.stride[0]
                wrong = nn.Conv2d(child.in_channels, child.out_channels, 5, stride, 2, bias=False)
                setattr(module, name, wrong)
    return network
