"""The exceptions `mobilenets` raises on purpose, one tree.

    MobilenetsError               everything below; the command line prints it as one line
    ├── ModelError                unknown network, keyword, width or size
    ├── DataError                 a data set that can't be used as it is
    │   └── BadImagesError        images that can't be read, each with its reason
    ├── WeightsError              a weight file that can't be read, or is of another network
    ├── AuditError                a target that can't be audited
    ├── RecipeError               an unknown recipe, field or value
    ├── RunError                  a run or report folder that is missing, damaged or of another experiment
    ├── ArtifactError             an exported file that is missing, damaged or foreign, or answers differently
    ├── BackendError              a runtime that can't run this file, or not in this way
    ├── ExportError               an exported file whose answers differ from the network's
    ├── QuantizationError         no 8-bit network keeps the accuracy asked for
    ├── DeviceError               a device that is not there
    ├── ClusterError              a cluster that can't be reached, or whose workers can't go on
    ├── MissingExtraError         a feature whose optional dependencies are not installed
    └── TrainingError             training that can't go on
        ├── NonFiniteLossError        a loss that is not a number
        └── TrainingInterruptedError  stopped on request; the run can be resumed

A message says what is wrong, where, and what to do about it. `exit_code` is what the command line returns.

A message names what it advises as a function's argument in backticks, `skip_bad=True`; the command line turns it into
its option, `--skip-bad`, by `in_command`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from mobilenets.formatting import one_line, plural, printable

Worded = TypeVar("Worded", bound="MobilenetsError")

_ARGUMENT: Final = re.compile(r"`([a-z][a-z0-9_]*)(?:=([\w.,]+))?`")


def in_command(message: str) -> str:
    """Name the arguments in a message as options of the command: `` `skip_bad=True` `` becomes `--skip-bad`."""

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        return f"--{name.replace('_', '-')}" + (f" {value}" if value and value != "True" else "")

    return _ARGUMENT.sub(option, message)


def first_line(error: BaseException) -> str:
    """The first line of another library's message that is not empty, or the error's class where all are."""
    try:
        lines = [line.strip() for line in str(error).splitlines()]
    except Exception:  # noqa: BLE001  # another library's `__str__` may raise anything
        lines = []
    return next(filter(None, lines), type(error).__name__)


def other_format(found: object, known: int, otherwise: str) -> str:
    """The end of a message about a file of ours in another format: that this version is too old, or what else to do."""
    if type(found) is int and known < found < 10**9:
        return f"is of format {found}, and this version of mobilenets knows up to {known}: update mobilenets"
    shown = one_line(str(found))
    return f"is of format {shown if len(shown) <= 40 else shown[:37] + '...'}, not {known}; {otherwise}"


class MobilenetsError(Exception):
    """Base of all errors of this package.

    Attributes:
        exit_code: what the command line returns.
        told: whether another process of the same training prints it already.

    Errors go from process to process (teams, pools of workers, Ray), so each of them pickles and copies with all it
    carries, whatever arguments its own `__init__` takes.
    """

    exit_code = 2
    told = False

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """How to restore it: not by `__init__`, which Python would call with the message as its only argument."""
        return _restored, (type(self), self.args, {**_slots(self), **self.__dict__})


def _restored(kind: type[MobilenetsError], args: tuple[Any, ...], carried: Mapping[str, Any]) -> MobilenetsError:
    error = kind.__new__(kind)
    error.args = args
    for name, value in carried.items():
        setattr(error, name, value)
    return error


def reworded(error: Worded, message: str) -> Worded:
    """The same error, with all it carries, in other words."""
    anew = copy.copy(error)
    anew.args = (message,)
    return anew


def _slots(error: MobilenetsError) -> dict[str, Any]:
    """What Python's own import errors keep outside of the instance's dictionary."""
    return {name: getattr(error, name) for name in ("msg", "name", "path") if isinstance(error, ImportError)}


class ModelError(MobilenetsError, ValueError):
    """A network that does not exist or can't be built with these arguments."""


class WeightsError(MobilenetsError):
    """A weight file that is missing, damaged, or of another network; the message names the tensors that don't fit."""


class AuditError(MobilenetsError):
    """A target that can't be audited: not found, not loadable, or no image classifier."""


class DataError(MobilenetsError):
    """A data set that can't be used; the message names the folder or file."""


@dataclass(frozen=True)
class BadImage:
    """One image that can't be read: its name (path, or member of a zip) and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        """One line for people: a name that could steer a terminal is quoted."""
        return f"{printable(self.name)}: {one_line(self.reason)}"


class BadImagesError(DataError):
    """Images that can't be read; `bad` lists all of them, the message the first few, `rest` those it leaves out."""

    SHOWN = 5

    def __init__(
        self, bad: Sequence[BadImage], advice: str = "fix, remove, or leave them out with `skip_bad=True`"
    ) -> None:
        self.bad = tuple(bad)
        listed = "; ".join(map(str, self.bad[: self.SHOWN]))
        more = f"; and {len(self.rest)} more" if self.rest else ""
        super().__init__(
            f"{plural(len(self.bad), 'image')} can't be read: {listed}{more}. {advice[:1].upper()}{advice[1:]}"
        )

    @property
    def rest(self) -> tuple[BadImage, ...]:
        """The images that the message leaves out."""
        return self.bad[self.SHOWN :]


class RecipeError(MobilenetsError, ValueError):
    """A recipe that does not exist, or a field or value it can't have."""


class RunError(MobilenetsError):
    """A run or report folder that is missing, damaged, or belongs to another experiment."""


class ExportError(MobilenetsError):
    """An exported file whose answers differ from the network's."""

    exit_code = 1


class ArtifactError(MobilenetsError):
    """An exported file that is missing, damaged, not written by mobilenets, or whose golden pairs no longer hold."""


class BackendError(MobilenetsError):
    """A runtime that can't run this file or not in this way; the message lists what can."""


class QuantizationError(MobilenetsError):
    """No 8-bit network within the drop allowed; the message says how near the best came."""

    exit_code = 1


class DeviceError(MobilenetsError):
    """A device asked for that is not there; the message lists those that are."""


class ClusterError(MobilenetsError):
    """A cluster that can't be reached or has too little, or workers of it that can't go on."""


class MissingExtraError(MobilenetsError, ImportError):
    """A feature whose optional dependencies are not installed; the message names the extra."""


class TrainingError(MobilenetsError):
    """Training that can't go on."""

    exit_code = 1


class NonFiniteLossError(TrainingError):
    """The loss became infinite or not a number; the message names the step."""


class TrainingInterruptedError(TrainingError):
    """Training was stopped on request and its state saved; the message says how to resume.

    The exit code is the one shells give a process that the `signal` ended: 130 for Ctrl-C, 143 for SIGTERM.
    """

    exit_code = 130

    def __init__(self, message: str, *, signal: int = 0) -> None:
        super().__init__(message)
        self.signal = signal
        if signal:
            self.exit_code = 128 + signal
