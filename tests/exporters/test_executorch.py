from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("executorch")

from mobilenets.artifact.container import read_artifact, write_artifact
from mobilenets.errors import ExportError, MissingExtraError, MobilenetsError
from mobilenets.exporters.executorch import to_executorch
from mobilenets.exporters.prepare import Exported
from mobilenets.exporters.subject import Subject, describe
from mobilenets.exporters.verify import check_parity, golden_pairs, network_predict
from mobilenets.install import install_line
from mobilenets.models.layers import ConvNormActivation, InvertedResidual
from mobilenets.preprocessing import Preprocessing
from mobilenets.runtime.backend import open_backend

SMALL = Preprocessing(image_size=32)


@pytest.fixture(scope="module")
def squeezing(shaken: Callable[..., nn.Module]) -> tuple[nn.Module, Exported]:
    """The one export of this file: with h-swish, a gate and a shortcut it has all that may not be XNNPACK's."""
    torch.manual_seed(0)
    stem = ConvNormActivation(3, 8, kernel=3, stride=2, activation=nn.Hardswish)
    block = InvertedResidual(
        8, 16, 8, kernel=3, stride=1, squeeze_channels=4, norm=nn.BatchNorm2d, activation=nn.Hardswish
    )
    model = shaken(nn.Sequential(stem, block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)))
    return model, to_executorch(model, SMALL)


@pytest.mark.slow
def test_the_program_answers_as_the_network_with_its_description_behind_it(
    tmp_path: Path, squeezing: tuple[nn.Module, Exported], scans: Callable[..., Any]
) -> None:
    model, exported = squeezing
    images = scans(SMALL, 5)
    predict = network_predict(model, SMALL)
    golden = golden_pairs(images[:2], predict(images[:2]), "fp32")
    description = describe(Subject(model, ("a", "b"), SMALL, {}), "executorch", "fp32", exported, golden)
    write_artifact(tmp_path / "model.pte", exported.payload, description)
    backend = open_backend(read_artifact(tmp_path / "model.pte"), threads=1)
    check_parity(predict, backend.predict, images)


@pytest.mark.slow
def test_all_is_xnnpacks_in_one_piece_but_the_pictures_type(squeezing: tuple[nn.Module, Exported]) -> None:
    from executorch.exir._serialize._program import deserialize_pte_binary

    (content,) = squeezing[1].payload.values()
    (plan,) = deserialize_pte_binary(content).program.execution_plan
    assert [delegate.id for delegate in plan.delegates] == ["XnnpackBackend"]
    assert {operator.name for operator in plan.operators} == {"dim_order_ops::_to_dim_order_copy"}
    calls = [type(instruction.instr_args).__name__ for chain in plan.chains for instruction in chain.instructions]
    assert Counter(calls) == {"DelegateCall": 1, "KernelCall": 1}


class Unexportable(nn.Module):
    def forward(self, images: Any) -> Any:
        return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))


@pytest.mark.slow
def test_a_network_that_can_not_be_exported(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportError, match="can't be written for ExecuTorch") as caught:
        to_executorch(Unexportable(), SMALL)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_no_other_precision(tiny: nn.Module) -> None:
    with pytest.raises(MobilenetsError, match="as fp32, not fp16"):
        to_executorch(tiny, SMALL, precision="fp16")


def test_without_executorch(tiny: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilenets.exporters.executorch.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=re.escape(install_line("export,executorch"))):
        to_executorch(tiny, SMALL)
