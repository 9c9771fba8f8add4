"""Downloads, from a server in this process: no test reaches beyond this machine."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from mobilenets import transfer
from mobilenets.errors import ModelError, WeightsError
from mobilenets.models.registry import create_model
from mobilenets.models.weights import fetch, load
from mobilenets.models.weights.fetch import HASH_HEADER, MIRROR_VARIABLE, cached_path, fetch_published
from mobilenets.models.weights.published import PublishedWeights, published_weights

from .conftest import Reference

CONTENT = b"a network's weights " * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What it has, what it says of it, and what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    redirect: bool = False
    cut: int = 0
    parts: bool = False
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            begin = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if state.parts else 0
            state.asked.append(f"{self.command} {self.path}" + f" from {begin}" * (begin > 0))
            content = state.files.get(self.path.rpartition("/")[2])
            if content is None:
                self.send_error(404)
                return
            moved = state.redirect and not self.path.startswith("/elsewhere/")
            self.send_response(302 if moved else 206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
                content, state.cut = content[begin:], 0
            for name, value in {} if self.path.startswith("/elsewhere/") else state.headers.items():
                self.send_header(name, value)
            if moved:
                self.send_header("Location", f"{state.address}/elsewhere{self.path}")
            self.send_header("Content-Length", "0" if moved else str(len(content)))
            self.end_headers()
            if body and not moved:
                self.wfile.write(content[: len(content) - state.cut])

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.address = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)


RELEASED = replace(published_weights("mobilenet_v2", 1.0), file=f"mobilenet_v2-{DIGEST[:8]}.pth")
HUB = published_weights("mobilenet_v1", 1.0)


def failure(published: PublishedWeights, mirror: str) -> str:
    with pytest.raises(WeightsError) as caught:
        fetch_published(published, mirror=mirror)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_downloaded_once_checked_and_kept(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.files[RELEASED.file] = CONTENT
    path = fetch_published(RELEASED, mirror=server.address)
    assert path == cached_path(RELEASED)
    assert path.read_bytes() == CONTENT
    assert f"downloading {server.address}/{RELEASED.file}" in capsys.readouterr().err
    assert fetch_published(RELEASED, mirror="http://127.0.0.1:1") == path
    assert server.asked == [f"GET /{RELEASED.file}"]


def test_a_damaged_download_is_refused_and_removed(server: Server) -> None:
    server.files[RELEASED.file] = b"!" + CONTENT[1:]
    message = failure(RELEASED, server.address)
    assert "arrived damaged" in message
    assert f"download {RELEASED.url} and put it at {cached_path(RELEASED)}" in message
    assert list(cached_path(RELEASED).parent.iterdir()) == []


def test_a_download_that_breaks_off_is_taken_up_a_few_times(server: Server) -> None:
    server.files[RELEASED.file] = CONTENT
    server.cut = 500
    assert "the transfer broke off, 500 bytes before its end" in failure(RELEASED, server.address)
    assert server.asked == [f"GET /{RELEASED.file}"] * 3
    assert list(cached_path(RELEASED).parent.iterdir()) == []
    server.cut, server.parts = 15000, True
    assert fetch_published(RELEASED, mirror=server.address).read_bytes() == CONTENT
    assert server.asked[3:] == [f"GET /{RELEASED.file}", f"GET /{RELEASED.file} from 5000"]


@pytest.mark.parametrize("mirror", ["nonsense", "file:///etc", "ftp://server/x", "http://", "http://a b", "pipe:ls"])
def test_a_mirror_that_is_no_address(mirror: str) -> None:
    message = failure(RELEASED, mirror)
    assert "is no address to download from" in message
    assert message.endswith(f"check {MIRROR_VARIABLE}")


def test_a_file_larger_than_any_published_is_not_downloaded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files[RELEASED.file] = CONTENT
    monkeypatch.setattr(fetch, "MAX_BYTES", 1000)
    assert "it has 20,000 bytes, more than the 1,000 of any published file" in failure(RELEASED, server.address)
    assert list(cached_path(RELEASED).parent.iterdir()) == []


@pytest.mark.slow
def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for published in (RELEASED, HUB):
            message = failure(published, f"http://127.0.0.1:{silent.getsockname()[1]}")
            assert "can't be downloaded (nothing came for 0.1 s)" in message


def test_a_pipe_in_the_cache_is_not_waited_for() -> None:
    path = cached_path(RELEASED)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert "can't be read (it is a pipe" in failure(RELEASED, "http://127.0.0.1:1")


def test_a_damaged_file_in_the_cache_is_refused_and_removed(server: Server) -> None:
    path = cached_path(RELEASED)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    assert f"{path} was damaged" in failure(RELEASED, server.address)
    assert not path.exists()
    server.files[RELEASED.file] = CONTENT
    assert fetch_published(RELEASED, mirror=server.address) == path


def test_a_missing_file_and_no_network_say_what_to_put_where(server: Server) -> None:
    for mirror, reason in ((server.address, "Not Found"), ("http://127.0.0.1:1", "refused")):
        for published in (RELEASED, HUB):
            message = failure(published, mirror)
            assert reason in message
            assert message.endswith(f"download {published.url} and put it at {cached_path(published)}")


@pytest.mark.parametrize("redirect", [False, True])
def test_hugging_face_states_the_hash_which_is_kept_for_later(server: Server, redirect: bool) -> None:
    server.files[HUB.file], server.redirect = CONTENT, redirect
    server.headers["X-Linked-ETag"] = f'"{DIGEST}"'
    path = fetch_published(HUB, mirror=server.address)
    assert path.read_bytes() == CONTENT
    server.files.clear()
    assert fetch_published(HUB, mirror=server.address) == path
    path.write_bytes(CONTENT[:-1])
    assert "was damaged" in failure(HUB, server.address)
    assert list(path.parent.iterdir()) == []


def test_a_file_unlike_the_stated_hash_or_without_one_is_refused(server: Server) -> None:
    server.files[HUB.file] = CONTENT
    message = failure(HUB, server.address)
    assert "states no SHA-256" in message
    assert message.endswith(f"download {HUB.url} and put it at {cached_path(HUB)}")
    server.headers["X-Linked-ETag"] = '"' + "0" * 64 + '"'
    assert "arrived damaged" in failure(HUB, server.address)
    assert list(cached_path(HUB).parent.iterdir()) == []


def test_one_put_there_by_hand_is_taken_as_it_is() -> None:
    path = cached_path(HUB)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch_published(HUB, mirror="http://127.0.0.1:1") == path


def test_create_model_downloads_what_a_release_publishes(
    server: Server, monkeypatch: pytest.MonkeyPatch, torchvision_network: Reference
) -> None:
    """All of the way but the address: torchvision's file, whose name begins its hash."""
    theirs = torchvision_network("mobilenet_v2")
    buffer = io.BytesIO()
    torch.save(theirs.state_dict(), buffer)
    content = buffer.getvalue()
    file = f"mobilenet_v2-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    row = replace(published_weights("mobilenet_v2", 1.0), file=file, url=f"{server.address}/models/{file}")
    monkeypatch.setattr(load, "published_weights", lambda model, width_mult: row)
    server.files[file] = content[:-1] + b"!"
    with pytest.raises(WeightsError, match="arrived damaged"):
        create_model("mobilenet_v2", weights="imagenet")
    server.files[file] = content
    for _ in range(2):  # downloaded, then cached
        model = create_model("mobilenet_v2", num_classes=10, weights="imagenet")
        assert torch.equal(model.classifier.weight, theirs.state_dict()["classifier.1.weight"])
        server.files.clear()


