"""How large, how deep and of what kind a file from outside may be: checked before anything is parsed or allocated.

Files come from anywhere: a link to a pipe is waited for without end, a few kilobytes of brackets or of a zip's
directory take gigabytes once they are parsed. What is out of bounds is refused here, as the `OSError` or `ValueError`
that readers turn into a line of their own anyway: no reader needs another case.

| content          | bounds                                                                              |
| ---------------- | ----------------------------------------------------------------------------------- |
| any file         | regular (no pipe, socket or device, nor a link to one), at most `most` bytes        |
| JSON             | `MAX_DEPTH` levels, integers within 64 bits, finite numbers, text that is UTF-8     |
| TOML             | levels and integers likewise, keys of at most `MAX_DEPTH` parts                     |
| `.npz`           | nothing is unpickled; sizes as stated, and `MAX_GROWTH` times the file's own         |
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final

from mobilenets.errors import first_line

if TYPE_CHECKING:  # reading JSON, as every command does when it starts, needs no NumPy
    from numpy.typing import NDArray

MAX_JSON_BYTES: Final = 64 * 2**20
"""Of one JSON document or file of such lines: the largest we write, an index of 100,000 shards, has 20 MB."""
MAX_TOML_BYTES: Final = 64 * 2**10
MAX_LIST_BYTES: Final = 256 * 2**20
"""Of a list of images' names, for millions of them."""
MAX_MODEL_BYTES: Final = 4 * 2**30
"""Of a file of weights or an exported network: ten times the largest network here."""
MAX_DEPTH: Final = 64
"""Levels of lists, tables or folders within each other. Nothing we read has ten."""
MAX_SEED: Final = 2**63 - 1
"""Largest seed PyTorch and NumPy both take."""

_INTEGER_BITS: Final = 64
_NOT_REGULAR: Final = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a pipe (FIFO), not a file"),
    (stat.S_ISSOCK, "it is a socket, not a file"),
    (stat.S_ISCHR, "it is a device, not a file"),
    (stat.S_ISBLK, "it is a device, not a file"),
)
# Possessive: of an opening quote without an end, everything behind it is text, and is looked at once.
_JSON_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_TOML_TOKEN: Final = re.compile(
    r"""(?:\"{3}(?:[^"\\]++|\\.|\"(?!\"\"))*+(?:\"{3})?)"""  # multi-line text
    r"""|(?:'{3}(?:[^']++|'(?!''))*+(?:'{3})?)"""
    r"""|"(?:[^"\\\n]++|\\.)*+"?|'[^'\n]*+'?|\#[^\n]*+|\.|[\n,=]|[\[{]|[\]}]""",
    re.DOTALL,
)


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading, unless it is no regular one: opening a pipe would wait for whoever writes into it.

    Raises:
        OSError: it can't be opened, or is a folder, pipe, socket or device, or a link to one.
    """
    _require_regular(Path(path).stat().st_mode, path)
    # Without blocking, and looked at again: it may have become something else since.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    handle = os.open(path, flags)
    try:
        _require_regular(os.fstat(handle).st_mode, path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def require_regular(path: str | Path, *, most: int | None = None) -> None:
    """Refuse what `open_regular` refuses, and a file of more than `most` bytes, for readers that open it themselves.

    Raises:
        OSError: see there.
    """
    status = Path(path).stat()
    _require_regular(status.st_mode, path)
    if most is not None and status.st_size > most:
        raise _too_large(path, status.st_size, most)


def read_bytes(path: str | Path, *, most: int = MAX_JSON_BYTES) -> bytes:
    """Return a regular file's bytes, at most `most` of them.

    Raises:
        OSError: it can't be read, is no regular file, or is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise _too_large(path, size, most)
        # It may grow, or be of a system that says 0 of all. Never more at once than it has: Python allocates that.
        content = file.read(size + 1)
        while len(content) <= most and (more := file.read(2**16)):
            content += more
    if len(content) > most:
        raise _too_large(path, len(content), most)
    return content


def read_text(path: str | Path, *, most: int = MAX_JSON_BYTES, encoding: str = "utf-8") -> str:
    """Return a regular file's text.

    Raises:
        OSError: see `read_bytes`.
        ValueError: it is not text in that encoding.
    """
    return read_bytes(path, most=most).decode(encoding).replace("\r\n", "\n")


def read_json(path: str | Path, *, most: int = MAX_JSON_BYTES) -> Any:
    """Return a file's JSON value.

    Raises:
        OSError: see `read_bytes`.
        ValueError: see `parse_json`.
    """
    return parse_json(read_bytes(path, most=most), most=most)


