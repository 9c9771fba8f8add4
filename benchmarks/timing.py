"""What the scripts here share: alternating processes, medians with spread, the machine beside the figures."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from mobilenets.benchmarking.latency import round_order
from mobilenets.training.plan import processor_name

RESULTS = Path(__file__).parent / "results"


def alternate(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[Any]]:
    """Run each command `rounds` times in turn, in processes of their own; each prints one JSON value last."""
    values: dict[str, list[Any]] = {name: [] for name in commands}
    for number in range(rounds):
        for name in round_order(tuple(commands), number):
            done = subprocess.run([sys.executable, *commands[name]], stdout=subprocess.PIPE, text=True, check=True)
            values[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}/{rounds}  {name}: {values[name][-1]}", flush=True)
    return values


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def write(name: str, regime: str, figures: Mapping[str, Any]) -> None:
    """Write `results/NAME.json`: the regime in words, the machine, and the figures."""
    machine = {"processor": processor_name(), "python": platform.python_version()}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"regime": regime, "machine": machine, **figures}, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path}")
