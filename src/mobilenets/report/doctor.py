"""A checkup as JSON, as lines of text, and as `doctor.html`, the page that shows the images of each finding.

Like the other pages it needs no network and no server. File and class names come from unknown disks: jinja2 escapes
every one, and the page's content security policy forbids fetching anything and running any script.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from mobilenets.checkup.inventory import Entry, Inventory
from mobilenets.checkup.results import SEVERITIES, Checkup, DataIssue, Example, Measures
from mobilenets.data.sources import as_listed
from mobilenets.errors import BadImagesError
from mobilenets.files import write_text_atomically
from mobilenets.image_formats import AS_STORED, DeepPixels
from mobilenets.report.layout import page_templates


@dataclass(frozen=True)
class PageImage:
    """An image's name and its thumbnail, a data address; empty where it can't be shown."""

    name: str
    thumbnail: str


@dataclass(frozen=True)
class ImageGroup:
    """Images that belong together, a note on them, and how many more there are."""

    images: tuple[PageImage, ...]
    note: str
    more: int


@dataclass(frozen=True)
class FindingView:
    """One finding: `severity` is `error`, `warning` or `note`; `more` examples are not shown."""

    severity: str
    title: str
    advice: str
    groups: tuple[ImageGroup, ...]
    more: int

    @property
    def has_thumbnails(self) -> bool:
        """Whether there are images to show: names alone stand in a list."""
        return any(image.thumbnail for group in self.groups for image in group.images)


@dataclass(frozen=True)
class Bar:
    """A class, or a range of sizes, with its images (in each split) and the length of their bar in percent."""

    name: str
    images: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class DoctorView:
    """What the page shows; `sound` is whether nothing has to be fixed.

    `classes` are in the order of labels, `kinds` are names and texts about all images, `sides` their shorter sides.
    """

    title: str
    lead: str
    verdict: str
    sound: bool
    findings: tuple[FindingView, ...]
    splits: tuple[str, ...]
    classes: tuple[Bar, ...]
    kinds: tuple[tuple[str, str], ...]
    sides: tuple[Bar, ...]
    excluded: int


def write_doctor_page(view: DoctorView, path: Path) -> None:
    """Write the page as one self-contained HTML file.

    Raises:
        RunError: it can't be written.
    """
    write_text_atomically(path, render_doctor_page(view))


def render_doctor_page(view: DoctorView) -> str:
    """Return the page's HTML; the same view gives the same text."""
    environment = page_templates()
    return environment.get_template("doctor.html").render(view=view)


SHOWN: Final = 12
"""Examples of a finding on the page; the record has all."""
GROUPED: Final = 4
"""Images of one example."""
THUMBNAIL: Final = 112
LISTED: Final = 3
"""Examples of a finding in the terminal."""


def to_json(checkup: Checkup) -> str:
    """All of it, for programs."""
    return json.dumps(checkup.to_dict(), indent=1, ensure_ascii=False) + "\n"


def text_lines(checkup: Checkup) -> Iterator[str]:
    """What the terminal shows: a line a finding, with a few names below."""
    yield f"{checkup.data}: {checkup.images:,} images, {len(checkup.classes)} classes, {_splits(checkup)}"
    if checkup.measures is not None:
        yield f"  {_sizes(checkup.measures)}; {_kinds(checkup.measures.formats)}"
    for finding in checkup.findings:
        yield f"{finding.severity + ':':<9}{headline(finding)}"
        for example in finding.examples[:LISTED]:
            yield f"           {_example_line(example)}"
        if finding.count > LISTED and finding.examples:
            yield f"           and {finding.count - LISTED:,} more"
        yield f"         -> {finding.advice}"
    if checkup.ignored:
        yield f"ignored: {', '.join(issue.kind for issue in checkup.ignored)}"
    if not checkup.findings:
        yield "nothing found that speaks against training"


