"""`report.html`: the whole comparison on one page that needs no network, no server and no JavaScript to be read.

Class names, file names and commands come from users: jinja2 escapes every one of them, the only text passed through
is our own SVG, and the page's content security policy forbids fetching anything and running any script but its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from markupsafe import Markup, escape

from mobilenets.errors import RunError
from mobilenets.evaluation.results import ClassScore, Comparison, NetworkRow
from mobilenets.files import write_text_atomically
from mobilenets.formatting import short_labels
from mobilenets.report.compare import Figure, columns
from mobilenets.report.layout import page_templates, script_digest
from mobilenets.report.plots.canvas import SERIES, colour
from mobilenets.report.plots.comparison import (
    CurveQuantity,
    accuracy_plot,
    confusion_plot,
    curves_plot,
    total_confusion,
    validated,
)
from mobilenets.report.plots.scatter import Cost, latency_key
from mobilenets.report.scores import (
    bound_phrases,
    deciding_split,
    pair_sentence,
    parted_pairs,
    runtime_name,
    runtimes,
    split_sentence,
)

_THUMBNAIL = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")
_LISTED_CONFUSIONS = 5


@dataclass(frozen=True)
class Confused:
    """Images of one class that a network called another, over all its seeds."""

    truth: str
    called: str
    count: int


@dataclass(frozen=True)
class NetworkView:
    """What the page shows of one network beyond its record."""

    row: NetworkRow
    short: str
    colour: str
    chosen: bool
    figures: tuple[Figure, ...]
    confusion: Markup
    confused: tuple[Confused, ...]
    scores: tuple[ClassScore, ...]
    macro: ClassScore
    plans: tuple[str, ...]


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the report as one self-contained HTML file.

    Raises:
        RunError: no network, a network without a run, a thumbnail that is no PNG data address, or an unwritable file.
    """
    write_text_atomically(path, render_page(comparison))


def render_page(comparison: Comparison) -> str:
    """Return the report's HTML; the same comparison gives the same text.

    Raises:
        RunError: no network, a network without a run, or a thumbnail that is no PNG data address.
    """
    _check(comparison)
    environment = page_templates()
    environment.filters["breakable"] = _breakable
    views = _views(comparison)
    chosen = next((view for view in views if view.chosen), None)
    first_pairs, other_pairs = parted_pairs(comparison)
    return environment.get_template("report.html").render(
        comparison=comparison,
        columns=columns(comparison),
        views=views,
        chosen=chosen,
        bounds=bound_phrases(comparison.bounds),
        accuracy=_accuracy_plots(comparison),
        curves=_curve_plots(comparison),
        first_pairs=[pair_sentence(pair) for pair in first_pairs],
        other_pairs=[pair_sentence(pair) for pair in other_pairs],
        methods=sorted({pair.method[:1].upper() + pair.method[1:] for pair in comparison.pairs}),
        bases=sorted({row.test_top1.basis for row in comparison.rows}),
        validation_bases=sorted({row.validation_top1.basis for row in comparison.rows if row.validation_top1}),
        decided_on=deciding_split(comparison),
        split_sentence=split_sentence(comparison),
        class_names=[score.name for score in comparison.rows[0].runs[0].test.classes],
        class_counts=[score.count for score in comparison.rows[0].runs[0].test.classes],
        runtimes=[runtime_name(key) for key in runtimes(row.latency for row in comparison.rows)],
        recipe=_recipe(comparison),
        script_digest=script_digest(environment),
    )


def _breakable(text: str) -> Markup:
    """Let long names break after an underscore and nowhere else."""
    return escape(text).replace("_", Markup("_<wbr>"))


