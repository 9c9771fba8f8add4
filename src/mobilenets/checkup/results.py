"""What a checkup found: plain frozen records, for programs and for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Example:
    """Images that show a finding: one, or several that belong together, with what is to be said of them."""

    images: tuple[str, ...]
    remark: str = ""


@dataclass(frozen=True)
class Finding:
    """One kind of thing found.

    Attributes:
        kind: its name for programs, e.g. `duplicates-across-splits`.
        severity: `error` costs accuracy or stops training, `warning` may, `note` is good to know.
        title: what it is, in words.
        count: how many images, or classes, or folders.
        advice: what to do about it.
        examples: all of them, in the order of the data.
    """

    kind: str
    severity: Severity
    title: str
    count: int
    advice: str
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class ClassCount:
    """A class and how many images it has in each split, in the order of `Checkup.splits`."""

    name: str
    images: tuple[int, ...]


@dataclass(frozen=True)
class Extent:
    """The least, the middle and the greatest of some numbers."""

    least: int
    median: int
    greatest: int


@dataclass(frozen=True)
class SideRange:
    """How many images have a shorter side from `least` to `greatest` pixels, both included."""

    least: int
    greatest: int
    images: int


@dataclass(frozen=True)
class Measures:
    """Sizes and kinds of the readable images.

    Attributes:
        width: in pixels, upright.
        height: likewise.
        shorter_side: how many images have which, in steps that double.
        formats: of files, `JPEG`, ..., with their images, the commonest first; `pixels` came without a file.
        modes: Pillow's names of how pixels are stored, likewise.
    """

    width: Extent
    height: Extent
    shorter_side: tuple[SideRange, ...]
    formats: tuple[tuple[str, int], ...]
    modes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Checkup:
    """All that was found in a data set.

    Attributes:
        data: its name.
        splits: `("train", "test")`, or the one that is there, or `("all",)` where it can't be split.
        drawn: whether training draws the split itself, from images that come unsplit.
        classes: in the order of labels, with their images.
        images: how many were looked at.
        measures: their sizes and kinds; None if none can be read.
        findings: errors first.
        excluded: what `--fix` would leave out of training: names and why.
        seconds: how long it took.
    """

    data: str
    splits: tuple[str, ...]
    drawn: bool
    classes: tuple[ClassCount, ...]
    images: int
    measures: Measures | None
    findings: tuple[Finding, ...]
    excluded: tuple[tuple[str, str], ...]
    seconds: float

    def count(self, severity: Severity) -> int:
        """How many findings are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)
