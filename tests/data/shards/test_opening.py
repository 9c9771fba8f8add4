"""Shards are found by folder, pattern and URL; foreign ones are counted once; what is missing is said in one line."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mobilenets.data.shards.reading as reading
from mobilenets.data.datasets import Dataset, load_dataset
from mobilenets.data.decoding import TrainingDecoding
from mobilenets.data.held_out import cut_again, cut_validation, validation_record
from mobilenets.data.loader import Share
from mobilenets.data.shards.streaming import ShardImages
from mobilenets.data.training_pixels import read_training_pixels
from mobilenets.errors import DataError
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Silent, Update
from mobilenets.workflows.shard import shard

from .conftest import MakeTar, numbers, picture


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits in shards of 200."""
    folder = tmp_path_factory.mktemp("written") / "shards"
    shard("digits", folder, images_per_shard=200)
    return folder


@pytest.fixture
def shards(written: Path, tmp_path: Path) -> Path:
    """A copy of them to damage."""
    return Path(shutil.copytree(written, tmp_path / "shards"))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a web server for the test's folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def foreign(folder: Path, make_tar: MakeTar, names: list[str], each: int = 4) -> Path:
    """Shards of pictures 0, 1, 2, ... with classes 2 and 10 in turn, as webdataset's users write them."""
    folder.mkdir()
    for place, name in enumerate(names):
        made = range(place * each, place * each + each)
        make_tar(folder / name, [{"png": picture(one), "cls": b"10" if one % 2 else b"2\n"} for one in made])
    return folder


def not_counted(what: str, done: int, total: int) -> None:
    assert what != "counting shards"


def told(dataset: Dataset) -> str:
    return " ".join(dataset.notes)


@pytest.mark.slow
def test_a_folder_a_pattern_and_a_url_are_the_same_images(shards: Path, server: str) -> None:
    whole = load_dataset(shards)
    assert whole.shards is not None
    assert (len(whole.shards), len(whole.train), len(whole.test)) == (1438, 1438, 359)
    assert whole.classes == tuple("0123456789")
    assert whole.name == "shards"
    for data in (
        f"{shards}/train-{{000000..000007}}.tar",
        f"{server}/shards",
        f"{server}/shards/index.json",
        f"{server}/shards/train-{{000000..000007}}.tar",
    ):
        other = load_dataset(data)
        assert other.digest == whole.digest
        assert other.shards is not None
        ours, theirs = (ShardImages(one.shards, Preprocessing(8)) for one in (whole, other) if one.shards)
        for (pixels, labels), (others, truths) in zip(ours.epoch(1, 300), theirs.epoch(1, 300), strict=True):
            assert np.array_equal(pixels, others)
            assert np.array_equal(labels, truths)


def test_some_of_the_shards(shards: Path) -> None:
    some = load_dataset(f"{shards}/train-{{000002,000005}}.tar")
    assert some.shards is not None
    assert (len(some.shards), len(some.test)) == (400, 359)
    assert some.digest != load_dataset(shards).digest
    with pytest.raises(DataError, match=r"index\.json knows no shard train-000009\.tar; it has train-000000\.tar to"):
        load_dataset(f"{shards}/train-{{000002,000009}}.tar")


