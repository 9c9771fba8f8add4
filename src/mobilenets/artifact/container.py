"""Where the description is in each format, and the digest that tells whether the rest is unchanged.

| kind         | on disk                         | description                                                       |
| ------------ | ------------------------------- | ----------------------------------------------------------------- |
| `onnx`       | one `.onnx` file                | metadata property `mobilenets`                                    |
| `openvino`   | folder: `model.xml`, `model.bin`| `mobilenets.json` beside them                                     |
| `litert`     | one `.tflite` file              | a zip behind the model, as TensorFlow Lite keeps associated files |
| `executorch` | one `.pte` file                 | a zip behind the program                                          |

Every format's own tools read these files as they are.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilenets.artifact.description import Description
from mobilenets.errors import ArtifactError, RunError
from mobilenets.files import make_folder, write_bytes_atomically
from mobilenets.formatting import printable
from mobilenets.limits import MAX_JSON_BYTES, MAX_MODEL_BYTES, read_bytes
from mobilenets.run_folder import DESCRIPTION

# The core install lacks the package `onnx`, and a metadata property needs little of it: a protobuf message is a
# sequence of fields, each a tag and a value, in any order (protobuf encoding guide, "Message Structure"). Of ONNX's
# `ModelProto` only the top level is walked; `metadata_props` is its field 14, whose entries have `key` as field 1 and
# `value` as field 2 (onnx.proto).
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


PROPERTY = "mobilenets"
DOCUMENT = "mobilenets.json"
LABELS = "labels.txt"
OPENVINO_FILES = ("model.xml", "model.bin")
# What `zipfile` raises on bytes that are no zip, or a damaged one: there is no common base.
_ZIP_FAULTS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, KeyError, ValueError, OverflowError),
    *(NotImplementedError, RuntimeError, EOFError, OSError),
)
SUFFIXES = {"onnx": ".onnx", "openvino": "", "litert": ".tflite", "executorch": ".pte"}


@dataclass(frozen=True)
class Artifact:
    """A described file on disk. `path` is the file, or OpenVINO's folder."""

    path: Path
    description: Description

    @property
    def model_path(self) -> Path:
        """The file a runtime opens."""
        return self.path / OPENVINO_FILES[0] if self.description.kind == "openvino" else self.path

    @property
    def file_bytes(self) -> int:
        """Bytes on disk, description included."""
        files = self.path.iterdir() if self.path.is_dir() else (self.path,)
        return sum(file.stat().st_size for file in files if file.is_file())


def write_artifact(path: Path, payload: Mapping[str, bytes], description: Description) -> Artifact:
    """Write a payload with its description to `path`, whole or not at all.

    Args:
        path: the file, or OpenVINO's folder (made where it is missing).
        payload: the format's own files by name: one of any name, or `OPENVINO_FILES`.
        description: its `digest` is computed here.

    Returns:
        The artifact as `read_artifact` would read it.

    Raises:
        ArtifactError: the suffix is another format's, or the payload is not of the described kind.
        RunError: the file can't be written.
    """
    kind = description.kind
    check_suffix(path, kind)
    if kind == "openvino":
        return _write_folder(path, payload, description)
    if len(payload) != 1:
        raise ArtifactError(f"{kind} is one file, not {', '.join(payload)}")
    (content,) = payload.values()
    if kind == "onnx":
        content = without_properties(content)
    described = _with_digest(description, [content])
    text = described.to_json().encode()
    whole = with_property(content, PROPERTY, text) if kind == "onnx" else content + _trailer(content, described)
    write_bytes_atomically(path, whole)
    return Artifact(path, described)


