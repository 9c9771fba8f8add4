"""`mobilenets shard`: images into WebDataset shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from mobilenets.cli.options import parse
from mobilenets.cli.streams import console, say
from mobilenets.images import MAX_PIXELS

ABOUT = """Write images as WebDataset shards: tar files of many images each, which training reads one after the other.

For more images than a folder or a file server copes with. Their bytes are copied as they are, mixed, so that each shard
is a fair sample. Killed or stopped, the same command goes on: shards that are finished stay. Train on them by their
folder, a pattern or a URL:

Example:
  mobilenets shard photos --out shards
  mobilenets train mobilenet_v3_small --data shards --out runs/photos
  mobilenets train mobilenet_v3_small --data 'http://server/shards/train-{000000..000099}.tar' --out runs/photos
"""


@dataclass(frozen=True)
class ShardOptions:
    """Options of `shard`."""

    data: Positional[str]
    """Images: digits, cifar10, or a folder or zip, as for train."""
    out: Path
    """Folder to write the shards and their index.json into."""
    images_per_shard: int | None = None
    """Images of a shard; default: what makes about 32 MiB."""
    image_size: int | None = None
    """Reduce larger images to this shorter side in pixels; default: copy all bytes as they are."""
    exclude: Path | None = None
    """List of images to leave out, as `doctor --fix` writes it."""
    skip_bad: bool = False
    """Leave unreadable images out instead of refusing."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can't take all memory."""
    seed: int = 0
    """Of the order in which images are mixed."""
    json: bool = False
    """Print the index as JSON."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = parse(ShardOptions, argv, "shard", ABOUT)
    from mobilenets.cli.progress import Live
    from mobilenets.workflows.shard import shard

    with Live(console(stderr=True)) as live:
        index = shard(
            options.data,
            options.out,
            images_per_shard=options.images_per_shard,
            image_size=options.image_size,
            exclude=options.exclude,
            skip_bad=options.skip_bad,
            data_root=options.data_root,
            max_pixels=options.max_pixels,
            seed=options.seed,
            progress=live,
        )
    if options.json:
        print(json.dumps(index.to_dict()))
        return 0
    size = sum(entry.bytes for entry in index.shards) / 2**20
    say(
        f"{len(index.shards):,} shards, {size:,.0f} MiB: {index.images('train'):,} training and "
        f"{index.images('test'):,} test images of {len(index.classes):,} classes\nfolder: {options.out}"
    )
    return 0
