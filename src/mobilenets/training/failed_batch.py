"""The batch at which a loss ceased to be a number, kept for whoever wants to know why."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import torch

from mobilenets.files import write_bytes_atomically

FAILED_BATCH: Final = "failed_batch.pt"


def save_failed_batch(run: Path, content: dict[str, Any]) -> Path:
    """Write tensors and numbers to `failed_batch.pt` (`torch.load(..., weights_only=True)` reads it).

    Raises:
        RunError: it can't be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path = run / FAILED_BATCH
    write_bytes_atomically(path, buffer.getvalue())
    return path
