"""`audit`: compare any MobileNet, a module or a file, with the published one it is nearest to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mobilenets.auditing.graph.behaviour import observe, training_paths
from mobilenets.auditing.graph.capture import capture
from mobilenets.auditing.graph.nodes import Behaviour, Graph
from mobilenets.auditing.result import Audit
from mobilenets.auditing.rules.findings import account, apply_rules
from mobilenets.auditing.rules.registry import RULES
from mobilenets.auditing.sizing import check_image_size
from mobilenets.auditing.structure.fold import fold
from mobilenets.auditing.structure.nearest import compare
from mobilenets.auditing.target import AuditTarget, file_graph, load_target, module_target
from mobilenets.auditing.user_code import ALLOW_RUNNING
from mobilenets.errors import AuditError
from mobilenets.progress import Progress

STEPS = 4
"""Of an audit, as its progress counts them: loaded, read and run, compared, explained."""


def audit(
    target: nn.Module | str | Path,
    *,
    expect: str | None = None,
    ignore: str | Iterable[str] | None = None,
    width_mult: float | None = None,
    image_size: int | None = None,
    args: Mapping[str, Any] | None = None,
    run: bool = True,
    progress: Progress | None = None,
) -> Audit:
    """Compare a network with the published MobileNet it is, or should be.

    Auditing a module, or code that a text names, runs it: only files and run folders are read without running anything
    of their makers'.

    Args:
        target: a module; or in text `package.module:Factory`, `path/file.py:Class`, an ONNX file, a TensorFlow Lite
            file, a run folder.
        expect: registered name of the network it should be; by default the one a run folder says it is, of other
            targets the nearest.
        ignore: ids of rules whose findings are set aside: they are no errors, and the report counts them.
        width_mult: its width multiplier; by default likewise.
        image_size: side in pixels of the images; by default the target's own, or 224.
        args: keyword arguments of the factory.
        run: False refuses to run any code: then the target is a file or a run folder.
        progress: told which of its steps are done.

    Returns:
        The findings; with those ignored and what is unexplained, their parameters and multiply-adds add up to the whole
        difference.

    Raises:
        AuditError: the target can't be loaded or read, is code though `run` is False, takes no images of `image_size`,
            `expect` is no network, or `ignore` names no rule.
        ModelError: `width_mult` is out of range.
        MissingExtraError: reading such a file needs a package that is not installed.
    """
    ignored = RULES.ignored(ignore or ())

    def done(step: int) -> None:
        if progress is not None:
            progress.update("auditing", step, STEPS)

    if image_size is not None:
        check_image_size(image_size)
    if isinstance(target, nn.Module):
        if not run:
            raise AuditError(f"auditing {type(target).__name__} would run its code: {ALLOW_RUNNING}")
        loaded = module_target(target, image_size)
    else:
        loaded = load_target(str(target), args, image_size, run=run)
    done(1)
    graph, seen = _read(loaded, image_size)
    chain = fold(graph)
    done(2)
    notes = [*loaded.notes, *graph.notes]
    if loaded.config is not None and expect is None:
        # A run folder says what it is: that, not the nearest network, is what it should be.
        expect = loaded.config.name
        notes.append(f"it is expected to be what the run folder says: {expect}, width {loaded.config.width_mult:g}")
        width_mult = loaded.config.width_mult if width_mult is None else width_mult
    comparison = compare(chain, expect=expect, width_mult=width_mult, image_size=image_size)
    done(3)
    diagnostics = apply_rules(comparison, seen=seen, front_end=graph.front_end, unused=graph.unused)
    findings, parameters, macs = account(comparison, diagnostics)
    done(4)
    return Audit(
        target=loaded.title,
        front_end=graph.front_end,
        comparison=comparison,
        findings=tuple(one for one in findings if one.diagnostic.rule not in ignored),
        unexplained_parameters=parameters,
        unexplained_macs=macs,
        notes=tuple(notes),
        ignored=tuple(one for one in findings if one.diagnostic.rule in ignored),
    )


def _read(loaded: AuditTarget, image_size: int | None) -> tuple[Graph, Behaviour]:
    """The target's graph, and what running it shows; a file's graph shows only whether it was left in training."""
    if loaded.module is not None and loaded.input_shape is not None:
        graph = capture(loaded.module, loaded.input_shape)
        return graph, observe(loaded.module, graph, loaded.input_shape)
    assert loaded.path is not None
    graph = file_graph(loaded.path, loaded.kind, image_size)
    return graph, Behaviour(stays_in_training=training_paths(graph))
