"""Fetching a published file: downloaded once, checked against its hash each time, kept in torch.hub's folder."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import BinaryIO

import torch

from mobilenets.errors import RunError, WeightsError
from mobilenets.files import write_atomically, write_text_atomically
from mobilenets.formatting import printable
from mobilenets.limits import read_text, require_regular
from mobilenets.models.weights.fit import file_sha256
from mobilenets.models.weights.published import PublishedWeights
from mobilenets.transfer import ATTEMPTS, TransferError, open_url, url_fault

MIRROR_VARIABLE = "MOBILENETS_WEIGHTS_MIRROR"
"""Address of a folder that has the published files under their names here, asked instead of their publishers."""
HASH_HEADER = "X-Linked-ETag"
"""In which Hugging Face says the SHA-256 of a large file."""
MAX_BYTES = 2**30
"""Of a published file; the largest has 150 MB."""

_HASH_FILE_BYTES = 1000  # more than the 64 letters it has
_SHA256 = re.compile(r"[0-9a-f]{64}")


def cached_path(published: PublishedWeights) -> Path:
    """Where the file is kept: torch.hub's folder of checkpoints (below `$TORCH_HOME`, by default `~/.cache/torch`)."""
    return Path(torch.hub.get_dir()) / "checkpoints" / published.file


def fetch_published(published: PublishedWeights, *, mirror: str | None = None) -> Path:
    """The file on this machine; downloaded unless it is there already, and checked in both cases.

    The beginning of its hash stands in the name of torchvision's and timm's releases. Of files on Hugging Face the
    server says it; it is kept beside the file for later. One that a user put there is used as it is.

    Args:
        published: which file.
        mirror: address of a folder that has it under its name; default: `$MOBILENETS_WEIGHTS_MIRROR`, then its
            publisher's.

    Raises:
        WeightsError: it can't be downloaded, or is damaged (it is removed then); the message says what to
            download and where to put it.
    """
    path, mirror = cached_path(published), mirror or os.environ.get(MIRROR_VARIABLE)
    url = f"{mirror.rstrip('/')}/{published.file}" if mirror else published.url
    if path.exists():
        _check_cached(path, published, url)
        return path
    if fault := url_fault(url):
        raise WeightsError(f"{printable(url)} is no address to download from ({fault}): check {MIRROR_VARIABLE}")
    try:
        expected = published.hash_prefix or _stated_hash(url)
        if expected is None:
            raise WeightsError(
                f"{url} is not fetched: its server states no SHA-256 ({HASH_HEADER}) to check it against; "
                f"{_by_hand(published, path)}"
            )
        print(f"downloading {url} to {path}", file=sys.stderr)
        write_atomically(path, lambda temporary: _download(url, temporary, expected, published, path))
        if published.hash_prefix is None:
            write_text_atomically(_hash_file(path), f"{expected}\n")
    except TransferError as error:
        raise _unavailable(error, published, path) from error
    except RunError as error:  # a full disk, or no permission
        raise WeightsError(f"{error}; or set TORCH_HOME to another folder") from error
    return path


def _download(url: str, target: Path, expected: str, published: PublishedWeights, path: Path) -> None:
    """Fill `target`; what breaks off is taken up where it did, a few times."""
    try:
        with target.open("wb") as file:
            for attempt in range(ATTEMPTS):
                try:
                    _receive(url, file)
                    break
                except TransferError as error:
                    if not error.passing or attempt == ATTEMPTS - 1:
                        raise
    except TransferError as error:
        raise _unavailable(error, published, path) from error
    if not file_sha256(target).startswith(expected):
        raise WeightsError(
            f"{published.file} arrived damaged (its SHA-256 is not the published one) and was removed: try again, or "
            f"{_by_hand(published, path)}"
        )


def _receive(url: str, file: BinaryIO) -> None:
    """Append what an address has beyond what the file holds already; all of it where the server knows no parts."""
    with open_url(url, offset=file.tell()) as body:
        file.seek(body.begins)
        file.truncate()
        total = None if body.size is None else body.begins + body.size
        if (total or 0) > MAX_BYTES:
            raise TransferError(f"it has {total:,} bytes, more than the {MAX_BYTES:,} of any published file")
        while content := body.read():
            file.write(content)
            if file.tell() > MAX_BYTES:
                raise TransferError(f"it has more than the {MAX_BYTES:,} bytes of any published file")
            if total and sys.stderr.isatty():
                print(f"\r{100 * file.tell() // total} %", end="" if file.tell() < total else "\n", file=sys.stderr)


def _unavailable(error: TransferError, published: PublishedWeights, path: Path) -> WeightsError:
    return WeightsError(f"{published.file} can't be downloaded ({error}): {_by_hand(published, path)}")


def _check_cached(path: Path, published: PublishedWeights, url: str) -> None:
    try:
        require_regular(path)
    except OSError as error:
        raise WeightsError(f"{path} can't be read ({error.strerror}): remove it to download {url}") from error
    expected = published.hash_prefix or _kept_hash(path)
    if expected is None or file_sha256(path).startswith(expected):
        return
    path.unlink()
    _hash_file(path).unlink(missing_ok=True)
    raise WeightsError(
        f"{path} was damaged (its SHA-256 is not the published one) and is removed: run again to download {url}"
    )


def _stated_hash(url: str) -> str | None:
    """The SHA-256 the server says the file has; None when it says none, so that the file could not be checked."""
    with open_url(url, method="HEAD", follow=False) as answer:  # where it redirects to, the hash does not stand
        headers = answer.headers
    stated = (headers.get(HASH_HEADER) or "").strip('"').lower()
    return str(stated) if _SHA256.fullmatch(stated) else None


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _kept_hash(path: Path) -> str | None:
    try:
        kept = read_text(_hash_file(path), most=_HASH_FILE_BYTES).strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        kept = ""
    if not _SHA256.fullmatch(kept):
        raise WeightsError(f"{_hash_file(path)} holds no SHA-256: remove it and {path} to download both again")
    return kept


def _by_hand(published: PublishedWeights, path: Path) -> str:
    return f"download {published.url} and put it at {path}"
