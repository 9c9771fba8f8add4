"""Print the constraints file: for each package installed beside this Python, the newest version known to work.

    python scripts/constraints.py > constraints.txt

An upper bound, not a pin: where a platform or a Python has no build of the newest version, pip takes an older one, down
to the lower bound in `pyproject.toml`. Nowhere does it take a release that the checks have not been run with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata

HEADER = """\
# The newest version of each package that the checks passed with; `make` installs nothing newer.
# Written by `make constraints`; to move it up: `make upgrade test constraints`.
"""
OWN = "mobilenets"


def constraints(installed: Iterable[tuple[str, str]]) -> str:
    """Return the file's text.

    Args:
        installed: name and version of each package. A local label (`2.9.1+cpu`) names a build, not a version, and is
            dropped; of a package found twice on the path, the first counts, as it does for `import`.
    """
    newest: dict[str, str] = {}
    for name, version in installed:
        newest.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version.partition("+")[0])
    newest.pop(OWN, None)
    return HEADER + "".join(f"{name}<={version}\n" for name, version in sorted(newest.items()))


if __name__ == "__main__":
    print(constraints((one.name, one.version) for one in metadata.distributions()), end="")
