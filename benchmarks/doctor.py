"""How long the doctor takes on 60,000 images: `python benchmarks/doctor.py cifar10.zip`.

Regime: the real command in a process of its own, with its page and its list, on a zip or a folder; 3 rounds after one
that fills the system's cache of the file. `findings` are what it finds, by kind.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3


def main(data: Path) -> None:
    from timing import spread, write

    seconds, record = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1 + ROUNDS):
            out = Path(folder) / str(number)
            start = time.perf_counter()
            command = [sys.executable, "-m", "mobilenets", "doctor", str(data), "--fix", "--out", str(out)]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
            if done.returncode not in (0, 1):
                raise SystemExit(done.returncode)
            seconds.append(time.perf_counter() - start)
            record = json.loads((out / "doctor.json").read_text(encoding="utf-8"))
            page = (out / "doctor.html").stat().st_size
            print(f"round {number}: {seconds[-1]:.1f} s", flush=True)
    tested = {
        name
        for finding in record["findings"]
        if finding["kind"] == "alike-across-splits"
        for example in finding["examples"]
        for name in example["images"]
        if name.startswith("test/")
    }
    figures = {
        "images": record["images"],
        "seconds": spread(seconds[1:]),
        "page_kb": round(page / 1000),
        "findings": {finding["kind"]: finding["count"] for finding in record["findings"]},
        "test_images_alike_to_training": len(tested),
        "left_out": len(record["excluded"]),
    }
    write("doctor", f"mobilenets doctor {data.name} --fix, {ROUNDS} rounds, files in the system's cache", figures)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
