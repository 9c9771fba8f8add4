"""`doctor`: check every image of a data set before training.

OUT/doctor.html   the findings with their images, for people
OUT/doctor.json   the same for programs
OUT/exclude.txt   with `fix`: what `train --exclude` is to leave out
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mobilenets.checkup.checks import run_checks
from mobilenets.checkup.context import CheckContext, class_counts, measure
from mobilenets.checkup.duplicates import exclusions
from mobilenets.checkup.examination import examine
from mobilenets.checkup.inventory import Inventory, take_inventory
from mobilenets.checkup.near_duplicates import exact_groups, near_pairs
from mobilenets.checkup.registry import RULES
from mobilenets.checkup.results import Checkup
from mobilenets.data.datasets import Dataset
from mobilenets.data.decoding import find_bit_depth
from mobilenets.data.sources import write_exclusions
from mobilenets.files import check_writable, outside, write_text_atomically
from mobilenets.images import MAX_PIXELS
from mobilenets.progress import Progress, Silent, counted
from mobilenets.report.doctor import to_json, view_of, write_doctor_page

PAGE: Final = "doctor.html"
RECORD: Final = "doctor.json"
EXCLUSIONS: Final = "exclude.txt"


def doctor(
    data: str | Path | Dataset,
    out: str | Path | None = None,
    *,
    fix: bool = False,
    ignore: str | Iterable[str] | None = None,
    data_root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Checkup:
    """Check every image of a data set.

    Args:
        data: what `load_dataset` takes; folders that it would refuse are checked too.
        out: folder for the page, the record and the list; None writes none of them.
        fix: write the list of images to leave out; the images are never touched.
        ignore: ids of rules whose findings are set aside: they are no errors, and the report names them.
        data_root: where `cifar10` is looked for and downloaded to.
        max_pixels: of how many pixels an image may be; see `load_dataset`.
        progress: told how many images are decoded and compared.

    Raises:
        DataError: there is no such data, no image in it, or `ignore` names no rule.
        RunError: `out` can't be written, or lies within the images.
    """
    start = time.monotonic()
    ignored = RULES.ignored(ignore or ())
    folder = None if out is None else outside(data, Path(out))
    if folder is not None:
        check_writable(folder)
    inventory = take_inventory(data, data_root=data_root, max_pixels=max_pixels)
    context = _decoded(inventory, progress or Silent())
    issues = run_checks(context)
    checkup = Checkup(
        data=inventory.name,
        splits=inventory.splits,
        drawn=inventory.drawn,
        classes=class_counts(inventory),
        images=len(inventory.entries),
        measures=measure(facts for _, facts in context.seen()),
        findings=tuple(issue for issue in issues if issue.kind not in ignored),
        excluded=tuple(exclusions(context).items()),
        seconds=time.monotonic() - start,
        ignored=tuple(issue for issue in issues if issue.kind in ignored),
    )
    if folder is not None:
        write_text_atomically(folder / RECORD, to_json(checkup))
        write_doctor_page(view_of(checkup, inventory, context.deep), folder / PAGE)
        if fix:
            about = f"{len(checkup.excluded):,} of {checkup.images:,} images of {checkup.data}: name, tab, reason"
            write_exclusions(folder / EXCLUSIONS, dict(checkup.excluded), about)
    return checkup


def _decoded(inventory: Inventory, progress: Progress) -> CheckContext:
    trained_on = [entry.source for entry in inventory.entries if entry.split == inventory.splits[0]]
    deep, _ = find_bit_depth(trained_on)
    examination = examine(inventory.entries, counted(progress.update, "looking at images"), deep)
    same = exact_groups(examination.facts)
    splits = [entry.split for entry in inventory.entries]
    near = near_pairs(examination.facts, splits, counted(progress.update, "comparing pairs of images"))
    return CheckContext(inventory, examination, same, near, deep)
