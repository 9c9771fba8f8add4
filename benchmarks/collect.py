"""Keep a comparison's figures: `python benchmarks/collect.py OUT benchmarks/results/NAME.json`.

Copies OUT/comparison.json without what is no figure (thumbnails of mistakes, folders of runs), and OUT/summary.png.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from mobilenets.report.compare import read_json, write_json


def main(out: Path, result: Path) -> None:
    comparison = read_json(out / "comparison.json")
    rows = tuple(
        replace(row, mistakes=(), runs=tuple(replace(run, folder=Path(run.folder).name) for run in row.runs))
        for row in comparison.rows
    )
    command = comparison.command.replace(str(out), out.name)  # where it was measured is nobody's business
    write_json(replace(comparison, rows=rows, command=command), result)
    shutil.copyfile(out / "summary.png", result.with_suffix(".png"))
    print(f"wrote {result} and {result.with_suffix('.png')}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
