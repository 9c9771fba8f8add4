"""Images out of zips, and zips that are not what they should be."""

import os
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mobilenets.data.archives as archives
from mobilenets.data.archives import ZipArchive, read_zip
from mobilenets.data.datasets import load_dataset
from mobilenets.data.layout import find_layout
from mobilenets.errors import BadImagesError, DataError

Png = Callable[..., bytes]
MakeZip = Callable[[dict[str, bytes]], Path]


def test_a_zip_is_read_without_junk(make_zip: MakeZip, png: Png) -> None:
    path = make_zip({
        "pets/": b"", "pets/cat/": b"", "pets/cat/1.png": png(1), "pets/dog/2.png": png(2), "pets/readme.txt": b"x",
        "__MACOSX/pets/cat/._1.png": b"x", "pets/.DS_Store": b"x", "pets/dog/Thumbs.db": b"x",
    })  # fmt: skip
    tree = read_zip(path)
    assert [parts for parts, _ in tree.files] == [("pets", "cat", "1.png"), ("pets", "dog", "2.png")]
    assert tree.folders == {("pets",), ("pets", "cat"), ("pets", "dog")}
    assert tree.ignored == [("pets", "readme.txt")]
    source = tree.files[1][1]
    assert (source.name, source.size) == ("pets/dog/2.png", len(png(2)))
    assert source.open().getpixel((0, 0)) == (2, 100, 200)
    assert source.read_size() == (8, 8)


def test_a_wrapped_zip_gives_its_classes(make_zip: MakeZip, png: Png) -> None:
    path = make_zip({f"pets-main/{name}/{index}.png": png() for name in ("cat", "dog") for index in range(2)})
    assert find_layout(read_zip(path)).classes == ("cat", "dog")


def test_an_empty_class_folder_in_a_zip(make_zip: MakeZip, png: Png) -> None:
    path = make_zip({"cat/1.png": png(), "cat/2.png": png(), "dog/": b""})
    with pytest.raises(DataError, match=r"class folder .*pets\.zip/dog is empty"):
        find_layout(read_zip(path))


def test_backslashes_and_climbing_names(make_zip: MakeZip, png: Png) -> None:
    path = make_zip({"cat\\1.png": png(1), "../dog/2.png": png(2), "/emu//3.png": png(3)})
    tree = read_zip(path)
    assert [parts for parts, _ in tree.files] == [("cat", "1.png"), ("dog", "2.png"), ("emu", "3.png")]
    assert [source.open().getpixel((0, 0))[0] for _, source in tree.files] == [1, 2, 3]  # type: ignore[index]


def test_of_members_with_the_same_name_the_last_counts(tmp_path: Path, png: Png) -> None:
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat/1.png", png(1))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("cat/1.png", png(2))
    ((_, source),) = read_zip(path).files
    assert source.open().getpixel((0, 0)) == (2, 100, 200)


def test_many_threads_read_one_archive(make_zip: MakeZip, png: Png) -> None:
    tree = read_zip(make_zip({f"cat/{index:03d}.png": png(index) for index in range(200)}))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda item: item[1].open().getpixel((0, 0))[0], list(tree.files) * 5))
    assert found == [*range(200)] * 5


def test_a_damaged_zip(make_zip: MakeZip, png: Png, tmp_path: Path) -> None:
    whole = make_zip({"cat/1.png": png()}).read_bytes()
    for content in (b"", b"PK\x03\x04 not really", whole[: len(whole) // 2]):
        path = tmp_path / "broken.zip"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"broken\.zip is no readable zip .* get it anew"):
            read_zip(path)
    with pytest.raises(DataError, match=r"none\.zip can't be opened"):
        ZipArchive(tmp_path / "none.zip")


def test_a_damaged_member(make_zip: MakeZip, png: Png) -> None:
    path = make_zip({"cat/1.png": png()})
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(bytes(content))
    ((_, source),) = read_zip(path).files
    with pytest.raises(BadImagesError, match=r"pets\.zip/cat/1\.png: damaged in the zip"):
        source.open()


def test_a_broken_picture_in_a_whole_zip(make_zip: MakeZip, png: Png) -> None:
    ((_, source),) = read_zip(make_zip({"cat/1.png": png()[:50]})).files
    with pytest.raises(BadImagesError, match=r"pets\.zip/cat/1\.png: (truncated|damaged)"):
        source.open()


def test_an_encrypted_zip(make_zip: MakeZip, png: Png) -> None:
    path = make_zip({"cat/1.png": png()})
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 8] |= 0x1  # the flag that says so; Python can't write encrypted zips
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"pets\.zip is encrypted \(cat/1\.png\): unpack it"):
        read_zip(path)


def test_an_unknown_packing_method(make_zip: MakeZip, png: Png) -> None:
    path = make_zip({"cat/1.png": png()})
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 10, 97)  # WavPack, of all things
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="packed by method 97"):
        read_zip(path)


