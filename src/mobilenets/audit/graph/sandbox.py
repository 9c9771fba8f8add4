"""A copy of someone's module that can be run without touching theirs."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

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

    Raises:
        AuditError: the module can't be copied.
    """
    try:
        return copy.deepcopy(module).cpu().float().eval()
    except REFUSALS as error:
        raise AuditError(
            f"{type(module).__name__} can't be copied for the audit ({first_line(error)}); "
            "build it without tensors that hold gradients' history"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Send what the module's own code prints to stderr: stdout belongs to the audit's answer."""
    with redirect_stdout(sys.stderr):
        yield
