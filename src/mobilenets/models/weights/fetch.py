"""Fetching a published file: downloaded once, checked against its hash each time, kept in torch.hub's folder."""

from __future__ import annotations

import os
import re
import sys
import urllib.error
import urllib.request
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO

import torch

from mobilenets.errors import WeightsError
from mobilenets.models.weights.published import PublishedWeights
from mobilenets.models.weights.report import file_sha256

MIRROR_VARIABLE = "MOBILENETS_WEIGHTS_MIRROR"
"""Address of a folder that has the published files under their names here, asked instead of their publishers."""
HASH_HEADER = "X-Linked-ETag"
"""In which Hugging Face says the SHA-256 of a large file."""
TIMEOUT_SECONDS = 30.0

_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the hash stands in the first answer, the file is somewhere else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Return no request to go on with."""


def cached_path(published: PublishedWeights) -> Path:
    """Where the file is kept: torch.hub's folder of checkpoints (below `$TORCH_HOME`, by default `~/.cache/torch`)."""
    return Path(torch.hub.get_dir()) / "checkpoints" / published.file


def fetch_published(published: PublishedWeights, *, mirror: str | None = None) -> Path:
    """The file on this machine; downloaded unless it is there already, and checked in both cases.

    The beginning of its hash stands in the name of torchvision's and timm's releases. Of files on Hugging Face the
    server says it; it is kept beside the file for later. One put there by hand is taken as it is.

    Args:
        published: which file.
        mirror: address of a folder that has it under its name; without it `$MOBILENETS_WEIGHTS_MIRROR`, else its
            publisher's.

    Raises:
        WeightsError: it can't be had, or arrives or lies there damaged (it is removed then); the message says what to
            download and where to put it.
    """
    path, mirror = cached_path(published), mirror or os.environ.get(MIRROR_VARIABLE)
    url = f"{mirror.rstrip('/')}/{published.file}" if mirror else published.url
    if path.exists():
        _check_cached(path, published, url)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        expected = published.hash_prefix or _stated_hash(url)
        if expected is None:
            raise WeightsError(
                f"{url} is not fetched: its server states no SHA-256 ({HASH_HEADER}) to check it against; "
                f"{_by_hand(published, path)}"
            )
        print(f"downloading {url} to {path}", file=sys.stderr)
        torch.hub.download_url_to_file(url, str(path), expected, progress=sys.stderr.isatty())
        if published.hash_prefix is None:
            _hash_file(path).write_text(f"{expected}\n", encoding="ascii")
    except RuntimeError as error:  # how torch.hub reports a wrong hash; it has removed the file
        raise WeightsError(
            f"{published.file} arrived damaged (its SHA-256 is not the published one) and was removed: try again, or "
            f"{_by_hand(published, path)}"
        ) from error
    except (OSError, HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the server's answer open
        reason = getattr(error, "reason", None) or error  # urllib wraps what went wrong
        raise WeightsError(f"{published.file} can't be downloaded ({reason}): {_by_hand(published, path)}") from error
    return path


def _check_cached(path: Path, published: PublishedWeights, url: str) -> None:
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
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "mobilenets"})
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=TIMEOUT_SECONDS) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:
        if error.code >= 400:
            raise
        headers = error.headers
        error.close()  # a redirect's answer, held open by its being an error
    stated = (headers.get(HASH_HEADER) or "").strip('"').lower()
    return str(stated) if _SHA256.fullmatch(stated) else None


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _kept_hash(path: Path) -> str | None:
    try:
        return _hash_file(path).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def _by_hand(published: PublishedWeights, path: Path) -> str:
    return f"download {published.url} and put it at {path}"
