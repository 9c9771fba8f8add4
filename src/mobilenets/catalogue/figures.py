"""What others have published about the MobileNets, as records: the loader of `published_figures.toml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from mobilenets.limits import parse_toml

FILE = "published_figures.toml"
_UNITS = {"": 1, "M": 10**6, "G": 10**9}
_COUNTED = ("parameters", "macs")


@dataclass(frozen=True)
class PrintedFigure:
    """A number as its source prints it, e.g. `4.24` with the unit `M`.

    Attributes:
        text: digits as printed.
        unit: empty, `M` (10^6) or `G` (10^9).
    """

    text: str
    unit: str

    @property
    def value(self) -> Decimal:
        """The number in ones: 4,240,000 of `4.24 M`."""
        return Decimal(self.text.replace(",", "")) * _UNITS[self.unit]

    @property
    def step(self) -> Decimal:
        """What one more in the last printed digit is worth: 10,000 of `4.24 M`."""
        exponent = Decimal(self.text.replace(",", "")).as_tuple().exponent
        assert isinstance(exponent, int)  # a number, not infinity
        return Decimal(10) ** exponent * _UNITS[self.unit]

    @property
    def digits(self) -> int:
        """Significant digits printed: 3 of `0.615`."""
        return len(Decimal(self.text.replace(",", "")).as_tuple().digits)

    def __str__(self) -> str:
        return f"{self.text} {self.unit}".rstrip()


@dataclass(frozen=True)
class Source:
    """Where figures come from: a short name for tables, what it is, and its address (with the commit if known)."""

    name: str
    about: str
    address: str


@dataclass(frozen=True)
class PublishedRow:
    """A row of a source's table; an empty string or None is what the source does not say.

    Attributes:
        source: key of `PublishedFigures.sources`.
        network: our registered name, or, with `name`, of the family it belongs to.
        name: the source's name of a network of its own, that the builders here don't make.
        width_mult: factor on the channels.
        image_size: side of the images in pixels.
        num_classes: outputs of the classifier.
        dataset: what the accuracies are of.
        label: which of several weights this row is of, e.g. `8-bit`.
        parameters: the parameters printed.
        macs: the multiply-adds printed; OpenVINO's are operations.
        top1: accuracy in percent as printed, so `top5`; `int8_top1` and `int8_top5` are of the network in 8 bits.
        latency_ms: milliseconds as printed, for one image.
        latency_on: the device or devices.
        note: what else the source says.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    source: str
    network: str
    name: str = ""
    width_mult: float = 1.0
    image_size: int = 224
    num_classes: int = 1000
    dataset: str = "ImageNet"
    label: str = ""
    parameters: PrintedFigure | None = None
    macs: PrintedFigure | None = None
    top1: str = ""
    top5: str = ""
    int8_top1: str = ""
    int8_top5: str = ""
    latency_ms: str = ""
    latency_on: str = ""
    note: str = ""


@dataclass(frozen=True)
class PublishedFigures:
    """Everything the file holds: sources by key, rows in its order."""

    sources: Mapping[str, Source]
    rows: tuple[PublishedRow, ...]


@cache
def load_figures() -> PublishedFigures:
    """Read the shipped file; its fields are checked, because one misspelt would silently be a figure missing."""
    text = resources.files("mobilenets").joinpath("catalogue", FILE).read_text(encoding="utf-8")
    record = parse_toml(text)
    sources = TypeAdapter(dict[str, Source]).validate_python(record["sources"])
    rows = tuple(row for table in record["tables"] for row in _rows(table))
    for row in rows:
        if row.source not in sources:
            raise KeyError(f"{FILE}: a table names the source {row.source!r}, which is not among the sources")
    return PublishedFigures(sources, rows)


def _rows(table: Mapping[str, Any]) -> Iterator[PublishedRow]:
    shared = {key: value for key, value in table.items() if key not in ("units", "columns", "rows")}
    units: dict[str, str] = table.get("units", {})
    adapter = TypeAdapter(PublishedRow)
    for cells in table["rows"]:
        fields = {**shared, **dict(zip(table["columns"], cells, strict=True))}
        for column in _COUNTED:
            printed = fields.pop(column, "")
            if printed:
                fields[column] = PrintedFigure(printed, units[column])
        yield adapter.validate_python(PublishedRow(**fields))
