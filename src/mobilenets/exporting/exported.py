"""`Exported`: what every translator hands to the one place that describes, proves and writes files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Exported:
    """A network translated to one format, in memory.

    Attributes:
        payload: the format's own files by name: one of any name, or OpenVINO's two (`artifact.container`).
        dynamic_batch: whether they take any number of images a call, else one at a time.
    """

    payload: Mapping[str, bytes]
    dynamic_batch: bool
