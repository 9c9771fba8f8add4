"""Reading NumPy's `.npz` archives within bounds: nothing is unpickled, and no shape or size is believed.

The header of each array may claim any shape, and a small archive may unpack to any size; NumPy takes the memory for
what is claimed before it reads.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Final

from numpy.lib import format as npy
from numpy.typing import NDArray

from mobilenets.errors import first_line
from mobilenets.limits import open_regular

MAX_GROWTH: Final = 100
"""How many times its own size an archive may unpack to, beside `MAX_UNPACKED_BYTES`."""
MAX_UNPACKED_BYTES: Final = 2**30

_HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# What NumPy and `zipfile` raise on damaged archives: there is no common base.
_FAULTS: Final = (
    *(KeyError, TypeError, EOFError, RuntimeError, SyntaxError, OverflowError, MemoryError, AttributeError),
    *(ValueError, struct.error, zipfile.BadZipFile, zlib.error),
)


def read_arrays(path: str | Path, *names: str) -> dict[str, NDArray[Any]]:
    """Return arrays of an `.npz` archive by name.

    Raises:
        OSError: the file can't be read, or is no regular one.
        ValueError: it is no such archive, is damaged, lacks one of the arrays, or they are too large.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise ValueError("it is empty (0 bytes)")
        try:
            with zipfile.ZipFile(file) as archive:
                _check_sizes(archive, names, MAX_UNPACKED_BYTES + MAX_GROWTH * size)
                return {name: _read(archive, name) for name in names}
        except _FAULTS as error:
            raise ValueError(first_line(error)) from error


def _check_sizes(archive: zipfile.ZipFile, names: tuple[str, ...], most: int) -> None:
    total = sum(archive.getinfo(f"{name}.npy").file_size for name in names)
    if total > most:
        raise ValueError(f"its arrays have {total:,} bytes, more than the {most:,} allowed")


def _read(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        claimed = _claimed_bytes(file)
        if claimed != member.file_size:
            raise ValueError(f"{name} claims {claimed:,} bytes, and has {member.file_size:,}")
    with archive.open(member) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        file.read()  # its end, where its checksum is compared
    return array


def _claimed_bytes(file: IO[bytes]) -> int:
    """Bytes of an array with its header, as the header says."""
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"an array of format {version[0]}.{version[1]}, which is not known")
    shape, _, dtype = _HEADERS[version](file)
    return file.tell() + math.prod(shape) * dtype.itemsize
