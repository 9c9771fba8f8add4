"""A comparison's folder given in place of a run: the network it recommends, and that network's exported file.

No PyTorch here, nor anything else that the core install lacks: `predict` takes such a folder too.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, Final

from mobilenets.errors import RunError
from mobilenets.formatting import one_line
from mobilenets.limits import check_seed, parse_json, read_bytes

DESCRIPTION: Final = "model.json"
"""What makes a folder a run: the network, its classes and preprocessing."""
WEIGHTS: Final = "model.safetensors"
COMPARISON: Final = "comparison.json"
ONNX_FILE: Final = "model.onnx"
_RUNS: Final = "runs"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,60}-x[0-9.e+-]{1,20}-\d{1,9}px")


def network_folder(model: str, width_mult: float, image_size: int) -> str:
    """The folder of one network's runs below `runs/`: the same whatever else it is compared with."""
    return f"{model}-x{width_mult:g}-{image_size}px"


def recommended_run(path: str | Path) -> Path | None:
    """The run folder of the network that a comparison recommends, of its first seed; None where `path` is no such.

    Raises:
        RunError: the comparison can't be read, recommends none, or its run is gone.
    """
    found = _recommended(Path(path))
    if found is None:
        return None
    folder, seed = found
    run = folder / f"seed{seed}"
    if not run.is_dir():
        raise RunError(f"{run}, which {path} recommends, is gone: run the comparison again, or name another run folder")
    return run


def recommended_file(path: str | Path) -> Path | None:
    """The exported file of the network that a comparison recommends; None where `path` is no comparison's folder.

    Raises:
        RunError: the comparison can't be read, recommends none, or the file is gone.
    """
    found = _recommended(Path(path))
    if found is None:
        return None
    file = found[0] / ONNX_FILE
    if not file.is_file():
        again = shlex.join(("mobilenets", "export", str(path), "--to", "onnx", "--out", str(file)))
        raise RunError(f"{file}, which {path} recommends, is gone; to write it again: {again}")
    return file


def _recommended(folder: Path) -> tuple[Path, int] | None:
    """Folder of the recommended network's runs, and its first seed."""
    path = folder / COMPARISON
    try:
        if not path.is_file():
            return None
    except OSError:  # a name the system refuses: said where it is read as what it is instead
        return None
    try:
        content: Any = parse_json(read_bytes(path), finite=False)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path} can't be read ({reason}): run the comparison again, or name a run folder") from error
    try:
        label, reason = content["choice"]["label"], str(content["choice"]["reason"])
        row = next((row for row in content["rows"] if row["label"] == label), None)
        if label is None or row is None:
            raise RunError(
                f"{folder} recommends no network ({one_line(reason)}): name one of the folders below {folder / _RUNS}"
            )
        name = network_folder(str(row["model"]), float(row["width_mult"]), int(row["image_size"]))
        seed = int(row["runs"][0]["seed"])
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RunError(f"{path} describes no comparison ({error!r}): run it again, or name a run folder") from error
    if not _NAME.fullmatch(name):
        shown = name if len(name) <= 60 else f"{name[:57]}..."
        raise RunError(f"{path} names a network that can't be one: {shown!r}")
    if fault := check_seed(seed):
        raise RunError(f"{path} describes no comparison ({fault}): run it again, or name a run folder")
    return folder / _RUNS / name, seed
