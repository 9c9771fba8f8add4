"""Shards and indexes written to do harm: nothing runs, nothing outside is read, nothing is believed."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import socket
import tarfile
from pathlib import Path

import pytest

from mobilenets import transfer
from mobilenets.cli.main import main
from mobilenets.data.datasets import load_dataset
from mobilenets.data.shards import reading
from mobilenets.errors import DataError
from mobilenets.workflows.shard import shard

from .conftest import MakeTar, picture


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    for number in range(16):
        place = folder / "images" / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture(number))
    shard(folder / "images", folder / "shards", images_per_shard=4)
    return folder / "shards"


@pytest.fixture
def shards(written: Path, tmp_path: Path) -> Path:
    """A copy of them to damage."""
    return Path(shutil.copytree(written, tmp_path / "shards"))


NAMES = (
    *("';touch PWNED;'", ";touch PWNED;.tar", "pipe:touch PWNED", "$(touch PWNED).tar", "`touch PWNED`.tar"),
    *(
        "file:///etc/passwd",
        "http://127.0.0.1:1/x.tar",
        "s3://bucket/x.tar",
        "../shards/train-000000.tar",
        "/etc/passwd",
    ),
    *("a/../../x.tar", "{a..b}.tar", "train-*.tar", "train-?.tar", "[t]rain.tar", "a\nb.tar", "a\x1b[2J.tar", "", "."),
    *("..", "a//b.tar", "~/x.tar", "-.tar", "C:\\x.tar", "C:x.tar", "%2e%2e/x.tar", "x.tar#a", "a b.tar", "x" * 300),
)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("origin", [True, False], ids=["ours", "foreign"])
def test_names_in_an_index_lead_nowhere_else(
    shards: Path, monkeypatch: pytest.MonkeyPatch, name: str, origin: bool
) -> None:
    monkeypatch.chdir(shards.parent)
    index = json.loads((shards / "index.json").read_text())
    index["shards"][0]["name"] = name
    if not origin:
        index["origin"] = None
    (shards / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"index\.json names a shard .*: a name must be of letters") as caught:
        load_dataset(shards)
    assert str(caught.value).isprintable()
    assert not list(shards.parent.rglob("PWNED"))


def test_a_shard_below_the_indexs_folder_is_read(shards: Path) -> None:
    (shards / "deep").mkdir()
    (shards / "train-000000.tar").rename(shards / "deep" / "train-000000.tar")
    index = json.loads((shards / "index.json").read_text())
    index["shards"][0]["name"] = "deep/train-000000.tar"
    (shards / "index.json").write_text(json.dumps(index))
    assert load_dataset(shards).shards is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [("images", 10**18), ("images", 10**5000), ("images", -1), ("bytes", 0), ("images", float("nan"))],
    ids=range(5),
)
def test_counts_no_shard_has(shards: Path, field: str, value: float) -> None:
    index = json.loads((shards / "index.json").read_text())
    index["shards"][0][field] = "@"
    text = json.dumps(index).replace('"@"', "9" * 5000 if value == 10**5000 else json.dumps(value))
    (shards / "index.json").write_text(text)
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        load_dataset(shards)


@pytest.mark.parametrize("name", ["index.json", "train-000000.tar"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_not_waited_for(shards: Path, name: str, kind: str) -> None:
    (shards / name).unlink()
    if kind == "pipe":
        os.mkfifo(shards / name)
    else:
        (shards / name).symlink_to("/dev/zero")
    with pytest.raises(DataError, match=f"can't be read \\(it is a {kind}"):
        load_dataset(shards)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("0.png", tarfile.REGTYPE),
        ("0.cls", tarfile.REGTYPE),
        ("0.txt", tarfile.REGTYPE),
        ("././@LongLink", tarfile.GNUTYPE_LONGNAME),
        ("PaxHeaders/0.png", tarfile.XHDTYPE),
        ("PaxHeaders/g", tarfile.XGLTYPE),
    ],
)
def test_a_member_that_declares_8_gib_is_not_believed(tmp_path: Path, name: str, kind: bytes) -> None:
    class Endless:
        given = 0

        def read(self, size: int) -> bytes:
            content = header(name, 8 * 2**30, kind) if not self.given else bytes(size)
            self.given += len(content)
            return content

        def close(self) -> None:
            pass

    stream = Endless()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "open_address", lambda address: stream)
        with pytest.raises(DataError, match=r"is damaged \('.*' is declared to have 8,589,934,592 bytes, more than"):
            list(reading.read_shard("x.tar"))
    assert stream.given < 2**20


@pytest.mark.slow
def test_an_archive_that_grows_a_thousandfold_is_given_up(tmp_path: Path) -> None:
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb") as packed:
        for number in range(12):
            packed.write(header(f"{number}.bin", 8 * 2**20) + bytes(8 * 2**20))
    (tmp_path / "train.tar.gz").write_bytes(file.getvalue())
    with pytest.raises(DataError, match=r"is damaged \(it unpacks to more than 200 times its size\)"):
        list(reading.read_shard(str(tmp_path / "train.tar.gz")))


def test_sparse_files_and_headers_that_never_end(tmp_path: Path) -> None:
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(8 * 2**30)}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("0.png")
        member.pax_headers, member.size = sparse, 1024
        tar.addfile(member, io.BytesIO(b"1\n0\n4\n".ljust(1024, b"\0")))
    (tmp_path / "a.tar").write_bytes(file.getvalue())
    one = header("././@LongLink", 4, tarfile.GNUTYPE_LONGNAME) + b"abc\0".ljust(512, b"\0")
    (tmp_path / "b.tar").write_bytes(one * 5000)
    for name in "ab":
        with pytest.raises(DataError, match=rf"{name}\.tar is damaged") as caught:
            list(reading.read_shard(str(tmp_path / f"{name}.tar")))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", [b"[" * 100_000, b"9" * 5000, b'{"label": NaN}', b'"\\ud800"'], ids=range(4))
def test_labels_in_json_are_read_within_bounds(tmp_path: Path, make_tar: MakeTar, label: bytes) -> None:
    path = make_tar(tmp_path / "train.tar", [{"png": picture(0), "json": label}])
    with pytest.raises(DataError, match=r"the label of .* is no text"):
        list(reading.read_shard(str(path)))


def test_a_pattern_for_a_thousand_million_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="stands for more than 1,000,000 shards: check its braces"):
        load_dataset(f"{tmp_path}/train-{{000000000..999999999}}.tar")


def test_a_silent_server_is_said_and_not_taken_for_a_missing_index(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(transfer, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for data in (f"{address}/shards", f"{address}/train-0.tar"):
            with pytest.raises(DataError, match=r"index\.json can't be read \(nothing came for 0\.1 s\)"):
                load_dataset(data)


@pytest.mark.parametrize("seed", ["-1", str(2**63), "9" * 400])
def test_a_seed_no_generator_takes_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: str) -> None:
    assert main(["shard", "digits", "--out", str(tmp_path / "out"), "--seed", seed]) == 2
    assert "seed is" in (complaint := capsys.readouterr().err)
    assert complaint.count("\n") == 1
    assert not (tmp_path / "out").exists()