def read_artifact(path: str | Path) -> Artifact:
    """Read an artifact's description and make sure the rest of it is what was written.

    Raises:
        ArtifactError: there is nothing, it is damaged, or something else than mobilenets wrote it.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    try:
        content = read_bytes(path, most=MAX_MODEL_BYTES)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file; 'mobilenets export' makes one") from error
    except OSError as error:
        raise ArtifactError(f"{path}: can't be read ({error.strerror})") from error
    if not content:
        raise ArtifactError(f"{path}: empty file (0 bytes); export it again")
    kind = next((kind for kind, suffix in SUFFIXES.items() if suffix and suffix == path.suffix.lower()), None)
    if kind is None:
        known = ", ".join(suffix for suffix in SUFFIXES.values() if suffix)
        raise ArtifactError(f"{path}: no artifact: known are {known} and OpenVINO's folders")
    text, bare = _split_onnx(content, path) if kind == "onnx" else _split_trailer(content, path)
    return _verified(path, kind, text, [bare])


def read_payload(artifact: Artifact) -> dict[str, bytes]:
    """The format's own files of an artifact by name, without its description, as `write_artifact` takes them.

    Raises:
        ArtifactError: a file is gone, or damaged.
    """
    path, kind = artifact.path, artifact.description.kind
    try:
        if kind == "openvino":
            return {name: read_bytes(path / name, most=MAX_MODEL_BYTES) for name in OPENVINO_FILES}
        content = read_bytes(path, most=MAX_MODEL_BYTES)
    except OSError as error:
        raise ArtifactError(f"{error.filename}: can't be read ({error.strerror}); export it again") from error
    split = _split_onnx if kind == "onnx" else _split_trailer
    return {path.name: split(content, path)[1]}


def check_suffix(path: Path, kind: str) -> None:
    """Refuse a name whose suffix is another format's.

    Raises:
        ArtifactError: it does, or there is no name; the message says which suffix the format has.
    """
    wanted = SUFFIXES[kind]
    if kind == "openvino":
        if path.suffix.lower() in (*filter(None, SUFFIXES.values()), ".xml", ".bin"):
            raise ArtifactError(f"{path}: OpenVINO's artifact is a folder: give a name without {path.suffix}")
    elif path.name in ("", ".."):
        raise ArtifactError(f"{path}: {kind} is one file: give a name ending in {wanted}")
    elif path.suffix.lower() != wanted:
        raise ArtifactError(f"{path}: {kind} files end in {wanted}: give {path.with_suffix(wanted).name}")


def _write_folder(path: Path, payload: Mapping[str, bytes], description: Description) -> Artifact:
    if set(payload) != set(OPENVINO_FILES):
        raise ArtifactError(f"openvino is {' and '.join(OPENVINO_FILES)}, not {', '.join(payload)}")
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: there is a file of that name; choose another")
    make_folder(path)
    described = _with_digest(description, [payload[name] for name in OPENVINO_FILES])
    for name in OPENVINO_FILES:
        write_bytes_atomically(path / name, payload[name])
    # Last: a folder without its description, or with another's digest, is refused when read.
    write_bytes_atomically(path / DOCUMENT, described.to_json().encode())
    return Artifact(path, described)


def _read_folder(path: Path) -> Artifact:
    if not os.path.lexists(path / DOCUMENT):
        raise ArtifactError(f"{path}: no artifact (no {DOCUMENT} in this folder); {_instead(path)}")
    try:
        text = read_bytes(path / DOCUMENT)
        parts = [read_bytes(path / name, most=MAX_MODEL_BYTES) for name in OPENVINO_FILES]
    except OSError as error:
        raise ArtifactError(f"{error.filename}: can't be read ({error.strerror}); export it again") from error
    return _verified(path, "openvino", text, parts)


def _instead(path: Path) -> str:
    """What to do about a folder that is no artifact: often the right file is inside, as in the one `deploy` writes."""
    if (path / DESCRIPTION).is_file():
        return "it is a run folder: export it first"
    suffixes = tuple(filter(None, SUFFIXES.values()))
    try:
        held = [p for p in sorted(path.iterdir()) if p.name.endswith(suffixes) or os.path.lexists(p / DOCUMENT)]
    except OSError as error:
        return f"what it holds can't be read ({error.strerror})"
    return f"it holds {printable(held[0].name)}: give {printable(held[0])}" if held else "export a run to make one"


def _verified(path: Path, kind: str, text: bytes, parts: list[bytes]) -> Artifact:
    description = Description.from_json(text, str(path))
    if description.kind != kind:
        raise ArtifactError(f"{path}: it says it is {description.kind}; give it its own suffix again")
    # The digest is of the text before it was filled in, so that a changed class name is noticed, too.
    if description.digest != _digest([*parts, text.replace(description.digest.encode(), b"")]):
        raise ArtifactError(f"{path}: damaged or changed since it was written (its digest differs); export it again")
    return Artifact(path, description)


def _split_onnx(content: bytes, path: Path) -> tuple[bytes, bytes]:
    try:
        text, bare = read_property(content, PROPERTY), without_properties(content)
    except ValueError as error:
        raise ArtifactError(f"{path}: no ONNX file, or a truncated one ({error}); export it again") from error
    if text is None:
        raise _foreign(path)
    return text, bare


def _split_trailer(content: bytes, path: Path) -> tuple[bytes, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as trailer:
            # Read with a bound: the size it claims is not to be trusted.
            with trailer.open(DOCUMENT) as member:
                text = member.read(MAX_JSON_BYTES + 1)
            start = min(member.header_offset for member in trailer.infolist())
    except _ZIP_FAULTS as error:
        raise _foreign(path) from error
    return text, content[:start]


def _foreign(path: Path) -> ArtifactError:
    return ArtifactError(
        f"{path}: truncated, or not written by mobilenets: it has no description inside; "
        "'mobilenets export RUN' writes one"
    )


def _trailer(content: bytes, description: Description) -> bytes:
    """A zip as it stands behind `content`: its offsets count from the file's start, as zip tools expect."""
    file = io.BytesIO()
    file.write(content)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as trailer:
        for name, text in ((DOCUMENT, description.to_json()), (LABELS, "\n".join(description.classes) + "\n")):
            # A fixed date: the same export gives the same bytes.
            trailer.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return file.getvalue()[len(content) :]


def _with_digest(description: Description, parts: list[bytes]) -> Description:
    return description.with_digest(_digest([*parts, description.with_digest("").to_json().encode()]))


def _digest(parts: list[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"
