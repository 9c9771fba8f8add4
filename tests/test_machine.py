"""What the machine offers, on systems that tell it in different ways or not at all."""

import os
import tempfile
from pathlib import Path

import pytest

from mobilenets import machine
from mobilenets.machine import (
    cgroup_memory_limit,
    local_processes,
    physical_memory,
    usable_cores,
    usable_memory,
    user_cache,
)


def test_cores_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    assert physical_memory() == 4_096_000
    pages["SC_PHYS_PAGES"] = -1
    assert physical_memory() is None
    monkeypatch.delattr(os, "sysconf")
    assert physical_memory() is None


GIB = 2**30
NO_LIMIT = "9223372036854771712"
"""What version 1 says of a group without a limit."""


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"memory.max": f"{GIB}\n"}, GIB),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/\n", {"memory.max": f"{2 * GIB}", "memory.high": f"{GIB}"}, GIB),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": f"{3 * GIB}", "memory.max": "max"}, 3 * GIB),
        ("0::/a/b\n", {"a/b/memory.max": f"{GIB}", "a/memory.max": f"{3 * GIB}"}, GIB),
        ("0::/a/b\n", {"a/b/memory.max": f"{5 * GIB}", "a/memory.max": f"{3 * GIB}"}, 3 * GIB),
        ("0::/a/b\n", {"a/c/memory.max": f"{GIB}"}, None),
        ("0::/../..\n", {"memory.max": f"{GIB}"}, GIB),
        ("0::/../a\n", {"memory.max": f"{GIB}"}, GIB),
        ("0::/a\n", {"unified/a/memory.max": f"{GIB}"}, GIB),
        ("4:memory:/\n0::/\n", {"memory/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        ("4:cpu,memory:/a\n", {"memory/a/memory.limit_in_bytes": f"{GIB}"}, GIB),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": NO_LIMIT, "memory/memory.limit_in_bytes": f"{GIB}"}, GIB),
        ("4:memory:/docker/0\n", {"memory/memory.limit_in_bytes": f"{GIB}"}, GIB),
        ("4:memory:/a\n0::/b\n", {"memory/a/memory.limit_in_bytes": f"{GIB}", "memory.max": f"{GIB // 2}"}, GIB // 2),
        ("4:memoryless:/a\n3:cpu:/a\n", {"memory/a/memory.limit_in_bytes": f"{GIB}"}, None),
        ("0::/a:b\n", {"a:b/memory.max": f"{GIB}"}, GIB),
        ("damaged\n\n0::/\n", {"memory.max": "what"}, None),
        (None, {"memory.max": f"{GIB}"}, None),
    ],
)
def test_memory_of_a_control_group(
    tmp_path: Path, groups: str | None, files: dict[str, str], expected: int | None
) -> None:
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert cgroup_memory_limit(tmp_path) == expected


def test_the_memory_to_use_is_the_least_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for physical, group, expected in ((8, 4, 4), (8, 9, 8), (None, 4, 4), (8, None, 8), (None, None, None)):
        monkeypatch.setattr(machine, "physical_memory", lambda said=physical: said)
        monkeypatch.setattr(machine, "cgroup_memory_limit", lambda said=group: said)
        assert usable_memory() == expected


def test_processes_of_a_training_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert local_processes() == 1
    for said, count in (("4", 4), ("0", 1), ("many", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", said)
        assert local_processes() == count


@pytest.mark.parametrize(("platform", "variable"), [("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")])
def test_the_cache_a_variable_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, variable: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert user_cache() == tmp_path


@pytest.mark.parametrize(("platform", "expected"), [
    ("linux", ".cache"), ("win32", "AppData/Local"), ("darwin", "Library/Caches"),
])  # fmt: skip
def test_the_cache_in_the_home_and_without_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, expected: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert user_cache() == tmp_path / expected

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert user_cache() == Path(tempfile.gettempdir())