def test_a_sample_of_every_shard_where_all_is_too_much(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilenets.data.shards.shard_set.SAMPLE_IMAGES", 40)
    data = load_dataset(shards)
    assert len(data.train) == 40
    assert {source.name.rpartition("/")[0][-7:] for source in data.train.sources} == {f"{n:03d}.tar" for n in range(8)}
    assert "1,438 training images are streamed from 8 shards; what needs some of them at once" in told(data)
    assert "takes 40" in told(data)


def test_whole_shards_are_held_out_for_validation(shards: Path) -> None:
    data = load_dataset(shards)
    assert data.shards is not None
    rest, held = data.shards.held_out(0.25, seed=3)
    assert len(rest) + len(held) == 1438
    assert abs(len(held) - 0.25 * 1438) <= 100
    assert set(held.labels.tolist()) == set(range(10))
    again, same = data.shards.held_out(0.25, seed=3)
    assert again == rest
    assert [source.name for source in same.sources] == [source.name for source in held.sources]
    assert data.shards.parted(1e-9, 0)[1].shards
    assert data.shards.parted(1 - 1e-9, 0)[0].shards
    single = load_dataset(f"{shards}/train-000001.tar")
    assert single.shards is not None
    with pytest.raises(DataError, match=r"train-000001\.tar is the only training shard, .* `images_per_shard`"):
        single.shards.held_out(0.5, seed=0)


def test_validation_takes_shards_and_a_later_command_finds_the_same(shards: Path) -> None:
    data = load_dataset(shards)
    cut = cut_validation(data, 0.2)
    assert cut.shards is not None
    assert cut.validation is not None
    assert len(cut.shards) + len(cut.validation) == 1438
    names = {source.name for source in cut.validation.sources}
    assert names.isdisjoint(source.name for source in cut.train.sources)
    assert "of 8 training shards held out for validation" in told(cut)
    assert cut.digest == data.digest
    again, unknown = cut_again(data, {**validation_record(cut), "data_digest": data.digest})
    assert unknown is None
    assert again.validation is not None
    assert {source.name for source in again.validation.sources} == names
    one = cut_validation(load_dataset(f"{shards}/train-000001.tar"), 0.2)
    assert one.validation is None
    assert "no validation images: there is one training shard only" in one.notes


def test_training_may_decode_at_a_reduced_scale(tmp_path: Path, make_tar: MakeTar) -> None:
    content = io.BytesIO()
    Image.effect_noise((160, 120), 80).convert("RGB").save(content, "JPEG")
    for name in ("train.tar", "test.tar"):
        make_tar(tmp_path / name, [{"jpg": content.getvalue(), "cls": label} for label in (b"1", b"2")])
    data = load_dataset(tmp_path)
    assert data.shards is not None
    exact = ShardImages(data.shards, Preprocessing(24))
    reduced = exact.for_training(TrainingDecoding(reduced=True))
    assert (exact.decoded_by, reduced.decoded_by) == ("exactly", str(TrainingDecoding(reduced=True)))
    assert exact.for_training(TrainingDecoding(reduced=False)).decoded_by == "exactly"
    (ours, _), (theirs, _) = next(exact.epoch(0, 2)), next(reduced.epoch(0, 2))
    wanted = read_training_pixels(data.test.sources[0], Preprocessing(24), TrainingDecoding(reduced=True), np.zeros(0))
    assert np.array_equal(theirs[0], wanted)
    assert not np.array_equal(ours, theirs)
    half = next(reduced.epoch(0, 2, share=Share(1, 2)))[0]
    assert np.array_equal(half[0], theirs[1])


def test_missing_and_changed_shards_are_one_line(shards: Path) -> None:
    path = shards / "train-000003.tar"
    content = path.read_bytes()
    path.write_bytes(content[:-10240])
    with pytest.raises(DataError, match=r"train-000003\.tar has [\d,]+ bytes, not [\d,]+ as its index says"):
        load_dataset(shards)
    path.unlink()
    with pytest.raises(DataError, match=r"^shard \S+train-000003\.tar can't be read \(No such file or directory\)"):
        load_dataset(shards)
    (shards / "index.json").write_text((shards / "index.json").read_text()[:-200])
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        load_dataset(shards)


def test_a_damaged_shard_is_one_line(shards: Path) -> None:
    path = shards / "test-000000.tar"
    content = bytearray(path.read_bytes())
    content[1024 * 3 : 1024 * 3 + 512] = b"\xff" * 512  # a member's header
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"^\S+test-000000\.tar/\w+ has no image: the shard is damaged"):
        load_dataset(shards)


class Heard(Silent):
    """Hands on what is counted."""

    def __init__(self, update: Update) -> None:
        self.count = update

    def update(self, what: str, done: int, total: int) -> None:
        self.count(what, done, total)


