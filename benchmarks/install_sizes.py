"""What each extra brings, on disk: `python benchmarks/install_sizes.py` in an environment that has all of them.

Regime: the files that each distribution lists, with compiled bytecode where it is listed, added up over the direct and
indirect requirements of `mobilenets` and of one extra, or several. PyTorch's CUDA libraries (the distributions
`nvidia-*`, `cuda-*` and `triton`) are counted apart, because PyTorch's CPU build has none.
"""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("", "train", "export", "train,export", "cluster", "openvino", "litert", "executorch", "heic")
CUDA = ("nvidia-", "cuda-", "triton")
_MB = 1_000_000


def main() -> None:
    from timing import write

    figures = {}
    for extra in EXTRAS:
        names = closure("mobilenets", frozenset(extra.split(",") if extra else []))
        sizes = {name: size(distribution(name)) / _MB for name in sorted(names)}
        cuda = sum(one for name, one in sizes.items() if name.startswith(CUDA))
        figures[extra or "core"] = {"mb": sum(sizes.values()), "cuda_mb": cuda, "distributions": len(sizes)}
        print(f"{extra or 'core'}: {sum(sizes.values()):.0f} MB, {cuda:.0f} MB of it for CUDA")
    write("install_sizes", "files of the distributions required, in MB of 10^6 bytes", {"extras": figures})


def closure(name: str, extras: frozenset[str]) -> set[str]:
    """The distribution and all that it requires with these extras, as far as they are installed."""
    found: set[str] = set()
    waiting = [(name, extras)]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        found.add(canonicalize_name(name))
        for line in requires:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
                item = (canonicalize_name(requirement.name), frozenset(requirement.extras))
                if item not in seen:
                    seen.add(item)
                    waiting.append(item)
    return found


def size(installed: Distribution) -> int:
    """Bytes of a distribution's files."""
    paths = (file.locate() for file in installed.files or [])
    return sum(path.stat().st_size for path in paths if path.is_file())  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
