"""The constraints file that `make` installs by, and the script that writes it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LINES = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]


def direct_requirements() -> list[Requirement]:
    """What the project itself asks for: the core, every extra, and what builds it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = settings["project"]["optional-dependencies"].values()
    listed = [settings["build-system"]["requires"], settings["project"]["dependencies"], *extras]
    return [Requirement(text) for group in listed for text in group]


def test_every_requirement_has_a_newest_version_that_its_lower_bound_allows() -> None:
    bounds = {Requirement(line).name: Requirement(line).specifier for line in LINES}
    for requirement in direct_requirements():
        (bound,) = bounds[canonicalize_name(requirement.name)]
        assert bound.operator == "<="
        assert Version(bound.version) in requirement.specifier, f"{requirement} and {requirement.name}{bound}"


def test_a_line_is_an_upper_bound_that_names_no_build_and_no_place() -> None:
    assert sorted(LINES, key=lambda line: Requirement(line).name) == LINES
    for line in LINES:
        requirement = Requirement(line)
        (bound,) = requirement.specifier
        assert (requirement.url, requirement.extras, requirement.marker, bound.operator) == (None, set(), None, "<=")
        assert Version(bound.version).local is None


def test_the_script_writes_what_is_installed_beside_its_python(tmp_path: Path) -> None:
    for folder, name, version in (
        ("first", "Some_Package", "2.1.0+cpu"),
        ("second", "some-package", "1.0"),
        ("second", "other", "3.0.post1"),
        ("second", "mobilenets", "0.1.0"),
    ):
        record = tmp_path / folder / f"{name}-{version}.dist-info"
        record.mkdir(parents=True)
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    program = f"import runpy, sys; sys.path[:] = [*{[str(tmp_path / 'first'), str(tmp_path / 'second')]}, *sys.path]\n"
    program += f"runpy.run_path({str(ROOT / 'scripts' / 'constraints.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert "some-package<=2.1.0" in lines
    assert "other<=3.0.post1" in lines
    assert sum(line.startswith("some-package") for line in lines) == 1
    assert not any(line.startswith("mobilenets") for line in lines)


@pytest.mark.parametrize("name", ["pip", "hatchling", "torch", "numpy", "protobuf"])
def test_what_installs_and_what_is_installed_along_are_bounded_too(name: str) -> None:
    assert any(line.startswith(f"{name}<=") for line in LINES)
