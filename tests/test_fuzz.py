"""A hundred damaged files for each reader: refused with our error or accepted, never a crash."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mobilenets.errors import MobilenetsError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from fuzz import _mutant  # noqa: E402
from fuzz_readers import READERS, Reader  # noqa: E402

pytestmark = pytest.mark.slow

MUTANTS = 100


def _refusal(reader: Reader, path: Path) -> str | None:
    try:
        reader.read(path)
    except MobilenetsError as error:
        return str(error)
    return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [reader.name for reader in READERS])
def test_damaged_files_are_refused_or_read(name: str, tmp_path: Path) -> None:
    reader = next(reader for reader in READERS if reader.name == name)
    seeds = list(reader.seeds(tmp_path))
    contents = [path.read_bytes() for path in seeds]
    for path in seeds:
        reader.read(path)
    for number in range(MUTANTS):
        place, content = _mutant(reader, contents, number, seed=1)
        path = seeds[place].with_name(reader.name_as or f"mutant{seeds[place].suffix}")
        path.write_bytes(content)
        refusal = _refusal(reader, path)
        assert refusal is None or len(refusal.splitlines()) == 1, number


def test_every_reader_was_tried_thousands_of_times_without_a_crash() -> None:
    result = json.loads((BENCHMARKS / "results" / "fuzz.json").read_text(encoding="utf-8"))
    for name, row in result["readers"].items():
        assert (row["crashed"], row["hung"]) == (0, 0), name
        assert row["mutants"] == row["refused"] + row["accepted"] >= 2000, name
