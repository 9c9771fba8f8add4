"""The source distribution and the wheel as a user installs them: whole, with a working command."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "mobilenets"

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from nothing but it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, sdist, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def test_they_hold_the_packages_files_and_no_others(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    ours = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"mobilenets/py.typed", "mobilenets/recipes/quick.toml"} <= ours
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        licensed = [name for name in file.namelist() if name.endswith("/LICENSE")]
    assert names == ours
    assert len(licensed) == 1
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in ours} <= inside
    assert {"README.md", "LICENSE", "pyproject.toml"} <= inside
    assert not any(name.startswith(("tests/", "benchmarks/", ".")) for name in inside - {".gitignore"})


def test_an_installed_wheel_works_away_from_the_checkout(built: tuple[Path, Path], tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / Path(sys.executable).name
    install = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")
    run(sys.executable, "-m", "pip", "--python", python, "install", *install, built[1], cwd=tmp_path)
    # What it depends on is not installed again: this Python's packages are found after its own.
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(run(python, "-I", "-c", place, cwd=tmp_path).strip())
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = run(python, "-I", "-c", "import mobilenets; print(mobilenets.__file__)", cwd=tmp_path)
    assert Path(found.strip()).is_relative_to(environment)
    assert run(scripts / "mobilenets", "--version", cwd=tmp_path).strip() in built[1].name
    recipe = "import mobilenets; print(mobilenets.load_recipe('quick').epochs)"
    assert int(run(python, "-I", "-c", recipe, cwd=tmp_path)) > 0
    assert "3,504,872" in run(scripts / "mobilenets", "summary", "mobilenet_v2", cwd=tmp_path)
