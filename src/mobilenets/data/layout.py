"""What a folder or a zip holds: a plain folder of classes, or one with `train/` and `test/` (or `val/`).

Both are read into an `ImageTree` first, so that the rules, and the messages when they are broken, are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import numpy as np

from mobilenets.data.sources import FileSource, ImageSource, ImageSplit
from mobilenets.errors import DataError
from mobilenets.formatting import decodable, printable
from mobilenets.image_folders import FolderEntry, LeftOut, list_folder
from mobilenets.images import MAX_PIXELS

Parts = tuple[str, ...]
"""A path below the data set's folder: `("train", "cat", "1.jpg")`."""

_TRAIN: Final = ("train", "training")
_TEST: Final = ("test", "testing")
_VAL: Final = ("val", "valid", "validation")


@dataclass(frozen=True)
class ImageTree:
    """The image files below a folder, junk left out.

    Attributes:
        root: what messages call the folder.
        files: each image's path below `root`, and the image.
        folders: every folder below `root`, empty ones too.
        ignored: paths of files that are no images by their extension, and of what is no file.
        special: what those are that are no file: `pipe`, `socket`, `device`.
    """

    root: str
    files: Sequence[tuple[Parts, ImageSource]]
    folders: frozenset[Parts]
    ignored: Sequence[Parts] = ()
    special: Mapping[Parts, str] = field(default_factory=dict)

    def children(self) -> list[str]:
        """Return the names of the folders at the top, sorted as torchvision's `ImageFolder` sorts classes."""
        return sorted({parts[0] for parts in self.folders})

    def loose(self) -> int:
        """Return how many images lie at the top, in no folder."""
        return sum(len(parts) == 1 for parts, _ in self.files)

    def loose_names(self) -> list[str]:
        """Return the names of these images."""
        return [source.name for parts, source in self.files if len(parts) == 1]

    def child(self, name: str) -> ImageTree:
        """Return the tree below one folder at the top."""
        files = [(parts[1:], source) for parts, source in self.files if len(parts) > 1 and parts[0] == name]
        folders = frozenset(parts[1:] for parts in self.folders if len(parts) > 1 and parts[0] == name)
        ignored = [parts[1:] for parts in self.ignored if len(parts) > 1 and parts[0] == name]
        special = {parts[1:]: what for parts, what in self.special.items() if parts[0] == name}
        return ImageTree(f"{self.root}/{name}", files, folders, ignored, special)

    def nothing_found(self) -> str | None:
        """Return what lies here in place of images, and what to do about it; None if no file does."""
        left_out = self.left_out()
        if not left_out:
            return None
        reading = f"{left_out.reading()}, or " if left_out.reading() else ""
        return f"no image that can be read: {left_out.kinds()}; {reading}convert pictures to JPEG"

    def left_out(self) -> LeftOut:
        """What is ignored, counted by extension and class."""
        counted = LeftOut()
        for parts in self.ignored:
            depth = 2 if parts[0].lower() in (*_TRAIN, *_TEST, *_VAL) else 1
            counted.add(parts[-1], "/".join(parts[:-1][:depth]), self.special.get(parts, ""))
        return counted


@dataclass(frozen=True)
class Layout:
    """The classes found, and the images of each part.

    `test` is None where the folder was not split, `validation` where it does not have `val/` beside `test/`.
    """

    classes: tuple[str, ...]
    train: ImageSplit
    test: ImageSplit | None
    notes: tuple[str, ...]
    validation: ImageSplit | None = None


def find_layout(tree: ImageTree, classes: tuple[str, ...] | None = None) -> Layout:
    """Find classes and parts in a folder.

    Class folders are taken in the plain order of their names (`10` before `2`), and their images from all folders
    below them. Folders that merely wrap the data set are descended into.

    Args:
        tree: the folder.
        classes: those of a network that the images are to score; None finds them. Class folders are then known by their
            names, and any of them, or of the parts, may be missing or hold a single image.

    Raises:
        DataError: a class folder that is none of `classes`; or, without these: no images, no class folders,
            one class only, an empty class, fewer than 2 images in a class of a folder to be split, `train/` without
            `test/` and `val/` or the reverse, or different classes in them.
    """
    given = tree
    tree = unwrapped(tree)
    notes = [str(left_out)] if (left_out := tree.left_out()) else []
    if tree is not given:
        notes.append(f"read from {tree.root}, the only folder in {given.root}")
    if not tree.files:
        if instead := tree.nothing_found():
            raise DataError(f"{tree.root} has {instead}")
        raise DataError(f"{tree.root} holds no images: give a folder with one folder of images for each class")
    found = {names[0]: _find(tree, names) for names in (_TRAIN, _TEST, _VAL)}
    scored = found["test"] or found["val"]
    # Among other classes, a folder of pictures of trains is a class; beside test/, it is a part without class folders.
    if any(_is_split(tree, name) for name in found.values()) or (found["train"] and scored):
        return _with_parts(tree, found, notes, classes)
    return _plain(tree, notes, classes)


