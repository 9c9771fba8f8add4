"""The structure of the code in figures: how large its files are, who imports them, and how many one verb runs through.

    python benchmarks/structure.py             # sizes, importers, names used twice, repeated passages
    python benchmarks/structure.py --verbs     # and the files of ours that each verb runs (a few minutes)

A file counts as run by a verb if one of its functions is called in the verb's own process, on small images that the
script makes; files that are only imported do not count, nor do worker processes. `tests/test_structure.py` holds the
bounds.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "mobilenets"
PASSAGE_LINES = 6

# Each verb's arguments; a verb may use what an earlier one left.
VERBS = {
    "train": "train mobilenet_v2 --width-mult 0.25 --image-size 32 --data photos --recipe quick --epochs 1 --out run",
    "audit": "audit run",
    "quantize": "quantize run --data photos --out run/int8.onnx",
    "deploy": "deploy run --data photos --targets onnx --max-drop 90 --out device",
}

TRACER = """
import json, sys, threading
from pathlib import Path
source, report = sys.argv[1], sys.argv[2]
files = set()
def note(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_flags & 2 and not code.co_name.startswith("<"):  # not a module's or class's body
        if code.co_filename.startswith(source) and code.co_filename.endswith(".py"):  # nor a template
            files.add(code.co_filename)
threading.setprofile(note)
sys.setprofile(note)
from mobilenets.cli.main import main
try:
    code = main(sys.argv[3:])
finally:
    sys.setprofile(None)
    Path(report).write_text(json.dumps(sorted(files)))
sys.exit(code or 0)
"""


def main() -> None:
    """Print the table, and with `--json` write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbs", action="store_true", help="run each verb and count the files it runs")
    parser.add_argument("--list", action="store_true", help="name the single importers, names used twice and passages")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    figures = measure(SOURCE)
    if arguments.list:
        for name, where in class_names(SOURCE).items():
            if len(where) > 1:
                print(f"class {name}: {', '.join(where)}")
        for module, importers in sorted(importers_of(SOURCE).items()):
            if len(importers) == 1:
                print(f"{module} is imported by {importers.pop()} alone")
        for first, second in repeated_passages(SOURCE):
            print(f"{first} is repeated at {second}")
    if arguments.verbs:
        for verb, files in run_verbs().items():
            figures[f"files run by {verb}"] = len(files)
            if arguments.list:
                print(f"{verb}: {' '.join(files)}")
    for name, figure in figures.items():
        print(f"{name:36}{figure:>8,}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(source: Path) -> dict[str, int]:
    """Return the figures that need nothing run."""
    lines = [len(path.read_text().splitlines()) for path in modules(source)]
    importers = importers_of(source)
    return {
        "files": len(lines),
        "lines": sum(lines),
        "median lines of a file": round(statistics.median(lines)),
        "most lines of a file": max(lines),
        "files of fewer than 60 lines": sum(count < 60 for count in lines),
        "files with one importer": sum(len(names) == 1 for names in importers.values()),
        "class names used twice": sum(len(where) > 1 for where in class_names(source).values()),
        "repeated passages": len(repeated_passages(source)),
    }


def modules(source: Path) -> list[Path]:
    """Return the package's files, but for the `__init__.py` that hold one line."""
    return sorted(path for path in source.rglob("*.py") if path.name != "__init__.py" or path.parent == source)


def dotted(path: Path, source: Path) -> str:
    """Return a file's module name within the package."""
    return ".".join(path.relative_to(source).with_suffix("").parts)


def importers_of(source: Path) -> dict[str, set[str]]:
    """Return, of each module, the modules that import it; the package's own `__init__` does not count."""
    names = {dotted(path, source) for path in modules(source)}
    importers: dict[str, set[str]] = defaultdict(set)
    for path in modules(source):
        if path.name.startswith("__"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            for target in _imported(node):
                inner = target.removeprefix("mobilenets.")
                for module in (inner, inner.rpartition(".")[0]):
                    if module in names:
                        importers[module].add(dotted(path, source))
                        break
    return importers


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mobilenets"):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.startswith("mobilenets"))


def class_names(source: Path) -> dict[str, list[str]]:
    """Return, of each name of a public class, the modules that define one."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in modules(source):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(dotted(path, source))
    return dict(sorted(found.items()))


def repeated_passages(source: Path) -> list[tuple[str, str]]:
    """Return the pairs of places that share at least `PASSAGE_LINES` lines, imports and comments aside."""
    seen: dict[tuple[str, ...], str] = {}
    pairs: Counter[tuple[str, str]] = Counter()
    for path in modules(source):
        source_text = path.read_text()
        imports = {
            number
            for node in ast.walk(ast.parse(source_text))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        numbered = ((number, text.strip()) for number, text in enumerate(source_text.splitlines(), 1))
        lines = [
            (n, text) for n, text in numbered if text and n not in imports and not re.match(r"#|[)\]}(]+,?$", text)
        ]
        windows = [lines[start : start + PASSAGE_LINES] for start in range(len(lines) - PASSAGE_LINES + 1)]
        for window in windows:
            key = tuple(text for _, text in window)
            place = f"{dotted(path, source)}:{window[0][0]}"
            first = seen.setdefault(key, place)
            if first != place:
                pairs[first, place] += 1
    # Overlapping windows are one passage: keep the first of each run of neighbouring lines.
    found = sorted(pairs)
    return [pair for before, pair in pairwise([("", ""), *found]) if not _follows(before, pair)]


def _follows(before: tuple[str, str], pair: tuple[str, str]) -> bool:
    if not before[0]:
        return False
    (file, line), (file_before, line_before) = (place[0].rsplit(":", 1) for place in (pair, before))
    return file == file_before and int(line) - int(line_before) <= PASSAGE_LINES


def run_verbs() -> dict[str, list[str]]:
    """Return, of each verb of `VERBS`, our files whose functions it called."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(folder / "photos")
        (folder / "tracer.py").write_text(TRACER)
        for verb, line in VERBS.items():
            report = folder / f"{verb}.json"
            command = [sys.executable, str(folder / "tracer.py"), str(SOURCE), str(report), *line.split()]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode not in (0, 1) or not report.exists():
                raise SystemExit(f"{line}: exit {done.returncode}\n{done.stderr}")
            found[verb] = [dotted(Path(path), SOURCE) for path in json.loads(report.read_text())]
    return found


def make_photos(folder: Path) -> None:
    """Write 2 classes of 40 small images that a network can tell apart."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for label, name in enumerate(("cold", "warm")):
        (folder / name).mkdir(parents=True)
        for number in range(40):
            pixels = draw.integers(0, 120, (32, 32, 3), dtype=np.uint8)
            pixels[..., 0 if label else 2] += 120
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


if __name__ == "__main__":
    main()
