"""A deployment in sentences and commands, the same ones for the terminal and the page."""

from __future__ import annotations

import shlex
from pathlib import Path

from mobilenets.benchmarking.candidate import RUNTIME_WORDS, thread_words
from mobilenets.deployment.results import Advantage, DeploymentReport
from mobilenets.install import install_line

_EXTRA = {"onnxruntime": "", "openvino": "openvino", "litert": "litert", "executorch": "executorch"}
_REMARK = {"executorch": "  # its Python bindings bring PyTorch"}


def headline(report: DeploymentReport) -> str:
    """The decision in a few words."""
    name = Path(report.path).name
    return f"Take {name}" if report.decision.holds else f"Nothing holds the accuracy: kept {name}, in float"


def choice_sentence(report: DeploymentReport) -> str:
    """On which images the choice was made, and what the test images say of it."""
    if report.test is None:
        return f"Chosen on {report.data}, {report.kept.top1:.2f} % of which it answers rightly."
    drop, asked = report.test_drop(report.kept), f"the {report.test.data}, asked once, afterwards"
    if drop is None:
        return f"Chosen on {report.data}; {asked}, could not be answered."
    return f"Chosen on {report.data}. Of {asked}, it answers {report.kept.test_top1:.2f} % rightly, {drop_words(drop)}."


def advantage_sentence(advantage: Advantage) -> str:
    """How the kept way compares with one peer: `6.1× (5.8 to 6.4) as fast as PyTorch eager`."""
    ratio = advantage.ratio
    # All three with the digits of the first: more would pretend a precision the interval denies.
    digits = 2 if ratio.ratio < 3 else 1 if ratio.ratio < 100 else 0
    times = f"{ratio.ratio:.{digits}f}× ({ratio.low:.{digits}f} to {ratio.high:.{digits}f}) as fast as {advantage.peer}"
    if not ratio.distinct:
        return f"{times}: no difference this machine could tell"
    return times if ratio.ratio > 1 else f"{times}: slower"


def shell_commands(report: DeploymentReport) -> str:
    """What to type to run the kept file, without PyTorch."""
    install = install_line(_EXTRA[report.kept.backend]) + _REMARK.get(report.kept.backend, "")
    return f"{install}\nmobilenets predict {shlex.quote(report.path)} photos/"


def python_lines(report: DeploymentReport) -> str:
    """The same in Python."""
    return (
        "from mobilenets.runtime.classifier import Classifier\n"
        f"classifier = Classifier({report.path!r})\n"
        "answer = classifier.predict(['photo.jpg'])[0]\n"
        "print(answer.label, answer.probability)"
    )


def settings_words(report: DeploymentReport) -> str:
    """How the kept file is run when nothing else is asked for."""
    kept = report.kept
    threads = thread_words(kept.threads)
    return f"{RUNTIME_WORDS[kept.backend]} {kept.precision}, {threads}"


def drop_words(drop: float) -> str:
    """Points lost against PyTorch: `0.28 points below PyTorch`."""
    if abs(drop) < 0.005:
        return "exactly PyTorch's" if drop == 0 else "PyTorch's"
    return f"{abs(drop):.2f} points {'below' if drop > 0 else 'above'} PyTorch"