def test_a_packing_method_that_unpacks_without_a_bound(tmp_path: Path, png: Png) -> None:
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("cat/1.png", png())
    with pytest.raises(DataError, match=r"packed by method 14, .* unpack it and give the folder"):
        read_zip(path)


def test_a_bomb_that_lies_about_its_size(make_zip: MakeZip) -> None:
    path = make_zip({"cat/bomb.png": b"\0" * (64 * 2**20)})
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 100)  # the size it claims to unpack to
    path.write_bytes(bytes(content))
    ((_, bomb),) = read_zip(path).files
    tracemalloc.start()
    try:
        with pytest.raises(BadImagesError, match=r"bomb\.png: damaged in the zip"):
            bomb.open()
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_utf_8_names_that_do_not_say_so(make_zip: MakeZip, png: Png) -> None:
    path = make_zip({"köter/größe.png": png(1), "zebra/\N{LATIN SMALL LETTER E WITH ACUTE}.png": png(2)})
    content = path.read_bytes()
    assert content.count(b"\x00\x08\x08\x00") == 4  # flags and method of two members, each written twice
    path.write_bytes(content.replace(b"\x00\x08\x08\x00", b"\x00\x00\x08\x00"))
    tree = read_zip(path)
    assert [parts for parts, _ in tree.files] == [("köter", "größe.png"), ("zebra", "é.png")]
    assert tree.files[0][1].open().getpixel((0, 0)) == (1, 100, 200)


def test_dos_names_stay_as_they_are(make_zip: MakeZip, png: Png) -> None:
    path = make_zip({"k@ter/1.png": png()})
    path.write_bytes(path.read_bytes().replace(b"k@ter", b"k\x94ter"))
    assert [parts for parts, _ in read_zip(path).files] == [("köter", "1.png")]


def test_an_absurdly_large_member(make_zip: MakeZip, png: Png, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 2**20)
    path = make_zip({"cat/bomb.png": b"\0" * (5 * 2**20), "cat/fine.png": png()})
    assert path.stat().st_size < 10_000
    (_, bomb), (_, fine) = read_zip(path).files
    with pytest.raises(BadImagesError, match=r"bomb\.png: too large: 5 MiB unpacked, more than 1 MiB allowed"):
        bomb.open()
    assert fine.read_size() == (8, 8)


def _zip(path: Path, names: Sequence[str], content: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, content)
    return path


def test_paths_of_thousands_of_folders_are_refused_before_they_are_taken_apart(tmp_path: Path) -> None:
    path = _zip(tmp_path / "deep.zip", ["a/" * 20_000 + "1.png"])
    tracemalloc.start()
    with pytest.raises(DataError, match=r"deep\.zip has a member more than 64 folders deep"):
        read_zip(path)
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()
    for number, separator in enumerate("/\\"):
        with pytest.raises(DataError, match="more than 64 folders deep"):
            read_zip(_zip(tmp_path / f"{number}.zip", [separator.join("ab" * 40)]))


def test_members_that_share_their_bytes_are_a_bomb(tmp_path: Path) -> None:
    path = _zip(tmp_path / "bomb.zip", [f"a/{number}.png" for number in range(3)], bytes(10_000))
    content = bytearray(path.read_bytes())
    places = [found.start() for found in re.finditer(b"PK\x01\x02", content)]
    content[places[1] + 42 : places[1] + 46] = content[places[0] + 42 : places[0] + 46]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bomb\.zip is no sound zip \(a/.\.png overlaps another or grows"):
        read_zip(path)


@pytest.mark.parametrize(("place", "value"), [(24, 2**31), (20, 2**31), (42, 2**31)], ids=["size", "packed", "offset"])
def test_sizes_no_zip_has_are_refused(tmp_path: Path, place: int, value: int) -> None:
    path = _zip(tmp_path / "lies.zip", ["a/1.png", "b/1.png"])
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02")
    content[start + place : start + place + 4] = value.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"lies\.zip is no"):
        read_zip(path)


def test_folders_beyond_counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilenets.data.archives.MAX_FOLDERS", 5)
    with pytest.raises(DataError, match="has more than 5 folders"):
        read_zip(_zip(tmp_path / "wide.zip", [f"{number}/1.png" for number in range(6)]))


@pytest.mark.parametrize("link", [False, True])
def test_a_pipe_is_no_zip_and_is_not_waited_for(tmp_path: Path, link: bool) -> None:
    os.mkfifo(tmp_path / "a.zip")
    (tmp_path / "b.zip").symlink_to(tmp_path / "a.zip")
    path = tmp_path / ("b.zip" if link else "a.zip")
    for read in (read_zip, load_dataset):
        with pytest.raises(DataError, match="it is a pipe"):
            read(path)  # type: ignore[operator]
