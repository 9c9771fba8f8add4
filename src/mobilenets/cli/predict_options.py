"""Options of `mobilenets predict`, in a form that tyro reads quickly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Optional

import tyro

from mobilenets.image_formats import MAX_PIXELS


class Files(tuple[Path, ...]):
    """Files and folders as they were given."""

    __slots__ = ()


# To check a default against `tuple[Path, ...]` or `str | None` tyro imports typeguard, and asyncio with it, which takes
# a tenth of the time one image does. A class of our own and typing's older spelling need no such help.
_Files = Annotated[
    Files,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="FILE|FOLDER",
        instance_from_str=lambda arguments: Files(map(Path, arguments)),
        is_instance=lambda value: isinstance(value, Files),
        str_from_instance=lambda value: [str(path) for path in value],
    ),
]
_Text = Optional[str]  # noqa: UP045
_Integer = Optional[int]  # noqa: UP045
_Number = Optional[float]  # noqa: UP045
_Folder = Optional[Path]  # noqa: UP045
_Format = Optional[Literal["table", "csv", "jsonl"]]  # noqa: UP045


@dataclass(frozen=True)
class PredictOptions:
    """Options of `predict`."""

    artifact: tyro.conf.Positional[Path]
    """Exported file, or OpenVINO's folder."""
    files: tyro.conf.Positional[_Files]
    """Images, folders of images and zips of images."""
    top: int = 5
    """How many classes an answer lists."""
    format: _Format = None
    """How answers are written: table by default, jsonl with --engine ray, which has no table."""
    json: bool = False
    """The same as --format jsonl: one JSON object a line. With --engine ray the summary is one, too."""
    batch_size: int = 16
    """Images the network is asked at once."""
    backend: _Text = None
    """onnxruntime, openvino, litert or executorch; without it, the file's default."""
    precision: _Text = None
    """fp32, bf16, fp16 or int8, as far as file and processor have it."""
    threads: _Integer = None
    """Threads one answer may use; without it, every core, of each worker of --engine ray one."""
    threshold: _Number = None
    """Below this probability the answer is "unknown"; without it, the file's own. 0 always answers."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can't take all memory."""
    engine: Literal["threads", "ray"] = "threads"
    """ray for very many images: Ray Data on all cores here or of a cluster, into a folder; a killed job goes on."""
    out: _Folder = None
    """With --engine ray: folder for part-00000.jsonl and on, and bad.jsonl."""
    address: _Text = None
    """With --engine ray: auto, HOST:PORT or ray://HOST:PORT of a cluster; without it, this machine."""
    workers: _Integer = None
    """With --engine ray: processes that answer; without it, one for each --threads cores."""
    part_size: int = 10_000
    """With --engine ray: images a file of answers holds; what is not in a whole one is answered anew after a kill."""
