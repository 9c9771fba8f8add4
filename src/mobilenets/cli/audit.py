"""`mobilenets audit TARGET`: which MobileNet it is, and where it differs from the published one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tyro.conf import Positional

from mobilenets.cli.options import UsageError, keyword_arguments, parse
from mobilenets.cli.streams import say, warn
from mobilenets.formatting import printable

ABOUT = """Compare any MobileNet with the published one: every deviation with its place, source, cost and fix.
Structure and behaviour are read, never names. Exits 1 when there are errors, so that a CI job fails.

TARGET is package.module:Factory, path/file.py:Class, an ONNX file, a TensorFlow Lite file or a run folder.
Auditing a module imports its file and runs its code; files and run folders are only read. --no-run refuses code.

Example:
  mobilenets audit my_networks/mobilenet.py:MobileNetV2 --args '{"num_classes": 10}' --image-size 32
  ...
  error: expansion-kept
    where     features.1.conv.0
    expected  no expansion at t=1: the block starts with its depthwise filter
    found     the 1x1 expansion kept at t=1, 32 -> 32 channels
"""


@dataclass(frozen=True)
class AuditOptions:
    """Options of `audit`."""

    target: Positional[str | None] = None
    """What to audit, e.g. torchvision.models:mobilenet_v2."""
    expect: str | None = None
    """The network it should be, e.g. mobilenet_v2; default: the nearest."""
    ignore: str | None = None
    """Rules whose findings are set aside, with commas between: no errors, and only counted."""
    width_mult: float | None = None
    """Its width multiplier; default: the nearest."""
    image_size: int | None = None
    """Side of the square images in pixels; default: the target's own, or 224."""
    args: str | None = None
    """Keyword arguments of the factory as a JSON object."""
    run: bool = True
    """Run the code a target names; --no-run audits files and run folders only."""
    list_rules: bool = False
    """Print the rules and audit nothing."""
    json: bool = False
    """Print JSON instead of text."""


def main(argv: Sequence[str]) -> int:
    """Run the verb."""
    return audit(parse(AuditOptions, argv, "audit", ABOUT))


def audit(options: AuditOptions) -> int:
    """Print the audit, or the rules; returns 1 when there are errors, else 0.

    Raises:
        AuditError: the target can't be audited.
        UsageError: `--args` is no JSON object, or no target is named.
    """
    import json

    if options.list_rules:
        return _list_rules(as_json=options.json)
    if options.target is None:
        raise UsageError("the following arguments are required: TARGET (see 'mobilenets audit --help')")
    arguments = keyword_arguments(options.args)

    from mobilenets.auditing.target import will_run
    from mobilenets.report.audit import audit_text
    from mobilenets.workflows.audit import audit as run

    if options.run and will_run(options.target):
        warn(f"mobilenets: auditing {printable(options.target)} runs its code")
    result = run(
        options.target,
        expect=options.expect,
        ignore=options.ignore,
        width_mult=options.width_mult,
        image_size=options.image_size,
        args=arguments,
        run=options.run,
    )
    if options.json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        say(audit_text(result))
    return 1 if result.errors else 0


def _list_rules(*, as_json: bool) -> int:
    from mobilenets.report.rules import audit_groups, rules_json, rules_text

    print(rules_json(audit_groups()) if as_json else rules_text(audit_groups()))
    return 0