def test_foreign_shards_are_counted_once(tmp_path: Path, make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = foreign(tmp_path / "theirs", make_tar, ["train-0.tar", "train-1.tar", "val-0.tar"])
    (folder / "index.json").write_text('{"wids_version": 1}')
    seen: list[tuple[str, int, int]] = []
    data = load_dataset(folder, progress=Heard(lambda *done: seen.append(done)))
    assert seen == [*(("counting shards", done, 3) for done in range(4)), ("copying images from shards", 4, 4)]
    assert data.classes == ("2", "10")
    assert data.shards is not None
    assert (len(data.shards), len(data.test)) == (8, 4)
    assert "the count is kept in" in told(data)
    found = [numbers(pixels)[0] for pixels, labels in ShardImages(data.shards, Preprocessing(2)).epoch(0, 1)]
    assert sorted(found) == list(range(8))

    monkeypatch.chdir(folder)
    again = load_dataset("{train-{0..1},val-0}.tar", progress=Heard(not_counted))
    assert again.digest == data.digest
    assert "counted" not in told(again)
    moved = folder.rename(tmp_path / "moved")
    assert load_dataset(moved, progress=Heard(not_counted)).digest == data.digest


def test_foreign_shards_without_test_shards_hold_some_out(tmp_path: Path, make_tar: MakeTar) -> None:
    folder = foreign(tmp_path / "theirs", make_tar, [f"part-{place}.tar" for place in range(5)])
    data = load_dataset(f"{folder}/part-{{0..4}}.tar")
    assert data.shards is not None
    assert (len(data.shards), len(data.test)) == (16, 4)
    assert "1 of 5 shards held out for testing, chosen with seed 0" in data.notes
    assert {source.name for source in data.train.sources}.isdisjoint(source.name for source in data.test.sources)
    with pytest.raises(DataError, match=r"part-0\.tar is a single shard: give shards to train on and"):
        load_dataset(folder / "part-0.tar")


def test_a_count_goes_to_the_users_cache_where_the_folder_is_read_only(
    tmp_path: Path, make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = foreign(tmp_path / "theirs", make_tar, ["train-0.tar", "test-0.tar"])
    monkeypatch.setattr(os, "access", lambda *asked: False)  # root, who may run tests, can write anywhere
    before = sorted(folder.iterdir())
    assert "/mobilenets/shards/" in told(load_dataset(folder))
    assert sorted(folder.iterdir()) == before


def test_foreign_shards_of_the_network_are_counted_into_the_users_cache(
    tmp_path: Path, make_tar: MakeTar, server: str
) -> None:
    foreign(tmp_path / "theirs", make_tar, ["train-0.tar", "train-1.tar", "test-0.tar"])
    data = load_dataset(f"{server}/theirs/{{train-{{0..1}},test-0}}.tar")
    assert f"the count is kept in {os.environ['XDG_CACHE_HOME']}/mobilenets/shards/" in told(data)
    again = load_dataset(f"{server}/theirs/{{train-{{0..1}},test-0}}.tar")
    assert again.digest == data.digest
    assert "counted" not in told(again)
    with pytest.raises(DataError, match=r"theirs/train-7\.tar can't be read \(404 File not found\)"):
        load_dataset(f"{server}/theirs/train-{{7..8}}.tar")
    with pytest.raises(DataError, match=r"nowhere has no index\.json of shards: name the shards, e\.g\."):
        load_dataset(f"{server}/nowhere")


def test_labels_in_json_and_as_names(tmp_path: Path, make_tar: MakeTar) -> None:
    records = [
        {"jpg": picture(0), "json": b'{"label": "dog", "width": 3}', "pyd": b"cos\nsystem\n(S'exit 1'\ntR."},
        {"jpg": picture(1), "json": b'"cat"'},
        {"left.png": picture(9), "png": picture(2), "cls": b"cat", "txt": b"a cat"},
    ]
    for name in ("train.tar", "test.tar"):
        make_tar(tmp_path / name, records)
    data = load_dataset(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.test.labels.tolist() == [1, 0, 0]
    assert [numbers(np.asarray(source.open())[None])[0] for source in data.test.sources] == [0, 1, 2]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"cls": b"1"}, "has no image: the shard is damaged, or not of JPEG or PNG files"),
        ({"png": b"x"}, "has no label, a .cls with its class or a .json with one of cls, label, class"),
        ({"png": b"x", "json": b'{"width": 3}'}, "has no label"),
        ({"png": b"x", "json": b"{"}, "is no text"),
        ({"png": b"x", "cls": b"\xff"}, "is no text"),
    ],
)
def test_records_that_can_not_be_learned_from(
    tmp_path: Path, make_tar: MakeTar, record: dict[str, bytes], reason: str
) -> None:
    for name in ("train.tar", "test.tar"):
        make_tar(tmp_path / name, [{"png": picture(0), "cls": b"1"}, record])
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path)
    assert reason in str(caught.value)
    assert "/0001" in str(caught.value)


