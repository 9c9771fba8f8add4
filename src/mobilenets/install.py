"""How to install what is missing, from where this copy came: the name `mobilenets` on a package index is not ours."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mobilenets.limits import parse_json

if TYPE_CHECKING:
    from importlib.metadata import Distribution

NAME: Final = "mobilenets"
_EXTRA: Final = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


def install_line(extra: str = "") -> str:
    """Return the command that installs this package with an extra, or several with commas between.

    A checkout is installed from its folder, a wheel or archive from its file or address, as pip wrote them down
    (PEP 610, `direct_url.json`). Where that is gone, or pip took the package from an index, the extra's packages are
    named themselves.
    """
    from importlib import metadata  # takes longer to load than the rest of a command's start

    try:
        distribution = metadata.distribution(NAME)
    except metadata.PackageNotFoundError:  # run from its sources
        return _of_folder(Path(__file__).parents[2], extra, editable=False)
    return _of_origin(_origin(distribution), extra) or _of_packages(distribution, extra)


def _origin(distribution: Distribution) -> dict[str, object]:
    try:
        origin = parse_json(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}
    return origin if isinstance(origin, dict) else {}


def _of_origin(origin: dict[str, object], extra: str) -> str | None:
    """The command for where pip took the package from; None where that can't be used again."""
    url, folder, repository = origin.get("url"), origin.get("dir_info"), origin.get("vcs_info")
    if not isinstance(url, str):
        return None
    bracket = f"[{extra}]" if extra else ""
    if isinstance(repository, dict):
        commit = repository.get("commit_id") or repository.get("requested_revision")
        address = f"{repository.get('vcs')}+{url}@{commit}"
        return f"pip install {shlex.quote(f'{NAME}{bracket} @ {address}')}"
    path = _path(url)
    if isinstance(folder, dict) and path is not None:
        there = (path / "pyproject.toml").is_file()
        return _of_folder(path, extra, editable=bool(folder.get("editable"))) if there else None
    if path is not None and not path.is_file():
        return None
    return f"pip install {shlex.quote(f'{NAME}{bracket} @ {url}')}"


def _of_folder(folder: Path, extra: str, *, editable: bool) -> str:
    target = shlex.quote(f"{folder}[{extra}]" if extra else str(folder))
    return f"pip install {'-e ' if editable else ''}{target}"


def _path(url: str) -> Path | None:
    from urllib.request import url2pathname  # likewise

    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _of_packages(distribution: Distribution, extra: str) -> str:
    wanted = set(extra.split(",")) if extra else set()
    found = []
    for requirement in distribution.requires or ():
        package, _, marker = requirement.partition(";")
        of = _EXTRA.search(marker)
        if (of.group(1) in wanted) if of else not extra:
            found.append(re.sub(r"\s+", "", package))
    return f"pip install {' '.join(shlex.quote(package) for package in dict.fromkeys(found))}"
