"""What a checkup found: frozen records, for programs and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mobilenets.result import Result

Severity = Literal["error", "warning", "note"]
NAME_SHOWN = 60
"""Letters of a data set's name in one line."""
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Example:
    """Images that show a finding: one, or several that belong together, with a note on them."""

    images: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class DataIssue:
    """One kind of thing found.

    Attributes:
        kind: the id of its rule, e.g. `duplicates-across-splits`.
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


@dataclass(frozen=True, repr=False)
class Checkup(Result):
    """All that was found in a data set.

    Attributes:
        data: its name.
        splits: `("train", "test")`, or the one that is there, or `("all",)` where it can't be split.
        drawn: whether training draws the split itself, from images that come unsplit.
        classes: in the order of labels, with their images.
        images: how many were decoded.
        measures: their sizes and kinds; None if none can be read.
        findings: errors first.
        excluded: what `--fix` would leave out of training: names and why.
        seconds: how long it took.
        ignored: what the rules found that were to be ignored.
    """

    data: str
    splits: tuple[str, ...]
    drawn: bool
    classes: tuple[ClassCount, ...]
    images: int
    measures: Measures | None
    findings: tuple[DataIssue, ...]
    excluded: tuple[tuple[str, str], ...]
    seconds: float
    ignored: tuple[DataIssue, ...] = ()

    def count(self, severity: Severity) -> int:
        """How many findings are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON; what `mobilenets doctor --json` prints."""
        return asdict(self)

    def _headline(self) -> str:
        numbers = [(self.count(severity), severity) for severity in SEVERITIES]
        counts = ", ".join(f"{number} {severity}{'s' * (number != 1)}" for number, severity in numbers if number)
        ignored = f", {len(self.ignored)} ignored" if self.ignored else ""
        return f"{self.data[:NAME_SHOWN]}: {self.images:,} images: {counts or 'nothing found'}{ignored}"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [
            {
                "rule": issue.kind,
                "severity": issue.severity,
                "title": issue.title,
                "count": issue.count,
                "advice": issue.advice,
                "first": ", ".join(issue.examples[0].images) if issue.examples else None,
            }
            for issue in self.findings
        ]
