"""TensorFlow Lite Metadata: the label file and the normalization some files carry beside the network.

The network's file holds a second flatbuffer (identifier `M001`) in a metadata buffer, and a zip archive behind its own
end with the files the metadata names. No package publishes that schema, so the few fields needed are read
by their place in it (`metadata_schema.fbs` of tflite-support).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table

from mobilenets.errors import WeightsError
from mobilenets.tflite.model import Normalization

BUFFER = "TFLITE_METADATA"
_IDENTIFIER = b"M001"

# Fields by their place in their table.
_SUBGRAPHS = 3  # ModelMetadata
_INPUTS, _OUTPUTS = 2, 3  # SubGraphMetadata
_PROCESS_UNITS, _FILES = 4, 6  # TensorMetadata
_OPTIONS_TYPE, _OPTIONS = 0, 1  # ProcessUnit
_MEAN, _STD = 0, 1  # NormalizationOptions
_FILE_NAME, _FILE_TYPE = 0, 2  # AssociatedFile

_NORMALIZATION_OPTIONS = 1
_AXIS_LABELS = 2
_MAX_LABELS_BYTES = 10 * 2**20
"""Names of a million classes; a zip may claim any size."""


def read_metadata(
    metadata: bytes | None, file: bytes, where: str
) -> tuple[tuple[str, ...] | None, Normalization | None]:
    """Labels of the outputs and normalization of the input, each None where the file does not say.

    Args:
        metadata: the buffer named `TFLITE_METADATA`, or None.
        file: the whole file, whose end may be a zip archive.
        where: the file's name, for messages.

    Raises:
        WeightsError: the metadata names a label file that is missing or can't be read.
    """
    if metadata is None or metadata[4:8] != _IDENTIFIER:
        return None, None
    root = Table(metadata, encode.Get(packer.uoffset, metadata, 0))
    for graph in _tables(root, _SUBGRAPHS):
        labels = next((_labels(name, file, where) for name in _label_files(graph)), None)
        normalization = next((found for image in _tables(graph, _INPUTS) for found in _normalizations(image)), None)
        return labels, normalization
    return None, None


def _label_files(graph: Table) -> Iterator[str]:
    for output in _tables(graph, _OUTPUTS):
        for file in _tables(output, _FILES):
            if _byte(file, _FILE_TYPE) == _AXIS_LABELS:
                yield _text(file, _FILE_NAME)


def _labels(name: str, file: bytes, where: str) -> tuple[str, ...]:
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive, archive.open(name) as member:
            content = member.read(_MAX_LABELS_BYTES)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, OSError, EOFError) as error:
        raise WeightsError(f"{where} names a label file {name!r} it does not hold: fetch the whole file") from error
    return tuple(line.strip() for line in content.decode("utf-8").splitlines() if line.strip())


def _normalizations(image: Table) -> Iterator[Normalization]:
    for unit in _tables(image, _PROCESS_UNITS):
        place = unit.Offset(_slot(_OPTIONS))
        if place and _byte(unit, _OPTIONS_TYPE) == _NORMALIZATION_OPTIONS:
            options = Table(unit.Bytes, 0)
            unit.Union(options, place)
            yield Normalization(_floats(options, _MEAN), _floats(options, _STD))


def _slot(field: int) -> int:
    """Where a table's vtable holds the place of a field: two bytes each, after the two sizes."""
    return 4 + 2 * field


def _tables(table: Table, field: int) -> Iterator[Table]:
    place = table.Offset(_slot(field))
    if place:
        start = table.Vector(place)
        for number in range(_length(table, place)):
            yield Table(table.Bytes, table.Indirect(start + 4 * number))


def _floats(table: Table, field: int) -> tuple[float, ...]:
    place = table.Offset(_slot(field))
    if not place:
        return ()
    start = table.Vector(place)
    numbers = range(_length(table, place))
    return tuple(float(table.Get(number_types.Float32Flags, start + 4 * number)) for number in numbers)


def _length(table: Table, place: int) -> int:
    """Items of a vector; a damaged count would otherwise be walked for hours."""
    length = int(table.VectorLen(place))
    if 4 * length > len(table.Bytes):
        raise IndexError(f"a list of {length} items in {len(table.Bytes)} bytes")
    return length


def _text(table: Table, field: int) -> str:
    place = table.Offset(_slot(field))
    return bytes(table.String(place + table.Pos)).decode("utf-8") if place else ""


def _byte(table: Table, field: int) -> int:
    place = table.Offset(_slot(field))
    return int(table.Get(number_types.Int8Flags, place + table.Pos)) if place else 0
