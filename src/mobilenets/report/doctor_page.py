"""A checkup's `doctor.html`: what was found in a data set, with the images that show it, on one page.

Like the other pages it needs no network and no server. File and class names come from strangers' disks: jinja2 escapes
every one, and the page's content security policy forbids fetching anything and running any script.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from mobilenets.files import write_text_atomically


@dataclass(frozen=True)
class Picture:
    """An image's name and its thumbnail, a data address; empty where it can't be shown."""

    name: str
    thumbnail: str


@dataclass(frozen=True)
class PictureGroup:
    """Images that belong together, what is to be said of them, and how many more there are."""

    pictures: tuple[Picture, ...]
    remark: str
    more: int


@dataclass(frozen=True)
class FindingView:
    """One finding: `severity` is `error`, `warning` or `note`; `more` examples are not shown."""

    severity: str
    title: str
    advice: str
    groups: tuple[PictureGroup, ...]
    more: int

    @property
    def pictured(self) -> bool:
        """Whether there is anything to see: names alone stand in a list."""
        return any(picture.thumbnail for group in self.groups for picture in group.pictures)


@dataclass(frozen=True)
class Bar:
    """A class, or a range of sizes, with its images (in each split) and the length of their bar in percent."""

    name: str
    images: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class DoctorView:
    """What the page shows; `sound` is whether nothing has to be mended.

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
    environment = Environment(
        loader=PackageLoader("mobilenets.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("doctor.html").render(view=view)