def view_of(checkup: Checkup, inventory: Inventory, deep: DeepPixels = AS_STORED) -> DoctorView:
    """What the page shows; images are decoded once more for their thumbnails."""
    entries = {entry.name: entry for entry in inventory.entries}
    most = max((max(count.images) for count in checkup.classes), default=1) or 1
    return DoctorView(
        title=f"Checkup of {checkup.data}",
        lead=f"{checkup.images:,} images, {len(checkup.classes)} classes, {_splits(checkup)}; "
        f"looked at in {checkup.seconds:.0f} s",
        verdict=verdict(checkup),
        sound=not checkup.count("error"),
        findings=tuple(_finding_view(finding, entries, deep) for finding in checkup.findings),
        splits=checkup.splits,
        classes=tuple(
            Bar(count.name, tuple((images, 100 * images / most) for images in count.images))
            for count in checkup.classes
        ),
        kinds=() if checkup.measures is None else tuple(_kind_rows(checkup.measures)),
        sides=() if checkup.measures is None else _side_bars(checkup.measures),
        excluded=len(checkup.excluded),
    )


def headline(finding: DataIssue) -> str:
    """A finding in a line."""
    return f"{finding.title}: {finding.count:,}" if finding.examples else finding.title


def verdict(checkup: Checkup) -> str:
    """The upshot in one sentence."""
    counts = [(checkup.count(severity), severity) for severity in SEVERITIES]
    said = [f"{count} {severity}{'s' * (count != 1)}" for count, severity in counts if count]
    if not said:
        return "Nothing found that speaks against training."
    return f"{', '.join(said)}." + ("" if counts[0][0] else " Nothing that has to be fixed.")


def _splits(checkup: Checkup) -> str:
    totals = [sum(count.images[number] for count in checkup.classes) for number in range(len(checkup.splits))]
    if checkup.splits == ("all",):
        return "not split"
    told = ", ".join(f"{total:,} to {split}" for split, total in zip(checkup.splits, totals, strict=True))
    return f"{told} as training splits them" if checkup.drawn else told


def _sizes(measures: Measures) -> str:
    width, height = measures.width, measures.height
    if (width.least, height.least) == (width.greatest, height.greatest):
        return f"all {width.least}x{height.least} pixels"
    return f"{width.least} to {width.greatest} pixels wide, {height.least} to {height.greatest} high"


def _kinds(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {images:,}" for name, images in counts)


def _kind_rows(measures: Measures) -> Iterator[tuple[str, str]]:
    for name, extent in (("Width", measures.width), ("Height", measures.height)):
        if extent.least == extent.greatest:
            yield name, f"{extent.least:,} pixels, all of them"
        else:
            yield name, f"{extent.least:,} to {extent.greatest:,} pixels, half of them at most {extent.median:,}"
    yield "Files", _kinds(measures.formats)
    yield "Colours", _kinds(measures.modes)


def _side_bars(measures: Measures) -> tuple[Bar, ...]:
    most = max(one.images for one in measures.shorter_side)
    return tuple(
        Bar(f"{one.least:,} to {one.greatest:,}", ((one.images, 100 * one.images / most),))
        for one in measures.shorter_side
    )


def _example_line(example: Example) -> str:
    shown = " = ".join(map(as_listed, example.images[:GROUPED])) + (" = ..." if len(example.images) > GROUPED else "")
    return f"{shown}: {example.note}" if example.note else shown


def _finding_view(finding: DataIssue, entries: dict[str, Entry], deep: DeepPixels) -> FindingView:
    groups = [_image_group(example, entries, deep) for example in finding.examples[:SHOWN]]
    return FindingView(
        severity=finding.severity,
        title=headline(finding),
        advice=finding.advice,
        groups=tuple(groups),
        more=max(0, len(finding.examples) - SHOWN),
    )


def _image_group(example: Example, entries: dict[str, Entry], deep: DeepPixels) -> ImageGroup:
    names = example.images[:GROUPED]
    images = [PageImage(name, _thumbnail(entries[name], deep) if name in entries else "") for name in names]
    return ImageGroup(tuple(images), example.note, len(example.images) - len(names))


def _thumbnail(entry: Entry, deep: DeepPixels) -> str:
    """A small image as a data address; nothing where there is none to show."""
    try:
        image = entry.source.open(deep)
    except BadImagesError:
        return ""
    scale = THUMBNAIL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    resample = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    buffer = io.BytesIO()
    image.resize(size, resample, reducing_gap=2 if scale < 1 else None).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
