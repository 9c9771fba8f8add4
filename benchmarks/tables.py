"""Put figures and real output into the documents: `python benchmarks/tables.py` (`make figures`).

A document marks where a figure of `results/` goes by `<!-- figures: NAME -->` ... `<!-- end -->`, and where a
command's output goes by `<!-- output: mobilenets VERB ... -->` ... `<!-- end -->`; what stands between is replaced.
Below a figure stand the results it comes from and the processor; `benchmarks/README.md` has the command of each.
With `--check` nothing is written and the exit code says whether all is up to date.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from device_tables import devices_kept, devices_ladders, devices_summary, devices_ways
from few_tables import few_images, imbalance
from loading import RESULTS, load, loaded
from mobilenets.evaluation.results import Comparison
from mobilenets.report.compare import markdown_table, read_json
from mobilenets.report.scores import split_sentence
from scale_tables import kills, ray_predict, scale_billion, scale_imagenet, scaling
from shard_tables import shards
from word_table import words

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
)
BLOCK = re.compile(r"(?P<start><!-- figures: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
OUTPUT = re.compile(
    r"(?P<start><!-- output: mobilenets (?P<arguments>[^\n]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)
COLUMNS = "100"
"""How wide a terminal the documents show."""


def comparison(name: str) -> str:
    """The table of a comparison, the tool's choice, and the command."""
    result = read_json(RESULTS / f"{name}.json")
    loaded.append(name)
    minutes = sum(run.seconds_per_epoch * len(run.curve) for row in result.rows for run in row.runs) / 60
    return (
        f"{markdown_table(result)}\n"
        f"What the tool says: {result.choice.reason}\n\n"
        f"{split_sentence(result)}\n\n"
        f"{result.data.train_images:,} training{_validation(result)} and {result.data.test_images:,} test images, "
        f"{result.recipe['epochs']} epochs, {minutes:.0f} minutes of training in all on "
        f"{result.environment['cores']} cores.\n"
    )


def _validation(result: Comparison) -> str:
    count = result.data.validation_images
    return f", {count:,} validation" if count else ""


