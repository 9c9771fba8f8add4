"""Opening what a path or URL names, without a shell and without waiting for ever.

`http` and `https` are read here, `gs` by gsutil and `s3` by the command of AWS. Addresses come from users; names within
an index come from whoever wrote it, and only plain ones are taken (`index.check_name`).
"""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from contextlib import closing
from typing import IO, Final

from mobilenets.data.shards.location import is_remote
from mobilenets.data.shards.tar_files import Stream
from mobilenets.errors import DataError
from mobilenets.limits import MAX_JSON_BYTES, open_regular
from mobilenets.transfer import IDLE_SECONDS, TransferError, open_url

_COMMANDS: Final = {"gs://": ("gsutil", "cat"), "s3://": ("aws", "s3", "cp")}


def open_address(address: str) -> Stream:
    """Open a path or URL for reading.

    Raises:
        OSError: it can't be opened, or is no regular file; of commands this may show only on reading.
    """
    if not is_remote(address):
        return open_regular(address)
    for scheme, command in _COMMANDS.items():
        if address.startswith(scheme):
            return _Command([*command, address, *(["-"] if scheme == "s3://" else [])])
    return open_url(address)


def read_whole(address: str, *, most: int = MAX_JSON_BYTES) -> bytes | None:
    """Return what lies at an address; None if nothing does.

    Raises:
        DataError: something does but can't be read, or is larger than `most`; or a server does not answer.
    """
    content = bytearray()
    try:
        with closing(open_address(address)) as stream:
            while len(content) <= most and (more := stream.read(2**20)):
                content += more
    except (FileNotFoundError, NotADirectoryError, _CommandError):
        return None
    except OSError as error:
        if isinstance(error, TransferError) and error.absent:
            return None
        raise DataError(f"{address} can't be read ({error.strerror or error}): check it") from error
    if len(content) > most:
        raise DataError(f"{address} has more than the {most:,} bytes allowed: it is no index of shards")
    return bytes(content)


class _CommandError(OSError):
    """A command that ended without having read everything."""


class _Command:
    """The output of a command that reads an address; it is started without a shell."""

    def __init__(self, command: list[str]) -> None:
        self._name = command[0]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
        except OSError as error:
            raise _CommandError(0, f"{self._name}, which reads such addresses, is not installed") from error

    def read(self, size: int, /) -> bytes:
        """See `Stream`."""
        output: IO[bytes] = self._process.stdout  # type: ignore[assignment]  # a pipe, as asked for
        # Windows can't wait for a pipe with a limit.
        if sys.platform != "win32" and not select.select([output], [], [], 4 * IDLE_SECONDS)[0]:
            self._end()
            raise TransferError(f"nothing came from {self._name} for {4 * IDLE_SECONDS:g} s")
        content = output.read(size)
        if not content and (code := self._process.wait()) != 0:
            raise _CommandError(0, f"{self._name} gave up with code {code}")
        return content

    def close(self) -> None:
        """See `Stream`."""
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
