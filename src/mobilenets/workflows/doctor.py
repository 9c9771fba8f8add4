"""`doctor`: look at every image before training, and say what would go wrong.

OUT/doctor.html   the findings with their images, for people
OUT/doctor.json   the same for programs
OUT/exclude.txt   with `fix`: what `train --exclude` is to leave out
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mobilenets.checkup.case import Case, class_counts, measure
from mobilenets.checkup.examination import examine
from mobilenets.checkup.exclusions import of_exclusion, prescribe
from mobilenets.checkup.inventory import Inventory, take_inventory
from mobilenets.checkup.near_duplicates import exact_groups, near_pairs
from mobilenets.checkup.pictures import of_depth, of_modes, of_pictures
from mobilenets.checkup.results import SEVERITIES, Checkup
from mobilenets.checkup.structure import of_classes, of_files, of_folders
from mobilenets.checkup.twins import of_alike, of_same
from mobilenets.data.datasets import Dataset
from mobilenets.data.decoding import find_bit_depth
from mobilenets.data.sources import write_exclusions
from mobilenets.files import check_writable, outside, write_text_atomically
from mobilenets.images import MAX_PIXELS
from mobilenets.progress import Update
from mobilenets.report.doctor import to_json, view_of, write_doctor_page

PAGE: Final = "doctor.html"
RECORD: Final = "doctor.json"
EXCLUSIONS: Final = "exclude.txt"

CHECKS: Final = (of_files, of_folders, of_classes, of_same, of_alike, of_pictures, of_modes, of_depth)


def doctor(
    data: str | Path | Dataset,
    out: str | Path | None = None,
    *,
    fix: bool = False,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Update | None = None,
) -> Checkup:
    """Look at every image of a data set.

    Args:
        data: what `load_dataset` takes; folders that it would refuse are looked at too.
        out: folder for the page, the record and the list; None writes none of them.
        fix: write the list of images to leave out; the images are never touched.
        data_root: where `cifar10` is looked for and downloaded to.
        max_pixels: of how many pixels an image may be; see `load_dataset`.
        progress: told how far it is.

    Raises:
        DataError: there is no such data, or no image in it.
        RunError: `out` can't be written, or lies within the images.
    """
    start = time.monotonic()
    folder = None if out is None else outside(data, Path(out))
    if folder is not None:
        check_writable(folder)
    inventory = take_inventory(data, data_root=data_root, max_pixels=max_pixels)
    case = _examined(inventory, progress)
    excluded = prescribe(case)
    findings = [finding for check in CHECKS for finding in check(case)]
    findings += of_exclusion(case, excluded)
    checkup = Checkup(
        data=inventory.name,
        splits=inventory.splits,
        drawn=inventory.drawn,
        classes=class_counts(inventory),
        images=len(inventory.entries),
        measures=measure(facts for _, facts in case.seen()),
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
        excluded=tuple(excluded.items()),
        seconds=time.monotonic() - start,
    )
    if folder is not None:
        write_text_atomically(folder / RECORD, to_json(checkup))
        write_doctor_page(view_of(checkup, inventory, case.deep), folder / PAGE)
        if fix:
            about = f"{len(checkup.excluded):,} of {checkup.images:,} images of {checkup.data}: name, tab, reason"
            write_exclusions(folder / EXCLUSIONS, dict(checkup.excluded), about)
    return checkup


def _examined(inventory: Inventory, progress: Update | None) -> Case:
    def tell(what: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(what, done, total)

    trained_on = [entry.source for entry in inventory.entries if entry.split == inventory.splits[0]]
    deep, _ = find_bit_depth(trained_on)
    examination = examine(inventory.entries, tell("looking at images"), deep)
    same = exact_groups(examination.facts)
    splits = [entry.split for entry in inventory.entries]
    near = near_pairs(examination.facts, splits, tell("comparing pairs of images"))
    return Case(inventory, examination, same, near, deep)