def training_speed() -> str:
    """Images a second of each variant: median, ratio to the plain loop, smallest and largest."""
    speeds = load("training_speed")["images_per_second"]
    head = "| network, width 0.5 | plain | memory reused | channels-last too | bfloat16 too |"
    lines = [head, "| --- |" + " ---: |" * 4]
    for network, figures in speeds.items():
        cells = [
            f"{figures[variant]['median']:.0f} ({figures['ratio'][variant]:.2f}x; "
            f"{figures[variant]['min']:.0f}–{figures[variant]['max']:.0f})"
            for variant in ("plain", "reuse", "channels_last", "bfloat16")
        ]
        lines.append(f"| {network} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def loader() -> str:
    """Images a second of each side, the ratios to torchvision, and what a reduced scale changes."""
    result = load("loader")
    lines = [
        "| JPEGs of | for | torchvision | its v2, without Pillow | mobilenets | to torchvision | to v2 |",
        "| --- | --- |" + " ---: |" * 5,
    ]
    for name, source in result["sources"].items():
        for what in ("training", "evaluation"):
            speeds, ratios = source[what]["images_per_second"], source[what]["ratio"]
            cells = [
                f"{one['median']:,.0f} ({one['min']:,.0f}–{one['max']:,.0f})"
                for one in (speeds[side] for side in ("torchvision", "torchvision_v2", "mobilenets"))
            ]
            cells += [f"{ratios[side]['median']:.1f}x" for side in ("torchvision", "torchvision_v2")]
            lines.append(f"| {name} | {what} | {' | '.join(cells)} |")
    sources = result["sources"]
    twice = [name for name, one in sources.items() if one["training"]["ratio"]["torchvision"]["median"] >= 2]
    below = [name for name in sources if name not in twice]
    word = f"For training, {', '.join(twice)} reached twice torchvision's speed" + (
        f"; {', '.join(below)} did not." if below else "."
    )
    changes = [one["reduced_decoding_changes"] for one in sources.values() if "reduced_decoding_changes" in one]
    return (
        "\n".join(lines)
        + f"\n\n{word} Decoded by {result['decoder']}. A reduced scale changed a crop's pixels by at most "
        f"{max(one['mean'] for one in changes):.2f} grey levels of 255 on average over a set of photographs, 99 % of "
        f"them by {max(one['p99'] for one in changes):.0f} or less, none by more than "
        f"{max(one['max'] for one in changes):.0f}.\n"
    )


def norm_statistics() -> str:
    """Test accuracy with batch norm's statistics as left and re-estimated."""
    top1 = load("norm_statistics")["top1"]
    return (
        f"After 2 epochs of digits, MobileNetV3-Small at width 0.5 reached {top1['trained on']['median']:.1f} % on its "
        f"training batches. On the test images it reached {top1['as left']['median']:.1f} % with the statistics "
        f"training left, and {top1['re-estimated']['median']:.1f} % with the same weights and re-estimated statistics "
        "(medians of 3 seeds).\n"
    )


def startup() -> str:
    """How fast help comes."""
    seconds = load("startup")["seconds"]
    slowest = max(value["median"] for name, value in seconds.items() if name.startswith("mobilenets "))
    return (
        f"`mobilenets --help` answers in {seconds['mobilenets --help']['median']:.2f} s (Python doing nothing takes "
        f"{seconds['python -c pass']['median']:.2f} s), the slowest verb's help in {slowest:.2f} s.\n"
    )


def tflite_agreement() -> str:
    """Our float networks beside the interpreter running the files their weights come from."""
    lines = [
        "| file | LiteRT top-1 | imported top-1 | same answer | same, with 8-bit rounding simulated |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for name, row in load("tflite_agreement")["files"].items():
        low, high = row["agreement_interval"]
        lines.append(
            f"| `{name}` | {row['litert_top1']:.1f} % | {row['ours_top1']:.1f} % "
            f"| {row['agreement']:.1f} % ({low:.1f}–{high:.1f}) of {row['images']} | {row['agreement_rounded']:.1f} % |"
        )
    return "\n".join(lines) + "\n"


def audit_mutants() -> str:
    """What the audit found in generated faulty networks."""
    result = load("audit_mutants")
    lines = ["| code style | bugs found | missed | false errors |", "| :-- | --: | --: | --: |"]
    for style, row in result["by_style"].items():
        lines.append(f"| {style} | {row['found']} | {row['missed']} | {row['false_errors']} |")
    return (
        f"{result['mutants']} networks with {result['bugs']} bugs of {len(result['by_bug'])} kinds: recall "
        f"{result['recall']:.3f}, precision {result['precision']:.3f}. In {result['sums_that_close']} of them the "
        "costs of the findings add up to the whole difference. Of "
        f"{result['correct']} correct networks in the same styles {result['false_alarms']} got a false error.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def core_install() -> str:
    """Size of the core install, and how fast one image is classified."""
    result = load("core_install")
    seconds = result["seconds"]
    return (
        f"`pip install .` in a new environment brings {result['size_mb']:.0f} MB ({result['with_pip_mb']:.0f} MB with "
        f"the environment's own pip and setuptools), and `mobilenets predict` classifies one 224-pixel image by "
        f"MobileNetV2 in {seconds['mobilenets predict']['median']:.2f} s from the shell (Python doing nothing takes "
        f"{seconds['python -c pass']['median']:.2f} s).\n"
    )


def install_sizes() -> str:
    """Size on disk of the core and of the extras that most people install."""
    extras = load("install_sizes")["extras"]
    core, train = extras["core"], extras["train,export"]
    return (
        "| command | size on disk |\n| :-- | --: |\n"
        f"| `pip install .` | {core['mb']:.0f} MB |\n"
        f"| `pip install '.[litert]'`, to run LiteRT's files, too | {extras['litert']['mb']:.0f} MB |\n"
        f"| `pip install '.[train,export]'` with PyTorch's CUDA build | {train['mb'] / 1000:.1f} GB, "
        f"{train['cuda_mb'] / 1000:.1f} GB of it CUDA libraries |\n"
    )


def distillation() -> str:
    """Whether a teacher helped."""
    result = load("distillation")
    means, difference = result["mean_top1"], result["difference"]
    verdict = "it helps" if result["helps"] else "so small a run does not show that it helps"
    return (
        f"{result['regime'].replace('cifar10', 'CIFAR-10 (JPEG)')}. By labels alone "
        f"{means['labels only']['mean']:.1f} %, with a teacher of "
        f"{result['teacher']['top1']:.1f} % ({result['teacher']['network']}) {means['with teacher']['mean']:.1f} %: "
        f"{difference['difference']:+.1f} points ({difference['low']:.2f} to {difference['high']:.2f}, p = "
        f"{difference['p_value']:.3f}), {verdict}. Training and scoring take "
        f"{result['time_ratio']:.2f} times the processor time.\n"
    )


def doctor() -> str:
    """How long looking at 60,000 images takes, and what is found in them."""
    result = load("doctor")
    found, seconds, speed = result["findings"], result["seconds"], result["images_per_second"]["median"]
    return (
        f"CIFAR-10 (JPEG), {result['images']:,} images in a zip, takes {seconds['median']:.0f} s on 2 cores "
        f"({seconds['min']:.0f} to {seconds['max']:.0f}), {speed:,.0f} images a second. Of its 10,000 test images "
        f"{found['near-duplicates-across-splits']:,} look like one of the training images; pairs within a split: "
        f"{found['near-duplicates']:,}; pairs in two classes: {found.get('near-duplicates-across-classes', 0):,}; "
        f"left out by `--fix`: {result['left_out']:,}.\n"
    )


def doctor_prints() -> str:
    """How often the copy of a transformed image is found, on small images and on photographs."""
    again = load("doctor")["found_again"]
    lines = ["| transformed | " + " | ".join(again) + " |", "| :-- |" + " --: |" * len(again)]
    for name in next(iter(again.values())):
        cells = [f"{100 * rows[name]['found']:.1f} % ({rows[name]['wrong']} wrong)" for rows in again.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def recipes() -> str:
    """What `strong` gains over `article`, and what each of its ingredients does."""
    result = load("recipes")
    lines = [
        "| recipe | test top-1 (%) | difference (points) | p | seconds an epoch |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for way, mean in result["mean_top1"].items():
        test = result["differences"].get(way)
        against = "article" if way == "strong" else "strong"
        gap = (
            "" if test is None else f"{test['difference']:+.1f} ({test['low']:.1f} to {test['high']:.1f}) to {against}"
        )
        p_value = "" if test is None else f"{test['p_value']:.3f}"
        seconds = result["seconds_per_epoch"][way]["median"]
        lines.append(
            f"| {way} | {mean['mean']:.1f} ({mean['low']:.1f}–{mean['high']:.1f}) | {gap} | {p_value} | {seconds:.0f} |"
        )
    verdict = "`strong` is better here" if result["helps"] else "so short a run does not show that `strong` is better"
    table = "\n".join(lines)
    return f"{table}\n\n{result['regime'].replace('cifar10', 'CIFAR-10 (JPEG)')}. In words: {verdict}.\n"


def augmentation() -> str:
    """Milliseconds an image, beside a step of training."""
    costs = load("augmentation")["milliseconds_an_image"]
    step = costs["step"]["median"]
    lines = ["| augmentation | ms an image | of a training step |", "| :-- | --: | --: |"]
    lines += [
        f"| {name} | {cost['median']:.3f} | {cost['median'] / step:.1%} |"
        for name, cost in costs.items()
        if name != "step"
    ]
    return "\n".join(lines) + f"\n\nA step of MobileNetV3-Small at width 0.5 takes {step:.2f} ms an image.\n"


FIGURES: dict[str, Callable[[], str]] = {
    "devices_summary": devices_summary,
    "devices_kept": devices_kept,
    "devices_imagenet": lambda: devices_ways("imagenet"),
    "devices_cifar10": lambda: devices_ways("cifar10"),
    "devices_ladders": devices_ladders,
    "core_install": core_install,
    "distillation": distillation,
    "doctor": doctor,
    "doctor_prints": doctor_prints,
    "kills": kills,
    "ray_predict": ray_predict,
    "scaling": scaling,
    "scale_billion": scale_billion,
    "scale_imagenet": scale_imagenet,
    "recipes": recipes,
    "augmentation": augmentation,
    "shards": shards,
    "cifar10": lambda: comparison("cifar10"),
    "digits": lambda: comparison("digits"),
    "few_images": few_images,
    "imbalance": imbalance,
    "training_speed": training_speed,
    "loader": loader,
    "norm_statistics": norm_statistics,
    "startup": startup,
    "tflite_agreement": tflite_agreement,
    "audit_mutants": audit_mutants,
    "install_sizes": install_sizes,
}


@cache
def figure(name: str) -> str:
    """A figure's text, and below it where it comes from."""
    if name == "words":
        return words(ROOT)
    loaded.clear()
    text = FIGURES[name]()
    return f"{text}\n{_sources(loaded)}\n"


def _sources(names: Sequence[str]) -> str:
    processors = sorted({processor for name in names if (processor := _processor(name))})
    results = ", ".join(f"`benchmarks/results/{name}.json`" for name in dict.fromkeys(names))
    on = f", measured on {' and '.join(processors)}" if processors else ""
    return f"<sub>From {results}{on}.</sub>"


def _processor(name: str) -> str | None:
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    machine: dict[str, str] = result.get("machine") or result.get("environment") or {}
    return machine.get("processor")


@cache
def output(arguments: str) -> str:
    """What a command prints on a terminal, run from the project's folder; an audit's exit code may be 1."""
    command = [sys.executable, "-m", "mobilenets", *shlex.split(arguments)]
    environment = {**os.environ, "COLUMNS": COLUMNS}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"mobilenets {arguments} failed: {done.stderr}")
    return f"```console\n$ mobilenets {arguments}\n{done.stdout.rstrip()}\n```\n"


def filled(text: str) -> str:
    """The text with every marked block replaced by its figures and outputs of today."""
    text = BLOCK.sub(lambda block: block["start"] + figure(block["name"]) + block["end"], text)
    return OUTPUT.sub(lambda block: block["start"] + output(block["arguments"]) + block["end"], text)


def main() -> int:
    stale = []
    for document in (ROOT / name for name in DOCUMENTS):
        text = document.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(document.name)
            if "--check" not in sys.argv:
                document.write_text(filled(text), encoding="utf-8")
    print(f"out of date: {', '.join(stale)}" if stale else "all figures are up to date")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
