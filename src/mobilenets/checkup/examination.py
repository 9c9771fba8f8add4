"""Looking at every image once, a thread a core, telling how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from mobilenets.checkup.facts import Facts, look_at
from mobilenets.checkup.inventory import Entry
from mobilenets.data.decoding import worker_count
from mobilenets.deep_pixels import AS_STORED, DeepPixels
from mobilenets.errors import BadImage, BadImagesError

_CHUNK: Final = 64


@dataclass(frozen=True, eq=False)
class Examination:
    """What was seen of each entry: its facts, or None and why it can't be read."""

    facts: Sequence[Facts | None]
    bad: dict[int, BadImage]


def examine(
    entries: Sequence[Entry], progress: Callable[[int, int], None] | None = None, deep: DeepPixels = AS_STORED
) -> Examination:
    """Decode every image once.

    Args:
        entries: the images.
        progress: told how many are done, and how many there are.
        deep: how more than 8 bits a sample are scaled.
    """
    stop = threading.Event()

    def look(chunk: Sequence[Entry]) -> list[Facts | BadImage]:
        return [_look(entry, deep) for entry in chunk if not stop.is_set()]

    facts: list[Facts | None] = []
    bad: dict[int, BadImage] = {}
    pool = ThreadPoolExecutor(worker_count([entry.source for entry in entries]), thread_name_prefix="examine")
    chunks = [entries[start : start + _CHUNK] for start in range(0, len(entries), _CHUNK)]
    try:
        for found in pool.map(look, chunks):
            for one in found:
                if isinstance(one, BadImage):
                    bad[len(facts)] = one
                facts.append(None if isinstance(one, BadImage) else one)
            if progress is not None:
                progress(len(facts), len(entries))
    finally:
        # After Ctrl-C, what has not begun never does, and what has begun ends with the image at hand.
        stop.set()
        pool.shutdown(cancel_futures=True)
    return Examination(facts, bad)


def _look(entry: Entry, deep: DeepPixels) -> Facts | BadImage:
    try:
        return look_at(entry.source, deep)
    except BadImagesError as error:
        return BadImage(entry.name, error.bad[0].reason)
