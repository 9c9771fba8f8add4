"""Kill trainings at random moments and see whether they end at the same weights: `python benchmarks/kills.py`.

Regime: scikit-learn's digits, MobileNetV3-Small x0.25 at 16 pixels with dropout and averaged weights. One run is left
alone. Others are killed (SIGKILL) again and again, each time at a moment drawn anew from when the process is up to when
it would end, and started again with --resume until they finish; the state is saved after every step or every 0.2 s, so
that many kills fall into its writing. Then weights (bit for bit), training curve and scores must be those of the run
left alone. Alone, processes are forked from one that has loaded PyTorch; under torchrun, two processes train together,
one of them is killed each time, and torchrun starts both again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

LEFTOVER = re.compile(r"\.(\w+(?:\.\w+)?)~[a-z0-9_]{8}(\.\w+)?")
ENDLESS = 100_000  # restarts: more than are ever needed
SAVE_SECONDS = ("0", "0.2")
TRAIN = [
    *("train", "mobilenet_v3_small", "--width-mult", "0.25", "--image-size", "16", "--data", "digits"),
    *("--recipe", "quick", "--ema-decay", "0.99", "--batch-size", "32"),
    *("--precision", "float32", "--memory-format", "contiguous"),
]


def result_of(run: Path) -> dict[str, Any]:
    """What must be the same: digest of the weights, curve without times, scores."""
    curve = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "weights": hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(),
        "curve": [(point["epoch"], point["loss"], point["top1"]) for point in curve],
        "scores": hashlib.sha256((run / "scores.json").read_bytes()).hexdigest(),
    }


def moment_of(run: Path) -> str:
    """Where the kill fell, as far as the folder tells."""
    names = [path.name for path in run.iterdir()] if run.exists() else []
    written = [found[1] for name in names if (found := LEFTOVER.fullmatch(name))]
    if written:
        return "while writing the state" if any("state" in name for name in written) else "while writing another file"
    if "state.pt" not in names:
        return "before the first state"
    return "while scoring" if "model.safetensors" in names else "in or between steps"


def start_alone(arguments: list[str], log: Path) -> int:
    """Fork a training; its process id."""
    child = os.fork()
    if child:
        return child
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from mobilenets.cli.main import main

    os._exit(main(arguments))


def train_killed_alone(run: Path, span: float, kills: int, draw: random.Random, moments: Counter[str]) -> int:
    """Train into `run`, killing at most `kills` times; how often it was."""
    done, log = 0, run.parent / f"{run.name}.log"
    while True:
        resume = ["--resume"] if (run / "state.pt").exists() else []
        child = start_alone([*TRAIN, "--out", str(run), "--save-seconds", draw.choice(SAVE_SECONDS), *resume], log)
        if done < kills:
            time.sleep(draw.uniform(0, span))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            done += 1
            moments[moment_of(run)] += 1
        elif os.WEXITSTATUS(status) == 0:
            return done
        else:
            raise SystemExit(f"the training failed: {log.read_text()}")


def alone(folder: Path, kills: int, draw: random.Random) -> dict[str, Any]:
    """Kill single processes."""
    import torch  # noqa: F401  # loaded once, before forking

    import mobilenets.cli.train
    import mobilenets.workflows.train  # noqa: F401

    start = time.monotonic()
    train_killed_alone(folder / "whole", 0, 0, draw, Counter())
    span = time.monotonic() - start
    wanted = result_of(folder / "whole")
    moments: Counter[str] = Counter()
    runs = same = done = 0
    while done < kills:
        run = folder / f"killed{runs}"
        # At most 25 a run, so that several runs are compared.
        done += train_killed_alone(run, span, min(25, kills - done), draw, moments)
        runs += 1
        same += result_of(run) == wanted
        print(f"alone: {done} kills, {same} of {runs} runs end the same", flush=True)
    return {"kills": done, "runs": runs, "identical": same, "moments": dict(sorted(moments.items()))}


def start_team(run: Path, log: Path) -> subprocess.Popen[bytes]:
    """Two processes under torchrun."""
    elastic = ["--standalone", "--nproc-per-node", "2", "--max-restarts", str(ENDLESS), "--monitor-interval", "0.1"]
    command = [sys.executable, "-m", "torch.distributed.run", *elastic, "-m", "mobilenets", *TRAIN, "--sync-norm"]
    with log.open("a") as file:
        return subprocess.Popen([*command, "--out", str(run), "--save-seconds", "0"], stdout=file, stderr=file)


def workers_of(parent: int) -> list[int]:
    """Process ids of the trainings torchrun has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                of = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes()
            except (OSError, ValueError, IndexError):
                continue  # it ended meanwhile
            if of == parent and b"mobilenets" in command and b"torch.distributed.run" not in command:
                found.append(int(entry.name))
    return sorted(found)


def train_killed_in_team(run: Path, kills: int, draw: random.Random, moments: Counter[str]) -> int:
    """Train into `run` under torchrun, killing one of its processes at most `kills` times; how often it was."""
    log = run.parent / f"{run.name}.log"
    torchrun, done = start_team(run, log), 0
    killed: set[int] = set()
    while torchrun.poll() is None:
        workers = workers_of(torchrun.pid)
        if done < kills and len(workers) == 2 and not killed & set(workers):
            told = log.read_text().count("epoch")
            limit = time.monotonic() + draw.uniform(0, 6)
            # Half of the kills wait for training to be under way; the others fall where they fall.
            patient = draw.random() < 0.5
            while torchrun.poll() is None and (
                time.monotonic() < limit or (patient and log.read_text().count("epoch") == told)
            ):
                time.sleep(0.01)
            victim = draw.choice(workers)
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed |= set(workers)
            done += 1
            moments[moment_of(run)] += 1
        time.sleep(0.05)
    if torchrun.returncode:
        raise SystemExit(f"the training failed: {log.read_text()[-4000:]}")
    return done


def in_team(folder: Path, kills: int, draw: random.Random) -> dict[str, Any]:
    """Kill one of two processes under torchrun."""
    train_killed_in_team(folder / "team-whole", 0, draw, Counter())
    wanted = result_of(folder / "team-whole")
    moments: Counter[str] = Counter()
    runs = same = done = 0
    while done < kills:
        run = folder / f"team{runs}"
        done += train_killed_in_team(run, min(5, kills - done), draw, moments)
        runs += 1
        same += result_of(run) == wanted
        print(f"torchrun: {done} kills, {same} of {runs} runs end the same", flush=True)
    return {"kills": done, "runs": runs, "identical": same, "moments": dict(sorted(moments.items()))}


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill trainings and compare what they end at.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--team-kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the result instead of keeping it")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    TRAIN.extend(("--epochs", str(options.epochs)))
    os.environ["OMP_NUM_THREADS"] = "1"  # as torchrun sets it
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        result = {"alone": alone(Path(folder), options.kills, draw)} if options.kills else {}
        if options.team_kills:
            result["torchrun"] = in_team(Path(folder), options.team_kills, draw)
    if options.json:
        print(json.dumps(result))
    else:
        from timing import write

        regime = f"SIGKILL at random moments; digits, MobileNetV3-Small x0.25, 16 px, {options.epochs} epochs"
        write("kills", regime, result)
    return 0 if all(part["identical"] == part["runs"] for part in result.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
