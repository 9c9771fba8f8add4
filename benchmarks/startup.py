"""How long the command takes to answer `--help`: `python benchmarks/startup.py`.

Regime: the real process, from start to exit, 20 alternating rounds after one unmeasured; beside it Python doing
nothing, and every verb's own help.
"""

from __future__ import annotations

import subprocess
import sys
import time

from mobilenets.benchmarking.latency import measure_latency
from mobilenets.cli.main import VERBS

ROUNDS = 20


def main() -> None:
    from timing import write

    commands = {
        "python -c pass": ("-c", "pass"),
        "mobilenets --help": ("-m", "mobilenets", "--help"),
        **{f"mobilenets {verb} --help": ("-m", "mobilenets", verb, "--help") for verb in VERBS},
    }

    def call(arguments: tuple[str, ...]) -> None:
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)

    calls = {name: (lambda arguments=arguments: call(arguments)) for name, arguments in commands.items()}
    start = time.monotonic()
    times = measure_latency(calls, warmup=1, rounds=ROUNDS)
    figures = {name: {"median": one.median_ms / 1000, "p95": one.p95_ms / 1000} for name, one in times.items()}
    print(f"{time.monotonic() - start:.0f} s")
    write("startup", f"whole processes, {ROUNDS} alternating rounds; seconds", {"seconds": figures})


if __name__ == "__main__":
    main()
