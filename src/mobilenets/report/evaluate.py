"""Scores for people: the table of a split, and what top-1 hides."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from mobilenets.evaluation.predictions import Evaluation
from mobilenets.report.compare import metrics_table
from mobilenets.report.scores import class_lines


def evaluation_text(evaluation: Evaluation) -> RenderableType:
    """Lay the scores out for a terminal."""
    # Text, not str: a class name with square brackets must not be read as rich's markup.
    lines = (Text(line) for line in class_lines(evaluation.metrics))
    return Group(metrics_table(evaluation.metrics), *lines)
