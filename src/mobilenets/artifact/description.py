"""An artifact's description: everything needed to run it and to check that its answers are still correct.

It is one JSON document inside the file or its folder (`artifact.container` says where). Its records refer to no
runtime. Each field's type is checked before any is used, so that an error names its field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from mobilenets.artifact.golden import GoldenPairs
from mobilenets.errors import ArtifactError, MobilenetsError, other_format
from mobilenets.formatting import one_line
from mobilenets.image_record import ImageRecord
from mobilenets.limits import parse_json
from mobilenets.preprocessing import Preprocessing


@dataclass(frozen=True)
class _FieldType:
    """What a field must be: as text for messages, and as a test."""

    text: str
    holds: Callable[[Any], bool]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


_TEXT: Final = _FieldType("text", lambda value: isinstance(value, str))
_NUMBER: Final = _FieldType("a number", _is_number)
_COUNT: Final = _FieldType("a whole number from 1", lambda value: type(value) is int and value >= 1)
_SWITCH: Final = _FieldType("true or false", lambda value: isinstance(value, bool))
_TABLE: Final = _FieldType("a table", _is_table)
_TABLE_OR_NONE: Final = _FieldType("a table or null", lambda value: value is None or _is_table(value))
_TEXTS: Final = _FieldType("a list of texts", _is_texts)
_SOME_TEXTS: Final = _FieldType("a list of one or more texts", lambda value: _is_texts(value) and bool(value))
_TABLE_OF_TEXTS: Final = _FieldType("a table of texts", lambda value: _is_table(value) and _is_texts([*value.values()]))
_TABLE_OF_NUMBERS: Final = _FieldType(
    "a table of numbers", lambda value: _is_table(value) and all(map(_is_number, value.values()))
)

_FIELDS: Final = {
    "kind": _TEXT,
    "precision": _TEXT,
    "network": _TABLE,
    "classes": _SOME_TEXTS,
    "preprocessing": _TABLE,
    "dynamic_batch": _SWITCH,
    "golden": _TABLE,
    "images": _TABLE,
    "confidence": _TABLE_OR_NONE,
    "settings": _TABLE_OR_NONE,
    "provenance": _TABLE_OF_TEXTS,
    "digest": _TEXT,
    "golden.images": _SOME_TEXTS,
    "golden.logits": _TEXT,
    "golden.tolerance": _NUMBER,
    "golden.bounds": _TABLE_OF_NUMBERS,
    "confidence.temperature": _NUMBER,
    "confidence.threshold": _NUMBER,
    "confidence.basis": _TEXT,
    "settings.backend": _TEXT,
    "settings.precision": _TEXT,
    "settings.threads": _COUNT,
}


def check_fields(description: Mapping[str, Any]) -> None:
    """Refuse a field that is no such thing as it must be; those that lack are left to whoever reads them.

    Raises:
        ArtifactError: the message names the field.
    """
    for name, kind in _FIELDS.items():
        record, _, part = name.partition(".")
        holder = description if not part else description.get(record) or {}  # a table, as was seen before its parts
        key = part or record
        if key in holder and not kind.holds(holder[key]):
            raise ArtifactError(f"{name} is {kind.text}, not {_short(holder[key])}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


FORMAT = 2
KINDS = ("onnx", "openvino", "litert", "executorch")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class Confidence:
    """Calibrated confidence: probabilities are `softmax(logits / temperature)`, below `threshold` is unknown.

    Attributes:
        temperature: above 0; found on images that were not trained on (Guo et al. 2017, arXiv 1706.04599).
        threshold: smallest probability, 0 to 1, of an answer that is given; below it the answer is "unknown".
        basis: which images both were found on, and the accuracy they give there.
    """

    temperature: float
    threshold: float
    basis: str

    def __post_init__(self) -> None:
        """Refuse values that are out of range."""
        if not (0 < self.temperature < math.inf and 0 <= self.threshold <= 1):
            raise ArtifactError(
                f"a temperature is above 0 and a threshold from 0 to 1, not {self.temperature} and {self.threshold}"
            )


@dataclass(frozen=True)
class RuntimeSettings:
    """How the file was found to run best on one machine: backend, arithmetic and threads."""

    backend: str
    precision: str
    threads: int


@dataclass(frozen=True, eq=False)
class Description:
    """What an artifact holds beside the network.

    Attributes:
        kind: the format of the file, one of `KINDS`.
        precision: what its weights and arithmetic were exported as, one of `PRECISIONS`.
        network: name and arguments of the network, as `model.json` of its run has them.
        classes: the K class names in output order.
        preprocessing: turns a picture into uint8 `[H, W, C]`; its normalisation is inside the file.
        dynamic_batch: whether the file takes any number of images a call, else one at a time.
        golden: images with the logits the file gave when it was made.
        confidence: calibration of its probabilities, None where none was made.
        settings: the fastest way to run it that was measured, None where none was.
        provenance: what wrote it from what: versions, the run's own provenance, how it was quantized.
        images: which images the network was trained on, None where that is not known or they were too many.
        digest: SHA-256 over the file and this description but for the digest itself; filled in when it is written.
    """

    kind: str
    precision: str
    network: Mapping[str, Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    dynamic_batch: bool
    golden: GoldenPairs
    confidence: Confidence | None = None
    settings: RuntimeSettings | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    images: ImageRecord | None = None
    digest: str = ""

    def __post_init__(self) -> None:
        """Refuse parts that are each valid but not of one file."""
        if self.kind not in KINDS or self.precision not in PRECISIONS:
            raise ArtifactError(
                f"an artifact is one of {', '.join(KINDS)} in {', '.join(PRECISIONS)}, not {self.kind} in "
                f"{self.precision}"
            )
        if self.golden.images.shape[1:] != self.image_shape:
            raise ArtifactError(
                f"the golden images are {list(self.golden.images.shape[1:])}, the network's {list(self.image_shape)}"
            )
        if self.golden.logits.shape[1] != len(self.classes):
            raise ArtifactError(
                f"the golden answers have {self.golden.logits.shape[1]} logits for {len(self.classes)} classes"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        size = self.preprocessing.image_size
        return size, size, self.preprocessing.channels

    def with_digest(self, digest: str) -> Self:
        """Return the same description of a payload that has this digest."""
        return replace(self, digest=digest)

    def to_json(self) -> str:
        """Return the document; `from_json` is the way back."""
        return json.dumps(
            {
                "format": FORMAT,
                "kind": self.kind,
                "precision": self.precision,
                "network": dict(self.network),
                "classes": list(self.classes),
                "preprocessing": self.preprocessing.to_dict(),
                "dynamic_batch": self.dynamic_batch,
                "confidence": None if self.confidence is None else vars(self.confidence),
                "settings": None if self.settings is None else vars(self.settings),
                "provenance": dict(self.provenance),
                **({} if self.images is None else {"images": self.images.to_dict()}),
                "digest": self.digest,
                "golden": self.golden.to_dict(),
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Self:
        """Read what `to_json` wrote.

        Args:
            text: the document.
            where: names the file in messages.

        Raises:
            ArtifactError: it is no such document, of another format, or a part is missing or impossible.
        """
        try:
            data = parse_json(text)
        except ValueError as error:
            raise ArtifactError(f"{where}: its description is damaged ({error}); export it again") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else None
            raise ArtifactError(f"{where}: its description {other_format(found, FORMAT, 'export it again')}")
        try:
            check_fields(data)
            return cls(
                kind=data["kind"],
                precision=data["precision"],
                network=dict(data["network"]),
                classes=tuple(data["classes"]),
                preprocessing=Preprocessing.from_dict(data["preprocessing"]),
                dynamic_batch=data["dynamic_batch"],
                golden=GoldenPairs.from_dict(data["golden"]),
                confidence=None if data["confidence"] is None else Confidence(**data["confidence"]),
                settings=None if data["settings"] is None else RuntimeSettings(**data["settings"]),
                provenance=data["provenance"],
                images=ImageRecord.from_dict(data["images"]) if "images" in data else None,
                digest=data["digest"],
            )
        except KeyError as error:
            raise ArtifactError(f"{where}: its description lacks {error}; export it again") from error
        except (TypeError, ValueError, AttributeError, OverflowError, MobilenetsError) as error:
            reason = one_line(str(error))
            raise ArtifactError(f"{where}: its description is damaged ({reason}); export it again") from error
