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
class Checkup:
    """All that was found in a data set.

    Attributes:
        data: its name.
        splits: `("train", "test")`, or `("all",)` where it is not split.
        classes: in the order of labels, with their images.
        images: how many were looked at.
        findings: errors first.
        excluded: what `--fix` would leave out of training: names and why.
        seconds: how long it took.
    """

    data: str
    splits: tuple[str, ...]
    classes: tuple[ClassCount, ...]
    images: int
    findings: tuple[Finding, ...]
    excluded: tuple[tuple[str, str], ...]
    seconds: float

    def count(self, severity: Severity) -> int:
        """How many findings are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)
