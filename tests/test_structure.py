"""The code keeps the shape that `benchmarks/structure.py` measures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import structure

# Where the code stands today; docs/lab_log.md says what keeps it from 230 files with a median of 150 lines.
MOST_FILES = 251
MOST_LINES = 400
MOST_MEDIAN = 210

# Files of ours that a verb runs through, beside those that are only imported. The goals are 45, 50, 50 and 65.
MOST_RUN = {"train": 46, "audit": 50, "quantize": 59, "deploy": 77}


@pytest.fixture(scope="module")
def figures() -> dict[str, int]:
    return structure.measure(structure.SOURCE)


def test_files_are_few_and_of_middle_size(figures: dict[str, int]) -> None:
    assert figures["files"] <= MOST_FILES
    assert figures["most lines of a file"] <= MOST_LINES
    assert figures["median lines of a file"] <= MOST_MEDIAN


@pytest.mark.slow
def test_a_class_name_means_one_thing() -> None:
    assert {name: where for name, where in structure.class_names(structure.SOURCE).items() if len(where) > 1} == {}


@pytest.mark.slow
def test_a_verb_runs_through_few_files() -> None:
    run = structure.run_verbs()
    assert {verb: len(files) for verb, files in run.items() if len(files) > MOST_RUN[verb]} == {}
