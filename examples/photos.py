"""Make a small folder of photos of birds, dogs and reptiles: `python examples/photos.py imagenet-samples.zip photos`.

The README's commands were run on it. The zip holds sample images of ImageNet, `<wnid>/<name>.jpg`, as in
https://github.com/EliSchwartz/imagenet-sample-images, resized to a shorter side of 256 pixels.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path, PurePosixPath

CLASSES = {
    "bird": (("n01514668", "n01622779"), ("n01795545", "n01860187"), ("n02002556", "n02058221")),
    "dog": (("n02085620", "n02113978"),),
    "reptile": (("n01629819", "n01756291"),),
}
"""First and last WordNet id of each class; in ImageNet's order relatives stand together."""


def class_of(wnid: str) -> str | None:
    """The folder an image belongs to, if any."""
    for name, ranges in CLASSES.items():
        if any(first <= wnid <= last for first, last in ranges):
            return name
    return None


def main(archive: Path, folder: Path) -> None:
    """Sort the archive's photos into `folder/<class>`."""
    with zipfile.ZipFile(archive) as samples:
        for member in samples.namelist():
            path = PurePosixPath(member)
            name = class_of(path.parent.name)
            if name is not None and path.suffix == ".jpg":
                (folder / name).mkdir(parents=True, exist_ok=True)
                (folder / name / path.name).write_bytes(samples.read(member))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
