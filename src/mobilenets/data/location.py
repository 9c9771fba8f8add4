"""Keeping what is written apart from the images it is made from."""

from __future__ import annotations

from pathlib import Path

from mobilenets.errors import RunError


def outside(data: object, out: Path) -> Path:
    """Return `out`, unless it lies within the image folder `data`: read again, its pictures would be taken for data.

    `data` is what `load_dataset` takes; only a path can be a folder.

    Raises:
        RunError: it does.
    """
    folder = Path(data) if isinstance(data, str | Path) else None
    if folder is not None and folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        raise RunError(f"{out} lies within the images in {folder}; choose a folder outside of them with `out`")
    return out
