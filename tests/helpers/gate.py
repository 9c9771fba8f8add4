"""A file whose reader waits in another process until the test lets it go on."""

from __future__ import annotations

import os
from pathlib import Path

_PROGRAM = """
import os, time
_open = os.open
def _waiting(path, *rest, **named):
    while os.fspath(path).endswith({name!r}) and os.path.exists({gate!r}):
        time.sleep(0.01)
    return _open(path, *rest, **named)
os.open = _waiting
"""


def close_gate(folder: Path, name: str) -> tuple[Path, dict[str, str]]:
    """Have every Python process that gets this environment wait before it opens files that end in `name`.

    Args:
        folder: where to put what does it.
        name: of the files.

    Returns:
        The gate, a file to remove, and the environment.
    """
    folder.mkdir()
    gate = folder / "closed"
    gate.touch()
    (folder / "sitecustomize.py").write_text(_PROGRAM.format(name=name, gate=str(gate)))
    paths = os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", ""))).rstrip(os.pathsep)
    return gate, {**os.environ, "PYTHONPATH": paths}