def _check(comparison: Comparison) -> None:
    if not comparison.rows:
        raise RunError("the comparison holds no network, so there is nothing to report; compare at least one")
    for row in comparison.rows:
        if not row.runs:
            raise RunError(f"{row.label}: no finished run in the comparison; run the comparison again to train it")
        for mistake in row.mistakes:
            if not _THUMBNAIL.fullmatch(mistake.thumbnail):
                raise RunError(
                    f"{row.label}: the thumbnail of {mistake.image} is not a data:image/png;base64 address; "
                    "run the comparison again to remake it"
                )


def _views(comparison: Comparison) -> list[NetworkView]:
    shown = columns(comparison)
    shorts = short_labels([row.label for row in comparison.rows])
    return [
        NetworkView(
            row=row,
            short=shorts[index],
            colour=f"var(--series-{index % len(SERIES)}, {colour(index)})",
            chosen=row.label == comparison.choice.label,
            figures=tuple(column.figure(row) for column in shown),
            confusion=Markup(confusion_plot(row, f"confusion-{index}")),
            confused=_confused(row),
            scores=_class_scores(row),
            macro=_macro(row),
            plans=_plans(row),
        )
        for index, row in enumerate(comparison.rows)
    ]


def _confused(row: NetworkRow) -> tuple[Confused, ...]:
    """List the most frequent wrong calls, most first; equal ones in the order of the classes."""
    counts = total_confusion(row.runs)
    np.fill_diagonal(counts, 0)
    names = [score.name for score in row.runs[0].test.classes]
    most = np.argsort(-counts, axis=None, kind="stable")[:_LISTED_CONFUSIONS]
    places = [divmod(int(place), len(names)) for place in most]
    return tuple(Confused(names[t], names[p], int(counts[t, p])) for t, p in places if counts[t, p])


def _class_scores(row: NetworkRow) -> tuple[ClassScore, ...]:
    """Return each class's test scores in percent, the means over seeds."""
    seeds = [[(score.recall, score.precision, score.f1) for score in run.test.classes] for run in row.runs]
    means = np.mean(np.asarray(seeds, dtype=np.float64).reshape(len(row.runs), -1, 3), axis=0).tolist()
    return tuple(
        ClassScore(score.name, score.count, *mean) for score, mean in zip(row.runs[0].test.classes, means, strict=True)
    )


def _macro(row: NetworkRow) -> ClassScore:
    """Return the macro averages of the test images, the means over seeds."""
    tests = [run.test for run in row.runs]
    return ClassScore(
        "macro average",
        tests[0].count,
        fmean(test.macro_recall for test in tests),
        fmean(test.macro_precision for test in tests),
        fmean(test.macro_f1 for test in tests),
    )


def _plans(row: NetworkRow) -> tuple[str, ...]:
    """List how the network's runs were computed, each way once; files of earlier versions don't say."""
    return tuple(dict.fromkeys(run.plan for run in row.runs if run.plan))


def _recipe(comparison: Comparison) -> dict[str, str | int | float | bool]:
    """Return the recipe's fields to show; with several seeds, the one it names is not what was run."""
    several = any(len(row.runs) > 1 for row in comparison.rows)
    return {name: value for name, value in comparison.recipe.items() if name != "seed" or not several}


def _accuracy_plots(comparison: Comparison) -> list[tuple[str, Markup]]:
    titles: dict[Cost, str] = {
        "latency": "Accuracy against latency",
        "macs": "Accuracy against multiply-adds",
        "parameters": "Accuracy against parameters",
        "memory": "Accuracy against peak memory",
    }
    if latency_key(comparison) is None:
        del titles["latency"]
    return [(title, Markup(accuracy_plot(comparison, cost))) for cost, title in titles.items()]


def _curve_plots(comparison: Comparison) -> list[tuple[str, Markup]]:
    drawn: list[tuple[str, CurveQuantity]] = [("Training loss", "loss"), ("Training accuracy", "top1")]
    if validated(comparison):
        drawn.append(("Validation accuracy", "validation_top1"))
    return [(title, Markup(curves_plot(comparison, quantity))) for title, quantity in drawn]
