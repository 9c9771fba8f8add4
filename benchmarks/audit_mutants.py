"""What the audit finds in faulty networks and its false errors on correct ones: `python benchmarks/audit_mutants.py`.

Regime: networks generated from the papers' tables as plain PyTorch code (tests/helpers/mutants), each with one to three
known bugs, in nine code styles, over widths, classes and image sizes; then the correct ones, in the same styles. A bug
is found when a finding carries its rule's name. An error that no bug of its network explains is a false one.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from mobilenets.errors import AuditError
from mobilenets.workflows.audit import audit

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from mutants.generate import Mutant, correct, mutants  # found by the line above

MUTANTS, SEED = 250, 14
RESULT = Path(__file__).parent / "results" / "audit_mutants.json"


@dataclass(frozen=True)
class Verdict:
    """One network audited: which bugs were found, which errors nothing explains, and whether the sums close."""

    name: str
    style: str
    found: tuple[str, ...]
    missed: tuple[str, ...]
    true_errors: int
    false_errors: tuple[str, ...]
    unexplained_parameters: int
    unexplained_macs: int


def verdict_of(mutant: Mutant) -> Verdict:
    try:
        answer = audit(mutant.build(), image_size=mutant.size)
    except AuditError as error:
        print(f"{mutant.name}: {error}", flush=True)
        return Verdict(mutant.name, mutant.style.name, (), tuple(bug.name for bug in mutant.bugs), 0, (), 0, 0)
    rules = {finding.claim.rule for finding in answer.findings}
    errors = [finding.claim.rule for finding in answer.errors]
    explained = {rule for bug in mutant.bugs for rule in (*bug.rules, *bug.also)}
    found = tuple(bug.name for bug in mutant.bugs if rules & set(bug.rules))
    return Verdict(
        name=mutant.name,
        style=mutant.style.name,
        found=found,
        missed=tuple(bug.name for bug in mutant.bugs if bug.name not in found),
        true_errors=sum(rule in explained for rule in errors),
        false_errors=tuple(rule for rule in errors if rule not in explained),
        unexplained_parameters=answer.unexplained_parameters,
        unexplained_macs=answer.unexplained_macs,
    )


def figures(verdicts: Iterable[Verdict], correct_ones: Iterable[Verdict]) -> dict[str, Any]:
    """Recall over bugs, precision over errors, false alarms over correct networks; by bug and by style."""
    faulty, clean = list(verdicts), list(correct_ones)
    by_bug: dict[str, Counter[str]] = {}
    by_style: dict[str, Counter[str]] = {}
    for verdict in faulty:
        style = by_style.setdefault(verdict.style, Counter(found=0, missed=0, false_errors=0))
        style["false_errors"] += len(verdict.false_errors)
        for outcome, bugs in (("found", verdict.found), ("missed", verdict.missed)):
            for bug in bugs:
                by_bug.setdefault(bug, Counter(found=0, missed=0))[outcome] += 1
                style[outcome] += 1
    found, missed = (sum(counts[outcome] for counts in by_bug.values()) for outcome in ("found", "missed"))
    true, false = sum(one.true_errors for one in faulty), sum(len(one.false_errors) for one in faulty)
    return {
        "mutants": len(faulty),
        "bugs": found + missed,
        "recall": found / (found + missed),
        "precision": true / (true + false) if true + false else 1.0,
        "correct": len(clean),
        "false_alarms": sum(bool(one.false_errors) for one in clean),
        "sums_that_close": sum(not (one.unexplained_parameters or one.unexplained_macs) for one in faulty),
        "by_bug": {bug: dict(counts) for bug, counts in sorted(by_bug.items())},
        "by_style": {style: dict(counts) for style, counts in sorted(by_style.items())},
        "failures": [asdict(one) for one in (*faulty, *clean) if one.missed or one.false_errors],
    }


def table(result: dict[str, Any]) -> str:
    """GitHub Markdown, a row a style."""
    lines = ["| style | bugs found | missed | false errors |", "| :-- | --: | --: | --: |"]
    for style, counts in result["by_style"].items():
        lines.append(f"| {style} | {counts['found']} | {counts['missed']} | {counts['false_errors']} |")
    return "\n".join(lines)


def main() -> None:
    torch.manual_seed(SEED)  # fresh weights: what the audit says must not hang on them
    start = perf_counter()
    verdicts = []
    for index, mutant in enumerate(mutants(MUTANTS, seed=SEED), start=1):
        verdicts.append(verdict_of(mutant))
        if verdicts[-1].missed or verdicts[-1].false_errors:
            print(
                f"{index}: {mutant.name}: missed {verdicts[-1].missed}, false {verdicts[-1].false_errors}", flush=True
            )
    result = figures(verdicts, [verdict_of(network) for network in correct(seed=SEED)])
    result["seconds_per_audit"] = round((perf_counter() - start) / (result["mutants"] + result["correct"]), 2)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))
    print(f"recall {result['recall']:.3f}, precision {result['precision']:.3f}, false alarms {result['false_alarms']}")


if __name__ == "__main__":
    main()