def parse_json(content: str | bytes, *, most: int = MAX_JSON_BYTES, finite: bool = True) -> Any:
    """Return the value of a JSON text (UTF-8 where it is bytes).

    Args:
        content: the text.
        most: bytes, or letters, it may have.
        finite: refuse NaN and infinities, which Python writes although JSON has none, and numbers beyond a float.

    Raises:
        ValueError: it is no JSON, too large or too deep, or holds a number or text nothing here can use.
    """
    if len(content) > most:
        raise ValueError(f"{len(content):,} bytes, more than the {most:,} allowed")
    if not content:
        raise ValueError("it is empty (0 bytes)")
    text = content if isinstance(content, str) else content.decode("utf-8")
    _check_depth(text)
    try:
        value = json.loads(
            text, parse_int=_integer, parse_float=_finite if finite else None, parse_constant=_constant(finite)
        )
    except RecursionError as error:
        raise ValueError("too many levels within each other") from error
    if "\\ud" in text.lower():  # half a pair stands for no letter, and can't be printed or saved
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("text with half a letter (a lone surrogate)") from error
    return value


def check_json(content: str | bytes, *, most: int = MAX_JSON_BYTES, finite: bool = True) -> bytes:
    """Return a JSON text as bytes once `parse_json` takes it, for parsers that know types but no bounds.

    Raises:
        ValueError: see `parse_json`.
    """
    parse_json(content, most=most, finite=finite)
    return content.encode() if isinstance(content, str) else content


def parse_toml(text: str, *, most: int = MAX_TOML_BYTES) -> dict[str, Any]:
    """Return the table of a TOML text.

    Raises:
        ValueError: it is no TOML, too large or too deep, or holds an integer of more than 64 bits. NaN and infinities
            are TOML's own: whoever knows the fields refuses them by name.
    """
    if len(text) > most:
        raise ValueError(f"{len(text):,} letters, more than the {most:,} allowed")
    if not text:
        raise ValueError("it is empty (0 bytes)")
    _check_toml_depth(text)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError as error:
        raise ValueError("too many levels within each other") from error
    except ValueError as error:  # Python's own bound on converting digits
        raise ValueError("an integer of thousands of digits") from error
    _check_integers(table)
    return table


def check_seed(seed: object) -> str | None:
    """What is wrong with a seed of random numbers, None if nothing: it is a whole number from 0 to 2**63 - 1."""
    if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= MAX_SEED:
        return None
    shown = str(seed) if not isinstance(seed, int) or abs(seed) < 10**30 else "a number of more than 30 digits"
    return f"seed is {shown}: it must be a whole number from 0 to 2**63 - 1"


def _require_regular(mode: int, path: str | Path) -> None:
    if stat.S_ISREG(mode):
        return
    what = next((words for test, words in _NOT_REGULAR if test(mode)), "it is not a regular file")
    code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(code, what, str(path))


def _too_large(path: str | Path, size: int, most: int) -> OSError:
    return OSError(errno.EFBIG, f"it has {size:,} bytes, more than the {most:,} allowed", str(path))


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _JSON_TOKEN.finditer(text):
        first = token.group()[0]
        depth += (first in "[{") - (first in "]}")
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels within each other")


def _check_toml_depth(text: str) -> None:
    """Brackets within each other, and the parts of dotted keys, each of which is a level."""
    depth = dots = 0
    for token in _TOML_TOKEN.finditer(text):
        first = token.group()[0]
        depth += (first in "[{") - (first in "]}")
        dots = 0 if first in "\n,=[]{}" else dots + (first == ".")
        if max(depth, dots) > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels within each other")


def _integer(digits: str) -> int:
    # Python itself refuses more than 4,300 digits, for converting them takes time that grows with their square.
    if len(digits) > 20 or abs(number := int(digits)) >= 2**_INTEGER_BITS:
        raise ValueError(f"an integer of {len(digits.lstrip('-')):,} digits, more than {_INTEGER_BITS} bits hold")
    return number


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:20]}, which is no finite number")
    return number


def _constant(finite: bool) -> Callable[[str], float]:
    """How NaN, Infinity and -Infinity are read, which are no JSON."""
    return _finite if finite else float


def _check_integers(value: object) -> None:
    """TOML's hexadecimal integers have no bound of Python's own."""
    if isinstance(value, dict):
        for item in value.values():
            _check_integers(item)
    elif isinstance(value, list):
        for item in value:
            _check_integers(item)
    elif isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
        raise ValueError(f"an integer of {value.bit_length():,} bits, more than {_INTEGER_BITS}")


# In a NumPy archive each array's header may claim any shape, and a small one may unpack to any size; NumPy takes the
# memory for what is claimed before it reads.
MAX_GROWTH: Final = 100
"""How many times its own size an archive may unpack to, beside `MAX_UNPACKED_BYTES`."""
MAX_UNPACKED_BYTES: Final = 2**30

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
    from numpy.lib import format as npy

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
    from numpy.lib import format as npy

    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in headers:
        raise ValueError(f"an array of format {version[0]}.{version[1]}, which is not known")
    shape, _, dtype = headers[version](file)
    return file.tell() + math.prod(shape) * dtype.itemsize
