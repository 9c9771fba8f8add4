"""Running a command as if only the core install were there, in its child processes too."""

from __future__ import annotations

from pathlib import Path

# What the other extras bring. Neither `predict` nor `benchmark` may need any of it.
MISSING = (
    *("torch", "torchvision", "safetensors", "sklearn", "scipy", "matplotlib", "jinja2", "pydantic", "tensorboard"),
    *("onnx", "onnxscript", "flatbuffers", "tflite", "nncf", "openvino", "ai_edge_litert", "executorch"),
    *("ray", "pyarrow"),
)

_HIDE = f"""
import importlib.machinery
real = importlib.machinery.PathFinder.find_spec
def find_spec(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in {MISSING} else real(name, path, target)
importlib.machinery.PathFinder.find_spec = classmethod(find_spec)
"""


def core_only(folder: Path) -> dict[str, str]:
    """Environment in which every Python started finds none of `MISSING`; its start-up file is written to `folder`."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_HIDE)
    return {"PYTHONPATH": str(folder)}