def unwrapped(tree: ImageTree) -> ImageTree:
    """Descend through folders that merely wrap the data set."""
    while (only := _wrapping_folder(tree)) is not None:
        tree = tree.child(only)
    return tree


def parts_of(tree: ImageTree) -> dict[str, str]:
    """The folders of `train`, `validation` and `test` images, as `find_layout` takes them; none where it splits itself.

    Nothing is refused: where one is missing, it is missing here.
    """
    found = {names[0]: _find(tree, names) for names in (_TRAIN, _TEST, _VAL)}
    scored = found["test"] or found["val"]
    if not (any(_is_split(tree, name) for name in found.values()) or (found["train"] and scored)):
        return {}
    test = _scored_part(tree, found, []) if scored else None
    validation = found["val"] if found["val"] != test and _is_split(tree, found["val"]) else None
    parts = {"train": found["train"], "validation": validation, "test": test}
    return {split: name for split, name in parts.items() if name is not None}


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _wrapping_folder(tree: ImageTree) -> str | None:
    """Return the only folder, if it wraps class folders or parts rather than being one."""
    children = tree.children()
    if len(children) != 1 or tree.loose() or children[0].lower() in (*_TRAIN, *_TEST, *_VAL):
        return None
    return children[0] if tree.child(children[0]).folders else None


def _find(tree: ImageTree, names: tuple[str, ...]) -> str | None:
    return next((child for child in tree.children() if child.lower() in names), None)


def _is_split(tree: ImageTree, name: str | None) -> bool:
    return name is not None and bool(tree.child(name).folders)


def _plain(tree: ImageTree, notes: list[str], known: tuple[str, ...] | None) -> Layout:
    if known is not None:
        return Layout(known, _known_part(tree, known, notes), None, tuple(notes))
    classes = _class_names(tree)
    split = _read_part(tree, classes, notes)
    for name, count in zip(classes, np.bincount(split.labels, minlength=len(classes)), strict=True):
        if count < 2:
            wanted = "a class needs at least 2, one to train and one to test on"
            raise DataError(f"class folder {tree.root}/{name} has {_count(int(count), 'image')}: {wanted}")
    return Layout(classes, split, None, tuple(notes))


def _known_part(tree: ImageTree, known: tuple[str, ...], notes: list[str]) -> ImageSplit:
    """Read a part whose class folders are some of those known."""
    found = tree.children()
    if not found:
        _class_names(tree)  # says what is here instead
    if unknown := [name for name in found if name not in known and tree.child(name).files]:
        raise DataError(
            f"{tree.root} has classes that the network does not know: {_some(unknown)}. It answers {_some(known)}: "
            "remove or rename these folders"
        )
    return _read_part(tree, known, notes, some=True)


def _known_parts(tree: ImageTree, notes: list[str], known: tuple[str, ...]) -> Layout:
    """Whatever parts there are, to score them."""
    names = parts_of(tree)
    nothing = ImageSplit([], np.empty(0, np.int64))
    parts = {split: _known_part(tree.child(name), known, notes) for split, name in names.items()}
    if not any(len(part) for part in parts.values()):
        raise DataError(f"{tree.root} holds no images in class folders: give a folder of images for each class")
    return Layout(known, parts.get("train", nothing), parts.get("test", nothing), tuple(notes), parts.get("validation"))


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(printable(name) for name in names[:5])}{', ...' * (len(names) > 5)} ({len(names)})"


def _with_parts(
    tree: ImageTree, found: dict[str, str | None], notes: list[str], known: tuple[str, ...] | None
) -> Layout:
    if known is not None:
        return _known_parts(tree, notes, known)
    train_name = found["train"]
    if train_name is None:
        scored = found["test"] or found["val"]
        raise DataError(
            f"{tree.root} has {scored}/ but no train/: add it, or give {tree.root}/{scored} to have it split"
        )
    test_name = _scored_part(tree, found, notes)
    others = [name for name in tree.children() if name not in found.values()]
    if others or tree.loose():
        notes.append(f"beside {train_name}/ and {test_name}/, nothing else in {tree.root} is read")
    classes = _class_names(tree.child(train_name))
    train = _read_part(tree.child(train_name), classes, notes)
    test = _part_like(tree, train_name, classes, test_name, notes)
    val_name = found["val"]
    if val_name is None or val_name == test_name or not _is_split(tree, val_name):
        return Layout(classes, train, test, tuple(notes))
    validation = _part_like(tree, train_name, classes, val_name, notes)
    notes.append(f"{val_name}/ holds the validation images, {test_name}/ is scored at the end")
    return Layout(classes, train, test, tuple(notes), validation)


