"""Small described files that answer sensibly: which of red, green and blue a picture has most of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mobilenets.artifact.container import Artifact, write_artifact
from mobilenets.artifact.description import Description
from mobilenets.artifact.golden import GoldenPairs
from mobilenets.preprocessing import Preprocessing

SIZE = 8
CLASSES = ("red", "green", "blue")


def colour_logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the files compute: a twentieth of each channel's mean."""
    return (images.astype(np.float64).mean(axis=(1, 2)) / 20).astype(np.float32)


def plain(colour: tuple[int, int, int], count: int = 1) -> NDArray[np.uint8]:
    """Pictures of one colour, uint8 `[count, SIZE, SIZE, 3]`."""
    return np.broadcast_to(np.array(colour, np.uint8), (count, SIZE, SIZE, 3)).copy()


def colour_onnx(batch: str | int = "batch") -> bytes:
    """The ONNX file without a description."""
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, SIZE, SIZE, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], ["logits"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, 2]), "axes"),
        numpy_helper.from_array(np.array(0.05, np.float32), "scale"),
    ]
    graph = helper.make_graph(nodes, "colours", [images], [logits], constants)
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(file.SerializeToString(deterministic=True))


def describe(kind: str = "onnx", **changes: Any) -> Description:
    """A description of such a file."""
    images = np.concatenate([plain((200, 90, 10)), plain((5, 60, 120))])
    parts: dict[str, Any] = {
        "kind": kind,
        "precision": "fp32",
        "network": {"name": "colours"},
        "classes": CLASSES,
        "preprocessing": Preprocessing(image_size=SIZE),
        "dynamic_batch": True,
        "golden": GoldenPairs(images, colour_logits(images), 1e-3),
        "provenance": {"written by": "a test"},
    }
    return Description(**{**parts, **changes})


def write_onnx(path: Path, **changes: Any) -> Artifact:
    """The described ONNX file."""
    fixed = changes.get("dynamic_batch") is False
    return write_artifact(path, {"model.onnx": colour_onnx(1 if fixed else "batch")}, describe("onnx", **changes))
