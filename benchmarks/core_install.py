"""What the core install weighs and how soon it answers: `python benchmarks/core_install.py ARTIFACT PHOTO`.

Regime: a new virtual environment, `pip install .` without extras. Its size is told twice: all it installed, with the
bytecode pip compiles, and the whole folder, in which pip and setuptools were before. Then the real
command `mobilenets predict ARTIFACT PHOTO` in it, from start to exit, 10 rounds after one unmeasured, alternating with
the same Python doing nothing. ARTIFACT is an exported MobileNetV2 for 224 px, say.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from mobilenets.benchmarking.latency import measure_latency

ROUNDS = 10
# What `venv` puts there itself.
OF_VENV = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
_MB = 1_000_000


def main(artifact: Path, photo: Path) -> None:
    from timing import write

    with tempfile.TemporaryDirectory(prefix="core-install-") as folder:
        binaries = _installed(Path(folder))
        packages = next(Path(folder).glob("lib/python*/site-packages"))
        size = _size(packages) - sum(_size(packages / name) for name in OF_VENV)
        whole = _size(Path(folder))
        commands = {
            "python -c pass": (binaries / "python", "-c", "pass"),
            "mobilenets predict": (binaries / "mobilenets", "predict", artifact.resolve(), photo.resolve()),
        }
        times = measure_latency(
            {name: (lambda command=command: _call(command)) for name, command in commands.items()},
            warmup=1,
            rounds=ROUNDS,
        )
        seconds = {
            name: {"median": one.median_ms / 1000, "p95": one.p95_ms / 1000, "iqr": one.iqr_ms / 1000}
            for name, one in times.items()
        }
        largest = {path.name: _size(path) / _MB for path in packages.iterdir() if _size(path) > _MB}
    regime = f"pip install . without extras; whole processes, {ROUNDS} alternating rounds; MB of 10^6 bytes, seconds"
    figures = {
        "size_mb": size / _MB,
        "with_pip_mb": whole / _MB,
        "packages_mb": largest,
        "seconds": seconds,
        "artifact": artifact.name,
    }
    print(f"{size / _MB:.0f} MB, {whole / _MB:.0f} MB with pip; {seconds['mobilenets predict']['median']:.2f} s")
    write("core_install", regime, figures)


def _installed(folder: Path) -> Path:
    """Make the environment and install this checkout into it; returns where its commands are."""
    venv.create(folder, with_pip=True)
    binaries = folder / ("Scripts" if sys.platform == "win32" else "bin")
    project = Path(__file__).parents[1]
    subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", str(project)], check=True)
    return binaries


def _call(command: tuple[str | Path, ...]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def _size(path: Path) -> int:
    """Bytes on disk of a file or of all below a folder; 0 where there is none."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