def _part_like(tree: ImageTree, train_name: str, classes: tuple[str, ...], name: str, notes: list[str]) -> ImageSplit:
    """Read a part that must have the classes of the training images."""
    found = _class_names(tree.child(name))
    if found != classes:
        differences = [
            f"only in {part}/: {', '.join(sorted(set(here) - set(there)))}"
            for part, here, there in ((train_name, classes, found), (name, found, classes))
            if set(here) - set(there)
        ]
        raise DataError(
            f"{train_name}/ and {name}/ of {tree.root} have different classes ({'; '.join(differences)}): "
            "give both the same class folders"
        )
    return _read_part(tree.child(name), classes, notes)


def _scored_part(tree: ImageTree, found: dict[str, str | None], notes: list[str]) -> str:
    """Return the folder to score: `test/`, or `val/` where there is no labelled `test/`."""
    test, val = found["test"], found["val"]
    if test is None and val is None:
        train = f"{tree.root}/{found['train']}"
        advice = f"add one with the same class folders, or give {train} to have it split"
        raise DataError(f"{tree.root} has {found['train']}/ but no test/ or val/: {advice}")
    if test is None or val is None:
        return test or str(val)
    # Competitions publish test images without their classes.
    if not _is_split(tree, test) and _is_split(tree, val):
        notes.append(f"{test}/ is unused, for its images have no class folders: {val}/ is scored")
        return val
    if not _is_split(tree, val):
        notes.append(f"{val}/ is unused, for its images have no class folders: {test}/ is scored")
    return test


def _class_names(tree: ImageTree) -> tuple[str, ...]:
    classes = tuple(tree.children())
    if not classes and tree.files:
        raise DataError(
            f"{tree.root} holds images but no class folders: put those of each class into a folder of its own"
        )
    if not classes:
        raise DataError(f"{tree.root} holds no images: put one folder of images for each class into it")
    if len(classes) == 1:
        raise DataError(f"{tree.root} has one class only ({classes[0]}): add a folder with images of something else")
    return classes


def _read_part(tree: ImageTree, classes: tuple[str, ...], notes: list[str], *, some: bool = False) -> ImageSplit:
    """Collect the images of each class, in the order of their names; with `some` a class may have none."""
    members: dict[str, list[tuple[Parts, ImageSource]]] = {name: [] for name in classes}
    for parts, source in tree.files:
        if len(parts) > 1 and parts[0] in members:
            members[parts[0]].append((parts, source))
    for name, found in members.items():
        if not found and not some:
            if instead := tree.child(name).nothing_found():
                raise DataError(f"class folder {tree.root}/{name} has {instead}")
            raise DataError(f"class folder {tree.root}/{name} is empty: add images or remove it")
        found.sort(key=lambda item: item[0])
    if tree.loose():
        notes.append(f"{_count(tree.loose(), 'image')} in {tree.root} but in no class folder left out")
    sources = [source for found in members.values() for _, source in found]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(found) for found in members.values()])
    return ImageSplit(sources, labels)


def read_folder(folder: Path, max_pixels: int = MAX_PIXELS) -> ImageTree:
    """Return the image files below `folder`; symbolic links are followed, but no folder is entered twice.

    Args:
        folder: where to look.
        max_pixels: of how many pixels an image may be.

    Raises:
        DataError: a folder that can't be listed.
    """
    files: list[tuple[Parts, ImageSource]] = []
    folders: set[Parts] = set()
    ignored: list[Parts] = []
    special: dict[Parts, str] = {}
    for parts, path, entry in _walk(folder, (), set()):
        if entry.kind == "folder":
            folders.add(parts)
        elif entry.kind == "image":
            files.append((parts, FileSource(path, "/".join(parts), entry.size, max_pixels)))
        else:
            ignored.append(parts)
            if entry.what:
                special[parts] = entry.what
    return ImageTree(decodable(str(folder)), files, frozenset(folders), ignored, special)


def _walk(folder: Path, above: Parts, seen: set[tuple[int, int]]) -> Iterator[tuple[Parts, Path, FolderEntry]]:
    try:
        status = folder.stat()
        entries = list_folder(folder)
    except OSError as error:
        _refuse(folder, error)
    # A link back to a folder above would be walked for ever.
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
        parts, path = (*above, decodable(entry.name)), folder / entry.name
        yield parts, path, entry
        if entry.kind == "folder":
            yield from _walk(path, parts, seen)


def _refuse(folder: Path, error: OSError) -> NoReturn:
    raise DataError(
        f"{printable(folder)} can't be listed ({error.strerror or error}): check its permissions"
    ) from error
