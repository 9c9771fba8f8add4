"""`mobilenets doctor`: what is wrong with a folder of images, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from mobilenets.cli.options import UsageError, parse
from mobilenets.cli.streams import console, say
from mobilenets.images import MAX_PIXELS

ABOUT = """Check every image before training: unreadable, duplicated, leaked into the test split, mislabelled, uneven.

Your images are never touched. --fix lists those to leave out, and train --exclude reads the list. The exit code is 1
when there is an error.

Example:
  mobilenets doctor photos --fix --out checkup
    error:   images in both the training and the test split: 2
               test/cat/1.jpg = train/cat/7.jpg: cat (train and test)
             -> remove one of each: the test would ask what training has told

  mobilenets train mobilenet_v3_small --data photos --exclude checkup/exclude.txt --out runs/photos
"""


@dataclass(frozen=True)
class DoctorOptions:
    """Options of `doctor`."""

    data: tyro.conf.Positional[str | None] = None
    """digits, cifar10, or a folder or zip of images."""
    out: Path | None = None
    """Folder for doctor.html, doctor.json and exclude.txt; default: doctor-DATA here."""
    fix: bool = False
    """Write exclude.txt, the images to leave out of training."""
    ignore: str | None = None
    """Rules whose findings are set aside, with commas between: no errors, and only named."""
    data_root: Path | None = None
    """Where cifar10 is looked for and downloaded to."""
    max_pixels: int = MAX_PIXELS
    """Pixels an image may have; one of more is refused by its header, so that it can't take all memory."""
    list_rules: bool = False
    """Print the rules and check nothing."""
    json: bool = False
    """Print all that was found as JSON on standard output."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    options = parse(DoctorOptions, argv, "doctor", ABOUT)
    if options.list_rules:
        return _list_rules(as_json=options.json)
    if options.data is None:
        raise UsageError("the following arguments are required: DATA (see 'mobilenets doctor --help')")
    from mobilenets.cli.progress import Live
    from mobilenets.report.doctor import text_lines, to_json
    from mobilenets.workflows.doctor import EXCLUSIONS, PAGE, doctor

    out = options.out or Path(f"doctor-{Path(options.data).resolve().stem}")
    with Live(console(stderr=True)) as live:
        checkup = doctor(
            options.data,
            out,
            fix=options.fix,
            ignore=options.ignore,
            data_root=options.data_root,
            max_pixels=options.max_pixels,
            progress=live,
        )
    if options.json:
        print(to_json(checkup), end="")
    else:
        for line in text_lines(checkup):
            say(line)
        say(f"page: {out / PAGE}")
        if options.fix:
            say(f"images to leave out: {len(checkup.excluded):,}, listed in {out / EXCLUSIONS}")
        elif checkup.excluded:
            say(f"images better left out: {len(checkup.excluded):,}; --fix lists them for train --exclude")
    return 1 if checkup.count("error") else 0


def _list_rules(*, as_json: bool) -> int:
    from mobilenets.report.rules import doctor_groups, rules_json, rules_text

    print(rules_json(doctor_groups()) if as_json else rules_text(doctor_groups()))
    return 0
