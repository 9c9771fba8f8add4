"""The line that installs an extra is of where this copy came from, never of a package index."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mobilenets import install
from mobilenets.install import install_line

REQUIRES = [
    "numpy>=2.0",
    "onnxruntime >=1.20",
    "openvino>=2025.2; extra == 'openvino'",
    'torch>=2.9; extra == "train"',
    'ray[data] >= 2.60 ; extra == "cluster"',
    'openvino>=2025.2; extra == "export"',
    'nncf>=3.0; python_version < "4" and extra == "export"',
]


class Installed:
    """A distribution as pip leaves it."""

    def __init__(self, origin: object) -> None:
        self.requires = REQUIRES
        self._origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self._origin if isinstance(self._origin, str | None) else json.dumps(self._origin)


@pytest.fixture
def came_from(monkeypatch: pytest.MonkeyPatch):
    def set_origin(origin: object) -> None:
        monkeypatch.setattr(metadata, "distribution", lambda _: Installed(origin))

    return set_origin


def arguments(line: str) -> list[str]:
    words = shlex.split(line)
    assert words[:2] == ["pip", "install"]
    return words[2:]


def test_an_editable_checkout(came_from, tmp_path: Path) -> None:
    folder = tmp_path / "my checkout"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("")
    came_from({"url": folder.as_uri(), "dir_info": {"editable": True}})
    assert arguments(install_line("openvino")) == ["-e", f"{folder}[openvino]"]
    assert arguments(install_line("export,executorch")) == ["-e", f"{folder}[export,executorch]"]
    assert arguments(install_line()) == ["-e", str(folder)]


def test_a_folder_installed_once(came_from, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    came_from({"url": tmp_path.as_uri(), "dir_info": {}})
    assert arguments(install_line("litert")) == [f"{tmp_path}[litert]"]


def test_a_wheel(came_from, tmp_path: Path) -> None:
    wheel = tmp_path / "mobilenets-0.1.0-py3-none-any.whl"
    wheel.touch()
    came_from({"url": wheel.as_uri(), "archive_info": {"hash": "sha256=0"}})
    (word,) = arguments(install_line("openvino"))
    requirement = Requirement(word)
    assert (requirement.name, requirement.extras, requirement.url) == ("mobilenets", {"openvino"}, wheel.as_uri())


def test_an_address_and_a_repository(came_from) -> None:
    came_from({"url": "https://example.org/mobilenets-0.1.0-py3-none-any.whl", "archive_info": {}})
    requirement = Requirement(arguments(install_line("train"))[0])
    assert requirement.url == "https://example.org/mobilenets-0.1.0-py3-none-any.whl"
    came_from({"url": "https://example.org/m.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    assert Requirement(arguments(install_line("train"))[0]).url == "git+https://example.org/m.git@abc"


@pytest.mark.parametrize("origin", [
    None, "", "no json", "[]", {}, {"url": 3}, {"url": "file:///gone/for/ever", "dir_info": {"editable": True}},
    {"url": "file:///gone/mobilenets-0.1.0-py3-none-any.whl", "archive_info": {}},
])  # fmt: skip
def test_without_an_origin_the_packages_themselves_are_named(came_from, origin: object) -> None:
    came_from(origin)
    assert install_line("openvino") == "pip install 'openvino>=2025.2'"
    assert install_line("cluster") == "pip install 'ray[data]>=2.60'"
    assert arguments(install_line("export,train")) == ["torch>=2.9", "openvino>=2025.2", "nncf>=3.0"]
    assert arguments(install_line()) == ["numpy>=2.0", "onnxruntime>=1.20"]
    for word in arguments(install_line("export")):
        Requirement(word)


def test_run_from_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    (word,) = arguments(install_line("openvino"))
    assert word == f"{Path(install.__file__).parents[2]}[openvino]"


def test_this_environment_gives_a_line_pip_can_read() -> None:
    *_, word = arguments(install_line("openvino"))
    assert word.endswith("[openvino]") or Requirement(word).name in ("mobilenets", "openvino")


def test_no_message_names_an_index_entry() -> None:
    root = Path(install.__file__).parents[2]
    texts = [*Path(install.__file__).parent.rglob("*.py"), root / "README.md", *(root / "docs").glob("*.md")]
    named = [path.name for path in texts if path.exists() and "pip install 'mobilenets" in path.read_text("utf-8")]
    assert set(named) <= {"lab_log.md"}
