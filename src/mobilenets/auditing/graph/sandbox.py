"""A copy of someone's module that can be run without touching theirs."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import torch
from torch import nn

from mobilenets.errors import AuditError, first_line

# How PyTorch and networks of any origin fail: there is no common base.
REFUSALS = (
    RuntimeError,
    ValueError,
    AssertionError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    NameError,
    ImportError,
    OSError,
)


def evaluation_copy(module: nn.Module) -> nn.Module:
    """A deep copy on the CPU, in float32 and evaluation mode.

    A module that `torch.compile` wraps is taken out of its wrapper: compiling it for a few images would take minutes.

    Raises:
        AuditError: the module can't be copied, or is TorchScript.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise AuditError(
            f"{type(module).__name__} is TorchScript, whose graph can't be read: "
            "audit the Python module it was made from, or an ONNX export of that"
        )
    try:
        return _without_compiler(copy.deepcopy(module)).cpu().float().eval()
    except REFUSALS as error:
        raise AuditError(
            f"{type(module).__name__} can't be copied for the audit ({first_line(error)}); "
            "build it without tensors that hold gradients' history"
        ) from error


def _without_compiler(module: nn.Module) -> nn.Module:
    """The module with every `torch.compile` wrapper in it replaced by what it wraps."""
    frames = sys.modules.get("torch._dynamo.eval_frame")
    if frames is None:
        # The compiler was never loaded.
        return module
    while isinstance(module, frames.OptimizedModule):
        module = module._orig_mod
    for name, child in list(module.named_children()):
        setattr(module, name, _without_compiler(child))
    return module


@contextmanager
def quiet() -> Iterator[None]:
    """Send what the module's own code prints to stderr: stdout belongs to the audit's answer."""
    with redirect_stdout(sys.stderr):
        yield
