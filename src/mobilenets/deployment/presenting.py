"""A deployment's report as files: JSON for programs, a page and a picture for people."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mobilenets.compression.quantize_text import finite
from mobilenets.deployment.page_view import page_view
from mobilenets.deployment.results import DeploymentReport
from mobilenets.files import write_text_atomically
from mobilenets.report.benchmark_plot import benchmark_png
from mobilenets.report.deployment_page import write_deployment_page

JSON_FILE, PAGE, PICTURE = "report.json", "report.html", "latency-accuracy.png"


def write_report(report: DeploymentReport, folder: Path) -> None:
    """Write `report.json`, `report.html` and `latency-accuracy.png` into a folder, each whole or not at all.

    Raises:
        RunError: they can't be written.
    """
    text = json.dumps(deployment_record(report), indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomically(folder / JSON_FILE, text + "\n")
    benchmark_png(report.survey, folder / PICTURE)
    write_deployment_page(page_view(report), folder / PAGE)


def deployment_record(report: DeploymentReport) -> dict[str, Any]:
    """The report as JSON can hold it, with each way's verdict; numbers that are none become null."""
    record: dict[str, Any] = finite(asdict(report))
    record["kept"] = finite(asdict(report.kept))
    for way, shown in zip(report.ways, record["ways"], strict=True):
        shown["verdict"] = report.verdict(way)
    return record