def test_other_things_that_can_not_be_used(tmp_path: Path, make_tar: MakeTar) -> None:
    make_tar(tmp_path / "train.tar", [])
    with pytest.raises(DataError, match=r"^shard \S+nowhere\.tar can't be read \(No such file or directory\)"):
        load_dataset(tmp_path / "nowhere.tar")
    with pytest.raises(DataError, match=r"its braces do not match"):
        load_dataset(f"{tmp_path}/train-{{0..1.tar")
    with pytest.raises(DataError, match=r"names a shard twice"):
        load_dataset(f"{tmp_path}/{{train,train}}.tar")
    make_tar(tmp_path / "test.tar", [{"png": picture(0), "cls": b"1"}])
    with pytest.raises(DataError, match=r"(test|train)\.tar is (empty|damaged)"):
        load_dataset(tmp_path)
    make_tar(tmp_path / "train.tar", [{"png": picture(0), "cls": b"1"}])
    with pytest.raises(DataError, match=r"the shards have one class only \(1\)"):
        load_dataset(tmp_path)
    (tmp_path / "test.tar").unlink()
    (tmp_path / "index.part.jsonl").write_text("")
    with pytest.raises(DataError, match=r"is not sharded to its end: give the same 'mobilenets shard' again"):
        load_dataset(tmp_path)


def test_packages_keep_their_names_and_other_strings_their_errors(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shards.rename(tmp_path / "digits")
    assert load_dataset("digits").shards is None
    assert load_dataset("./digits").shards is not None
    for data in ("", "~no-user-of-that-name/x", "a\0b"):
        with pytest.raises(DataError, match="give digits, cifar10"):
            load_dataset(data)


def test_a_tar_beside_folders_of_images_is_no_shard(tmp_path: Path, make_tar: MakeTar) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for place in range(2):
            (tmp_path / name / f"{place}.png").write_bytes(picture(place))
    make_tar(tmp_path / "download.tar", [])
    assert load_dataset(tmp_path).shards is None


@pytest.mark.parametrize(("scheme", "command"), [("s3", ["aws", "s3", "cp"]), ("gs", ["gsutil", "cat"])])
def test_other_addresses_are_read_by_their_own_commands_without_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_tar: MakeTar, scheme: str, command: list[str]
) -> None:
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=rf"shard {scheme}://bucket/train-1\.tar can't be read \({command[0]}, which"):
        load_dataset(f"{scheme}://bucket/train-{{1..2}}.tar")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{path}")
    tar = make_tar(tmp_path / "t.tar", [{"png": picture(one), "cls": b"12"[one : one + 1]} for one in (0, 1)])
    program = tmp_path / command[0]
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >> {tmp_path}/asked\ncase $* in *.tar*) cat {tar};; esac\n")
    program.chmod(0o755)
    odd = f"{scheme}://bucket/$(touch {tmp_path}/PWNED)';touch {tmp_path}/PWNED;'.tar"
    assert [record.label for record in reading.read_shard(odd)] == ["1", "2"]
    told = [*command[1:], odd] + (["-"] if scheme == "s3" else [])
    assert (tmp_path / "asked").read_text().splitlines() == told
    assert not (tmp_path / "PWNED").exists()
    program.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(DataError, match=rf"can't be read \({command[0]} gave up with code 3\)"):
        list(reading.read_shard(f"{scheme}://bucket/a.tar"))


@pytest.mark.slow
def test_webdataset_itself_reads_what_is_written(shards: Path) -> None:
    # In a process of its own, for it leaves files open.
    program = (
        "import sys, json, webdataset\n"
        "samples = webdataset.WebDataset(sys.argv[1], shardshuffle=False)\n"
        "print(json.dumps([int(one['cls']) for one in samples if one['png'][1:4] == b'PNG']))\n"
    )
    pattern = f"{shards}/train-{{000000..000007}}.tar"
    done = subprocess.run([sys.executable, "-c", program, pattern], capture_output=True, text=True, check=True)
    labels = json.loads(done.stdout)
    data = load_dataset(shards)
    assert data.shards is not None
    assert tuple(np.bincount(labels).tolist()) == data.shards.class_counts
    with pytest.raises(DataError, match="names no train shards"):
        load_dataset(shards / "test-000000.tar")
