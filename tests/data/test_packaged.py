"""Digits from scikit-learn; CIFAR-10 from a local copy, a local server, and nowhere."""

import hashlib
import io
import pickle
import socket
import tarfile
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10

from mobilenets.data.datasets import find_cifar10
from mobilenets.data.packaged import default_data_root, fetch_cifar10, read_cifar10, read_digits
from mobilenets.errors import DataError

CLASSES = ["cat", "dog"]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class OldPickle:
    """Warns when unpickled, as NumPy 2.4 does over the published files."""

    def __reduce__(self) -> tuple[object, ...]:
        message = "dtype(): align should be passed as Python or NumPy boolean but got `align=0`."
        return warnings.warn, (message, np.exceptions.VisibleDeprecationWarning)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tiny CIFAR-10 of 2 x 4 training and 4 test images, on a server of our own; gives the served folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "*")
    files = {"batches.meta": pickle.dumps({"label_names": CLASSES})}
    for number, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        pixels = np.full((4, 3072), number * 50, np.uint8)
        pixels[:, :1024] = 7  # the red plane comes first
        files[name] = pickle.dumps({"data": pixels, "labels": [0, 1, 0, 1], "old": OldPickle()})
    with tarfile.open(folder / CIFAR10.filename, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in files if name.startswith("data")])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((folder / CIFAR10.filename).read_bytes()).hexdigest())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{CIFAR10.filename}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_digits_are_the_scans_at_full_contrast() -> None:
    classes, images = read_digits()
    bunch = load_digits()
    assert classes == tuple("0123456789")
    assert len(images) == 1797
    assert np.array_equal(images.labels, bunch.target)
    found = np.asarray(images.sources[5].open())
    assert found.shape == (8, 8, 3)
    assert np.array_equal(found[:, :, 0], np.rint(bunch.images[5] * 255 / 16))
    assert len({source.name for source in images.sources}) == 1797
    assert images.sources[5].read_size() == (8, 8)


def test_the_download_is_used_and_not_repeated(served: Path, tmp_path: Path) -> None:
    root = tmp_path / "cache" / "mobilenets"
    classes, train, test = fetch_cifar10(root)
    assert classes == tuple(CLASSES)
    assert (len(train), len(test)) == (8, 4)
    assert train.labels.tolist() == [0, 1] * 4
    assert train.sources[4].name == "train/cat/00004"
    assert train.sources[4].open().getpixel((31, 31)) == (7, 50, 50)
    assert test.sources[0].open().getpixel((0, 0)) == (7, 100, 100)
    (served / CIFAR10.filename).unlink()
    assert len(fetch_cifar10(root)[1]) == 8
    assert find_cifar10(root) == root
    assert find_cifar10(root / CIFAR10.base_folder) == root
    assert find_cifar10(tmp_path) is None
    assert len(read_cifar10(root)[2]) == 4


def test_an_archive_put_there_by_hand_is_enough(served: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (served / CIFAR10.filename).rename(root / CIFAR10.filename)
    assert len(fetch_cifar10(root)[1]) == 8


def test_a_damaged_download(served: Path, tmp_path: Path) -> None:
    archive = served / CIFAR10.filename
    archive.write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cifar10 arrived damaged .* try again, or put http://127"):
        fetch_cifar10(tmp_path / "root")


def test_a_damaged_copy(served: Path, tmp_path: Path) -> None:
    fetch_cifar10(tmp_path)
    (tmp_path / CIFAR10.base_folder / "test_batch").write_bytes(b"x")
    with pytest.raises(DataError, match=r"cifar-10-batches-py is damaged or incomplete .* remove it"):
        read_cifar10(tmp_path)


def test_no_such_file_on_the_server(served: Path, tmp_path: Path) -> None:
    (served / CIFAR10.filename).unlink()
    with pytest.raises(DataError, match=r"cifar10 can't be downloaded \(File not found\): put http"):
        fetch_cifar10(tmp_path / "root")


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DataError) as caught:
        fetch_cifar10(tmp_path / "root")
    message = str(caught.value)
    assert "\n" not in message
    assert "cifar10 can't be downloaded" in message
    assert f"put {CIFAR10.url} into {tmp_path / 'root'}, or set MOBILENETS_DATA" in message


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cifar10 can't be downloaded"):
        fetch_cifar10(tmp_path / "file" / "root")


def test_where_downloads_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOBILENETS_DATA", str(tmp_path))
    assert default_data_root() == tmp_path
    monkeypatch.delenv("MOBILENETS_DATA")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_data_root() == tmp_path / "cache" / "mobilenets"
