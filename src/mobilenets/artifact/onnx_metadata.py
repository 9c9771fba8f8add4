"""Metadata properties of an ONNX file, read and written without the package `onnx`.

The core install has no `onnx`, and this little needs none: a protobuf message is a sequence of fields, each a tag and
a value, and a field may stand anywhere in it (protobuf encoding guide, "Message Structure"). Of ONNX's `ModelProto`
only the top level is walked; `metadata_props` is its field 14, whose entries have `key` as field 1 and `value` as
field 2 (onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

_METADATA, _KEY, _VALUE = 14, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_IR_VERSION = 1


def read_property(content: bytes, key: str) -> bytes | None:
    """Value of the metadata property `key`, or None where there is none.

    Raises:
        ValueError: `content` is no whole ONNX file.
    """
    fields = list(_fields(content))
    if not fields or fields[0][0] != _IR_VERSION:
        raise ValueError("it does not begin with a version")
    for number, _, end, value in fields:
        if number == _METADATA:
            entry = {inner: content[begin:stop] for inner, _, stop, begin in _fields(content[:end], value)}
            if entry.get(_KEY) == key.encode():
                return entry.get(_VALUE, b"")
    return None


def without_properties(content: bytes) -> bytes:
    """All of the file but its metadata properties.

    Raises:
        ValueError: `content` is no whole protobuf message.
    """
    kept = [content[start:end] for number, start, end, _ in _fields(content) if number != _METADATA]
    return b"".join(kept)


def with_property(content: bytes, key: str, value: bytes) -> bytes:
    """The file with one metadata property more."""
    entry = _field(_KEY, key.encode()) + _field(_VALUE, value)
    return content + _field(_METADATA, entry)


def _fields(content: bytes, position: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Number, start, end and start of the value of each field from `position` on."""
    while position < len(content):
        start = position
        tag, position = _read_varint(content, position)
        number, wire = tag >> 3, tag & 7
        value = position
        if wire == _VARINT:
            _, position = _read_varint(content, position)
        elif wire == _BYTES:
            length, value = _read_varint(content, position)
            position = value + length
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"byte {start} begins no field")
        if number == 0 or position > len(content):
            raise ValueError(f"the field at byte {start} is cut off")
        yield number, start, position, value


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(content) or shift > 63:
            raise ValueError(f"byte {position} should go on a number")
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
