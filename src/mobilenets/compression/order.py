"""What `quantize` is asked for, checked before anything long begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from mobilenets.arguments import check_threads
from mobilenets.artifact.container import SUFFIXES, check_suffix
from mobilenets.compression.calibration import DEFAULT_IMAGES
from mobilenets.compression.ladders import require_quantizer
from mobilenets.errors import MobilenetsError
from mobilenets.exporting.target import check_place

KINDS = ("onnx", "litert")
RUNTIMES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Order:
    """An 8-bit file to be made; attributes as `quantize` has them."""

    out: Path
    kind: str
    max_drop: float = 1.0
    calibration_images: int = DEFAULT_IMAGES
    max_images: int | None = None
    finetune: bool = True
    tensorrt: bool = False
    runtime: str = "onnxruntime"
    threads: int | None = None
    seed: int = 0
    skip_bad: bool = False

    def check(self) -> None:
        """Refuse what can't be.

        Raises:
            RunError: `out` can't be written.
            ArtifactError: the name of `out` is of another format.
            MissingExtraError: the quantizer is not installed.
            MobilenetsError: `max_drop` is negative or no number, or the format has no such option.
        """
        if not 0 <= self.max_drop < math.inf:
            raise MobilenetsError(f"max_drop is points of top-1, 0 or more, not {self.max_drop}; 1.0 allows one point")
        if self.runtime not in RUNTIMES:
            raise MobilenetsError(f"8-bit ONNX files are written for {' or '.join(RUNTIMES)}, not {self.runtime}")
        check_threads(self.threads)
        check_suffix(self.out, self.kind)
        if self.kind != "onnx" and (self.tensorrt or self.runtime != RUNTIMES[0]):
            raise MobilenetsError(f"`tensorrt=True` and `runtime` are for .onnx files, not {self.out.name}")
        check_place(self.out, folder=False)
        require_quantizer(self.kind)


def kind_of(out: Path, to: str | None) -> str:
    """The format asked for, or the one the suffix names.

    Raises:
        MobilenetsError: there is no such format.
    """
    by_suffix = {SUFFIXES[kind]: kind for kind in KINDS}
    kind = to if to is not None else by_suffix.get(out.suffix.lower())
    if kind not in KINDS:
        wanted = f"there is no 8-bit {to}" if to else f"{out}: its suffix names no format"
        raise MobilenetsError(f"{wanted}; give {' or '.join(by_suffix)}, or `to` {' or '.join(KINDS)}")
    return kind
