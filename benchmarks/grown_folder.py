"""What an image more does to a network's figures: train on a folder, add an image, score the run again.

    python benchmarks/grown_folder.py OUT

50 digits of each class are written as PNG files into one folder a class, a network is trained on the folder, one more
digit is put into it, and `evaluate RUN` is asked before and after. The folder is not split: where an image more draws
the split anew, images that were trained on are scored. How many of those scored were trained on is found from the files
themselves, by the names that the training split had; where the split is drawn at random it depends on the numbers of
images, from none to most of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

from mobilenets.data.datasets import load_dataset
from mobilenets.data.packaged import read_digits

EACH = 50
EPOCHS = 4


def write_digits(folder: Path, each: int = EACH) -> list[tuple[Path, Image.Image]]:
    """Write the first images of every class, and return the others with the paths they would have."""
    classes, images = read_digits()
    written = dict.fromkeys(classes, 0)
    rest = []
    for source, label in zip(images.sources, images.labels, strict=True):
        name = classes[label]
        path = folder / name / f"{Path(source.name).name}.png"
        if written[name] < each:
            path.parent.mkdir(parents=True, exist_ok=True)
            source.open().convert("L").save(path)
            written[name] += 1
        else:
            rest.append((path, source.open().convert("L")))
    return rest


def mobilenets(*arguments: str) -> tuple[str, str]:
    """Run the command; standard output and error."""
    command = [sys.executable, "-m", "mobilenets", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}\n{done.stderr}")
    return done.stdout, done.stderr


def evaluate(run: Path, folder: Path) -> tuple[float, int, list[str]]:
    """Top-1 in percent, how many images were scored, and the notes."""
    out, said = mobilenets("evaluate", str(run), "--data", str(folder), "--json")
    scores = json.loads(out)
    return scores["top1"], scores["count"], [line for line in said.splitlines() if line.startswith("note")]


def main(out: Path) -> None:
    """Run it and print what was found."""
    folder, run = out / "folder", out / "run"
    rest = write_digits(folder)
    train = ["train", "mobilenet_v3_small", "--data", str(folder), "--recipe", "quick", "--epochs", str(EPOCHS)]
    mobilenets(*train, "--validation-fraction", "0", "--out", str(run))
    trained = {source.name for source in load_dataset(folder).train.sources}
    before, count, _ = evaluate(run, folder)
    print(f"trained on {len(trained)} images; test top-1 {before:.1f} % of {count}")
    path, image = next((path, image) for path, image in rest if path.parent.name == "0")
    image.save(path)
    grown = load_dataset(folder)
    tests = {source.name for source in grown.test.sources}
    after, count, notes = evaluate(run, folder)
    print(
        f"added {path.relative_to(folder)}: the test split has {len(tests)} images, {len(tests & trained)} trained on"
    )
    print(f"evaluate RUN: top-1 {after:.1f} % of {count}")
    print("\n".join(notes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
