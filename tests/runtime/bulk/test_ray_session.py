"""Reaching Ray: what goes wrong is one line, soon. `test_many` has the session that works."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

import pytest
from ray_processes import needs_ray

from mobilenets.errors import ClusterError, MissingExtraError
from mobilenets.install import install_line
from mobilenets.runtime.bulk.session import ray_session, scratch_folder


def test_ray_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=re.escape(install_line("cluster"))), ray_session(None, tmp_path):
        pass


@needs_ray
@pytest.mark.parametrize("address", ["nonsense", "host:port", "ray://", "ray://host:x", ":1"])
def test_what_is_no_address(tmp_path: Path, address: str) -> None:
    with (
        pytest.raises(ClusterError, match=r"an address is auto, HOST:PORT or ray://HOST:PORT"),
        ray_session(address, tmp_path),
    ):
        pass


@needs_ray
@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_no_one_listens(tmp_path: Path, form: str) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = form.format(f"127.0.0.1:{one.getsockname()[1]}")
        with (
            pytest.raises(ClusterError, match=r"no Ray cluster answers .*refused") as caught,
            ray_session(address, tmp_path),
        ):
            pass
    assert str(caught.value).startswith(f"{address}: ")


@pytest.mark.slow
@needs_ray
def test_something_else_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilenets.runtime.bulk.session._HEALTH_SECONDS", 0.5)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        address = f"127.0.0.1:{one.getsockname()[1]}"
        with pytest.raises(ClusterError, match="what listens there is no Ray"), ray_session(address, tmp_path):
            pass


def test_jobs_have_temporary_folders_of_their_own_with_short_names(tmp_path: Path) -> None:
    assert scratch_folder(tmp_path / "a") != scratch_folder(tmp_path / "b")
    assert len(str(scratch_folder(tmp_path / ("long" * 50)))) < 50
