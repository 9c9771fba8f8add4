"""The tables of few images and of classes of unequal size."""

from __future__ import annotations

from statistics import median

from loading import load

WAYS = ("head-only", "fine-tuned", "from scratch")


def few_images() -> str:
    """What few images give in each way."""
    rows = load("few_images")["rows"]
    lines = [
        "| images a class | way | size | epochs | test accuracy (95 % interval) | draws | processor time to train |",
        "| --: | :-- | --: | --: | --: | --: | --: |",
    ]
    kinds = sorted({(row["per_class"], row["way"]) for row in rows}, key=lambda kind: (kind[0], WAYS.index(kind[1])))
    for count, way in kinds:
        same = [row for row in rows if (row["per_class"], row["way"]) == (count, way)]
        one, seconds = same[0], median(row["processor_seconds"] for row in same)
        tops = sorted(row["top1"]["mean"] for row in same)
        top1 = one["top1"]
        shown = f"{top1['mean']:.1f} % ({top1['low']:.1f}–{top1['high']:.1f}) of {one['test_images']:,}"
        draws = "1" if len(same) == 1 else f"{len(same)}: {tops[0]:.1f}–{tops[-1]:.1f} %"
        epochs = "–" if way == "head-only" else str(one["epochs"])
        lines.append(f"| {count} | {way} | {one['image_size']} | {epochs} | {shown} | {draws} | {seconds:,.0f} s |")
    return "\n".join(lines) + "\n"


def imbalance() -> str:
    """Recall of rare and common classes by each way of balancing."""
    result = load("imbalance")
    lines = [
        "| rare classes have | `--balance` | all classes | rare ones | the others |",
        "| --: | :-- | --: | --: | --: |",
    ]
    for kind, ways in result["recall"].items():
        for way, parts in ways.items():
            cells = [f"{one['median']:.1f} ({one['min']:.1f}–{one['max']:.1f})" for one in parts.values()]
            images = f"{result['images'][kind]} of {result['images']['common']}"
            lines.append(f"| {images} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\nMedian of {result['seeds']} seeds, smallest and largest.\n"
