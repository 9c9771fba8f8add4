"""One thing to be measured: a file, the runtime that answers from it, the arithmetic and the threads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from mobilenets.limits import parse_json

Source = Literal["artifact", "file", "pytorch"]

RUNTIME_WORDS = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "executorch": "ExecuTorch",
    "pytorch": "PyTorch eager",
}


@dataclass(frozen=True)
class Candidate:
    """What a worker process is told to open. Plain values only, since it travels as JSON.

    Attributes:
        label: names it in every table and message.
        source: `artifact` runs through `mobilenets.runtime`; `file` opens a model file with the runtime's own defaults,
            as someone would by hand; `pytorch` builds the network with random weights.
        path: the artifact or model file; empty for `pytorch`.
        backend: a key of `RUNTIME_WORDS`.
        precision: arithmetic; empty for the runtime's own choice.
        threads: threads, and cores, it may use.
        default_threads: leave the runtime's own number of threads alone (only by hand, when it may use every core).
        peer: whether it is what the others are compared against.
        network: name and width for people.
        arguments: `create_model`'s arguments as JSON, of a `pytorch` network.
    """

    label: str
    source: Source
    path: str
    backend: str
    precision: str
    threads: int
    default_threads: bool = False
    peer: bool = False
    network: str = ""
    arguments: str = ""

    def to_json(self) -> str:
        """Return all fields as JSON; `from_json` is the way back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**parse_json(text))

    @property
    def file_bytes(self) -> int | None:
        """Bytes of the file or folder on disk, with the weights OpenVINO keeps in a neighbour; None without a file."""
        if not self.path:
            return None
        path = Path(self.path)
        files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
        if path.is_dir():
            files = list(path.iterdir())
        return sum(file.stat().st_size for file in files if file.is_file())


def label(name: str, backend: str, precision: str, threads: int) -> str:
    """Say file, runtime, arithmetic and threads: `v2.onnx, OpenVINO bf16, 2 threads`."""
    runtime = f"{RUNTIME_WORDS.get(backend, backend)} {precision}".strip()
    return ", ".join(part for part in (name, runtime, thread_words(threads)) if part)


def thread_words(threads: int) -> str:
    """Write a number of threads: `1 thread`."""
    return f"{threads} thread{'' if threads == 1 else 's'}"


def network_words(network: Mapping[str, Any]) -> str:
    """Name a network by what decides its speed: `mobilenet_v2 x0.5 224 px`."""
    width = f" x{network['width_mult']:g}" if "width_mult" in network else ""
    size = f" {network['image_size']} px" if "image_size" in network else ""
    return f"{network.get('name', '')}{width}{size}".strip()


def distinct_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Name each path by its last parts, as many as are needed to tell all of them apart."""
    longest = max((len(path.parts) for path in paths), default=0)
    for count in range(1, longest + 1):
        names = tuple("/".join(path.parts[-count:]) for path in paths)
        if len(set(names)) == len(names):
            return names
    return tuple(map(str, paths))
