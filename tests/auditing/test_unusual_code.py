"""Someone's code that does what PyTorch's own does not: it is audited all the same, or the reason is one line."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.models.mobilenetv2 import MobileNetV2

from mobilenets.auditing.count import count
from mobilenets.auditing.target import load_target, module_target
from mobilenets.errors import AuditError
from mobilenets.workflows.audit import audit

pytestmark = pytest.mark.slow

SIZE = 32


def test_train_that_returns_nothing_freezes_and_is_audited() -> None:
    class Frozen(MobileNetV2):
        def train(self, mode: bool = True) -> None:  # type: ignore[override]
            super().train(mode)
            for parameter in self.features[0].parameters():
                parameter.requires_grad_(False)

    result = audit(Frozen())
    assert not result.findings
    assert count(Frozen(), (1, 3, 32, 32)).parameters == 3_504_872


@pytest.mark.parametrize("name", ["no mode", "a loop", "raises", "no eval"])
def test_train_and_eval_of_another_meaning_are_not_needed(name: str) -> None:
    class Net(MobileNetV2):
        pass

    overrides = {
        "no mode": ("train", lambda self: self),
        "a loop": ("train", lambda self, loader, epochs: None),
        "raises": ("train", lambda self, mode=True: 1 / 0),
        "no eval": ("eval", lambda self, answers: None),
    }
    setattr(Net, *overrides[name])
    target = module_target(Net(num_classes=10), SIZE)
    assert target.notes[0].startswith("its own train() or eval() fails (")
    assert "left-in-training" not in [one.diagnostic.rule for one in audit(Net(num_classes=10), image_size=64).findings]


def test_norms_held_in_evaluation_on_purpose_are_a_note() -> None:
    class EvalNorm(MobileNetV2):
        def train(self, mode: bool = True) -> EvalNorm:
            super().train(mode)
            for module in self.features[:4].modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
            return self

    result = audit(EvalNorm())
    (note,) = result.findings
    assert not result.errors
    assert (note.diagnostic.rule, len(note.diagnostic.where)) == ("norms-held", 9)


class Failing(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.error = error

    def forward(self, images: Tensor) -> Tensor:
        raise self.error


class Odd(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AttributeError("'Net' object has no attribute 'blocs'"), "no attribute 'blocs'; the fault is in its code"),
        (TypeError("bad operand"), "bad operand; the fault is in its code"),
        (ModuleNotFoundError("No module named 'apex'"), "No module named 'apex'; install it"),
        (AssertionError("Torch not compiled with CUDA enabled"), "let it run on its input's device"),
        (RecursionError("maximum recursion depth"), "calls itself without end"),
        (SystemExit(3), "SystemExit: 3; the fault is in its code"),
        (MemoryError(), "needs more memory than there is"),
        (RuntimeError("shapes cannot be multiplied"), "the other usual sizes: .*; set `image_size`"),
        (Odd(), "Odd: Odd; set `image_size`"),
    ],
)
def test_the_hint_fits_the_error(error: BaseException, message: str) -> None:
    with pytest.raises(AuditError, match=message) as caught:
        module_target(Failing(error))
    assert "\n" not in str(caught.value)


def test_a_second_input_a_missing_forward_and_endless_calls() -> None:
    class Two(nn.Module):
        def forward(self, images: Tensor, mask: Tensor) -> Tensor:
            return images * mask

    class Endless(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            answer: Tensor = self(images)
            return answer

    with pytest.raises(AuditError, match="its forward takes images and mask, not images alone; name a function"):
        module_target(Two())
    with pytest.raises(AuditError, match="name the class that has a forward"):
        module_target(nn.Module())
    with pytest.raises(AuditError, match="calls itself without end: fix it first"):
        module_target(Endless())


@pytest.mark.filterwarnings("ignore")  # both are deprecated
def test_quantized_and_scripted_modules_have_their_own_sentences() -> None:
    quantized = nn.Sequential(torch.ao.nn.quantized.Conv2d(3, 4, 3))
    with pytest.raises(AuditError, match=r"holds Conv2d of torch\.ao\): audit the float network"):
        module_target(quantized)
    with pytest.raises(AuditError, match="is TorchScript, whose graph can't be read"):
        module_target(torch.jit.trace(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)))


def _locked() -> nn.Module:
    network = mobilenet_v2()
    network.lock = threading.Lock()
    return network


def _weight_normed() -> nn.Module:
    network = mobilenet_v2()
    nn.utils.parametrizations.weight_norm(network.classifier[1])
    return network


def _on_meta() -> nn.Module:
    with torch.device("meta"):
        return mobilenet_v2()


def _parallel() -> nn.Module:
    network = mobilenet_v2()
    network.features = nn.DataParallel(network.features)  # type: ignore[assignment]
    return network


def _hooked() -> nn.Module:
    network = mobilenet_v2()
    network.register_forward_hook(lambda module, args, output: output * 1)
    network.features[3].register_forward_pre_hook(lambda module, args: None)
    return network


@pytest.mark.parametrize(
    "network",
    [
        lambda: mobilenet_v2().half(),
        lambda: mobilenet_v2().bfloat16(),
        lambda: mobilenet_v2().double(),
        lambda: torch.compile(mobilenet_v2()),
        lambda: nn.DataParallel(mobilenet_v2()),
        _parallel,
        _locked,
        _on_meta,
        _hooked,
    ],
)
def test_networks_in_other_wrappers_types_and_places_are_the_same(network: object) -> None:
    result = audit(network())  # type: ignore[operator]
    assert not result.errors
    assert result.comparison.reference.name == "mobilenet_v2"
    assert result.comparison.found.parameters == 3_504_872


def test_parametrized_weights_are_audited() -> None:
    result = audit(_weight_normed())
    assert result.comparison.reference.name == "mobilenet_v2"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path / "net.py"


LOUD = """
import logging, sys, warnings
import torch
logging.basicConfig(level=logging.DEBUG)
warnings.simplefilter("always")
warnings.warn("old")
logging.getLogger("theirs").error("hello")
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        import helper_of_the_net
        self.conv = torch.nn.Conv2d(3, 4, 3)
    def forward(self, images):
        warnings.warn("older")
        logging.getLogger("theirs").error("hello again")
        return self.conv(images).mean((2, 3))

def __getattr__(name):
    raise ValueError(name)
"""


def test_what_code_says_and_sets_stays_its_own(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file.write_text(LOUD)
    (file.parent / "helper_of_the_net.py").write_text("")
    handlers = logging.getLogger().handlers[:]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_target(f"{file}:Net")
    assert not caught
    assert logging.getLogger().handlers == handlers
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    with pytest.raises(AuditError, match=r"net\.py fails on its Nett: ValueError: Nett"):
        load_target(f"{file}:Nett")


def test_without_running_only_files_are_audited(file: Path) -> None:
    file.write_text(f"open({str(file.parent / 'ran')!r}, 'w')\n")
    with pytest.raises(
        AuditError, match=r"net\.py:Net is code, and auditing it would run it: allow it with `run=True`"
    ):
        audit(f"{file}:Net", run=False)
    with pytest.raises(AuditError, match="auditing Conv2d would run its code"):
        audit(nn.Conv2d(3, 4, 3), run=False)
    assert not (file.parent / "ran").exists()
