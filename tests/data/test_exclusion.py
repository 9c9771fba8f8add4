from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilenets.data.datasets import load_dataset
from mobilenets.data.sources import read_exclusions, write_exclusions
from mobilenets.errors import DataError

MakeFolder = Callable[[dict[str, int]], Path]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    listed = {"train/cat/1.jpg": "the same picture as train/cat/0.jpg", "train/dog/ü 2.png": "empty file (0 bytes)"}
    write_exclusions(tmp_path / "exclude.txt", listed, "2 of 9 images")
    assert read_exclusions(tmp_path / "exclude.txt") == listed
    (tmp_path / "by-hand.txt").write_text("a/1.png\n\n# b/2.png\nc/3.png\r\n")
    assert read_exclusions(tmp_path / "by-hand.txt") == {"a/1.png": "", "c/3.png": ""}


@settings(max_examples=25, deadline=None)  # each is written to the disk
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(), max_size=5))
def test_any_name_survives_being_listed(listed: dict[str, str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "exclude.txt"
        write_exclusions(path, listed, "about")
        assert list(read_exclusions(path)) == list(listed)


def test_editors_may_mark_the_list_and_a_broken_quote_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "exclude.txt"
    path.write_text("a/1.png\n", encoding="utf-8-sig")
    assert read_exclusions(path) == {"a/1.png": ""}
    path.write_text('# about\n"#1/a.png"\tdouble\n"b.png\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"exclude\.txt, line 3: \"b\.png begins with a quote"):
        read_exclusions(path)


def test_listed_images_are_left_out_of_the_split_that_was_and_said(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder({"cat": 10, "dog": 10})
    whole = load_dataset(folder)
    names = [whole.train.sources[0].name, whole.test.sources[-1].name]
    write_exclusions(tmp_path / "list.txt", dict.fromkeys(names, "bad"), "about")
    left = load_dataset(folder, exclude=tmp_path / "list.txt")
    assert [source.name for source in left.train.sources] == [source.name for source in whole.train.sources[1:]]
    assert [source.name for source in left.test.sources] == [source.name for source in whole.test.sources[:-1]]
    assert left.train.labels.tolist() == whole.train.labels[1:].tolist()
    assert left.notes[-1] == "2 images left out, as list.txt lists them"
    assert left.digest != whole.digest


def test_a_list_for_other_images_is_refused_with_a_name(make_folder: MakeFolder, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("cat/0.png\nmoved/1.png\nmoved/2.png\n")
    with pytest.raises(DataError, match=r"list\.txt lists moved/1\.png and 1 more, not among the images"):
        load_dataset(make_folder({"cat": 5, "dog": 5}), exclude=tmp_path / "list.txt")
    with pytest.raises(DataError, match="no such list; 'mobilenets doctor DATA --fix' writes one"):
        load_dataset("digits", exclude=tmp_path / "missing.txt")


def test_a_list_that_empties_a_class_is_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder({"cat": 3, "dog": 5})
    cats = [source.name for source in load_dataset(folder).train.sources if "cat" in source.name]
    write_exclusions(tmp_path / "list.txt", dict.fromkeys(cats, "bad"), "about")
    with pytest.raises(DataError, match=r"class cat has none to train on: add good ones"):
        load_dataset(folder, exclude=tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('"a\x0bb.png\n', 'u000bb.png" begins with a quote'),
        ('"' + "[" * 10, "begins with a quote and is no JSON text"),
        ('"\\ud800"', "half a letter"),
    ],
)
def test_odd_names_are_refused_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "list").write_text(content)
    with pytest.raises(DataError) as caught:
        read_exclusions(tmp_path / "list")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("link", [False, True])
def test_a_pipe_is_not_waited_for(tmp_path: Path, link: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"is no list of images \(it is a pipe"):
        read_exclusions(tmp_path / ("link" if link else "pipe"))
