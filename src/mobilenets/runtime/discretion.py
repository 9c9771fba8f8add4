"""Loading OpenVINO without its telling anybody; no PyTorch here."""

from __future__ import annotations

import sys
from typing import Any


def load_openvino() -> Any:
    """Import OpenVINO and return its module.

    `import openvino` alone tells Google Analytics of it, with an identity it keeps in `~/intel`, unless one opts out.
    Where its package for that can't be imported it takes a stub of its own, and nothing is sent.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