def test_create_model_asks_the_mirror_of_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch, timm_network: Reference
) -> None:
    theirs = timm_network("mobilenetv1_100")
    published = published_weights("mobilenet_v1", 1.0)
    monkeypatch.setenv(MIRROR_VARIABLE, f"{server.address}/")
    with pytest.raises(WeightsError, match="Not Found"):
        create_model("mobilenet_v1", weights="imagenet")
    server.files[published.file] = content = save(theirs.state_dict())
    server.headers[HASH_HEADER] = hashlib.sha256(content).hexdigest()
    model = create_model("mobilenet_v1", num_classes=10, weights="imagenet")
    assert torch.equal(model.classifier.weight, theirs.state_dict()["classifier.weight"])
    assert model.config.options["norm_eps"] == 1e-5
    assert server.asked == [f"HEAD /{published.file}"] * 2 + [f"GET /{published.file}"]


@pytest.mark.parametrize("wrong", [{"width_mult": "wide"}, {"width_mult": None}, {"num_classes": -1}])
def test_arguments_are_checked_before_anything_is_downloaded(
    server: Server, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, object]
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, server.address)
    with pytest.raises(ModelError, match=next(iter(wrong))):
        create_model("mobilenet_v2", weights="imagenet", **wrong)  # type: ignore[arg-type]
    assert server.asked == []


@pytest.mark.parametrize("content", [b"", b"\xff", b"ab", None])
def test_a_kept_hash_that_is_none_is_not_taken_for_any(content: bytes | None, server: Server) -> None:
    path = cached_path(HUB)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    kept = path.with_name(f"{path.name}.sha256")
    os.mkfifo(kept) if content is None else kept.write_bytes(content)
    assert f"{kept} holds no SHA-256: remove it and {path}" in failure(HUB, server.address)
    assert path.exists()
