"""What each field of an artifact's description must be, looked at before any is used: each fault names its field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mobilenets.errors import ArtifactError


@dataclass(frozen=True)
class _Kind:
    """What a field must be, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


_TEXT: Final = _Kind("text", lambda value: isinstance(value, str))
_NUMBER: Final = _Kind("a number", _is_number)
_COUNT: Final = _Kind("a whole number from 1", lambda value: type(value) is int and value >= 1)
_SWITCH: Final = _Kind("true or false", lambda value: isinstance(value, bool))
_TABLE: Final = _Kind("a table", _is_table)
_TABLE_OR_NONE: Final = _Kind("a table or null", lambda value: value is None or _is_table(value))
_TEXTS: Final = _Kind("a list of texts", _is_texts)
_SOME_TEXTS: Final = _Kind("a list of one or more texts", lambda value: _is_texts(value) and bool(value))
_TABLE_OF_TEXTS: Final = _Kind("a table of texts", lambda value: _is_table(value) and _is_texts([*value.values()]))
_TABLE_OF_NUMBERS: Final = _Kind(
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
            raise ArtifactError(f"{name} is {kind.words}, not {_short(holder[key])}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
