"""Tables of what `benchmarks/devices.py` measured."""

from __future__ import annotations

from typing import Any

from loading import load

IMAGES = {"imagenet": "ImageNet samples", "cifar10": "CIFAR-10 (JPEG)"}


def devices_networks() -> list[tuple[str, Any]]:
    """Every network of the two device benchmarks with what it was scored on, ImageNet's first."""
    networks = []
    for data in ("imagenet", "cifar10"):
        for row in load(f"devices_{data}")["networks"].values():
            networks.append((f"{' '.join(row['network'].split()[:2])}, {IMAGES[data]}", row))
    return networks


RUNTIMES = (
    ("ONNX Runtime", "onnx", "onnxruntime", ("fp32", "int8")),
    ("OpenVINO", "onnx", "openvino", ("fp32", "int8")),
    ("OpenVINO, bf16", "onnx", "openvino", ("bf16",)),
    ("LiteRT", "litert", "litert", ("fp32", "int8")),
    ("ExecuTorch", "executorch", "executorch", ("fp32",)),
)
"""Columns of the summary: title, format, backend, arithmetic for the float and the 8-bit file."""


def devices_summary() -> str:
    """Accuracy, size and latency of the float and the 8-bit files in every runtime, two rows a network."""
    titles = " | ".join(title for title, *_ in RUNTIMES)
    lines = [
        f"| network | file | top-1 (%) | MB, ONNX / LiteRT | {titles} |",
        "| :-- | :-- | --: | --: |" + " --: |" * len(RUNTIMES),
    ]
    for name, row in devices_networks():
        for stored, word in (("fp32", "float"), ("int8", "int8")):
            cells = [_fastest(row, stored, *column) for _, *column in RUNTIMES]
            lines.append(
                f"| {name} | {word} | {_accuracies(row, stored)} | {_megabytes(row, word)} | {' | '.join(cells)} |"
            )
    return "\n".join(lines) + "\n"


def _accuracies(row: Any, stored: str) -> str:
    """PyTorch's accuracy for the float files, which equal it; that of the two 8-bit files in their own runtimes."""
    if stored == "fp32":
        return f"{row['float_top1']:.1f}"
    told = []
    for kind, backend in (("onnx", "onnxruntime"), ("litert", "litert")):
        found = [one["top1"] for one in row["ways"] if one["stored"] == "int8" and one["backend"] == backend]
        told.append(f"{kind} {found[0]:.1f}" if found else f"{kind} refused")
    return ", ".join(told)


def _megabytes(row: Any, word: str) -> str:
    sizes = {one["name"]: one["file_bytes"] / 1e6 for one in row["files"]}
    found = [sizes[f"{word}.{suffix}"] for suffix in ("onnx", "tflite")]
    return " / ".join(f"{size:.2f}" if size else "–" for size in found)


def _fastest(row: Any, stored: str, kind: str, backend: str, precisions: tuple[str, ...]) -> str:
    """Milliseconds an image with the number of threads that was faster; a dash where there is no such file."""
    times = [
        one["latency"]["median_ms"]
        for one in row["ways"]
        if (one["kind"], one["stored"], one["backend"]) == (kind, stored, backend) and one["precision"] in precisions
    ]
    return f"{min(times):.3g} ms" if times else "–"


PEERS = ("PyTorch eager", "ONNX Runtime with its defaults", "OpenVINO with its defaults")


def devices_kept() -> str:
    """What was kept, and how much longer its peers take."""
    lines = [
        f"| network | kept here | one image | {' | '.join(PEERS)} |",
        "| :-- | :-- | --: | --: | --: | --: |",
    ]
    for name, row in devices_networks():
        kept = next(way for way in row["ways"] if way["label"] == row["kept"])
        ratios = {one["peer"]: _times(one["ratio"]) for one in row["advantages"]}
        peers = " | ".join(ratios.get(peer, "–") for peer in PEERS)
        lines.append(f"| {name} | {_way(kept)} | {kept['latency']['median_ms']:.3g} ms | {peers} |")
    return "\n".join(lines) + "\n"


def _way(way: Any) -> str:
    threads = "1 thread" if way["threads"] == 1 else f"{way['threads']} threads"
    return f"{way['kind']} {way['stored']} in {way['backend']}, {way['precision']}, {threads}"


def _times(ratio: Any) -> str:
    return f"{ratio['ratio']:.2f}x ({ratio['low']:.2f}–{ratio['high']:.2f})"


def devices_ways(data: str) -> str:
    """Every way to run every file, the fastest first."""
    parts = []
    for name, row in load(f"devices_{data}")["networks"].items():
        lines = [
            f"{name}, {row['data']}; PyTorch: {row['float_top1']:.2f} %.\n",
            "| file | runtime | arithmetic | threads | MB | top-1 | one image, ms (p95) | peak MiB | verdict |",
            "| :-- | :-- | :-- | --: | --: | --: | --: | --: | :-- |",
        ]
        lines += [
            f"| {way['kind']} {way['stored']} | {way['backend']} | {way['precision']} | {way['threads']} "
            f"| {way['file_bytes'] / 1e6:.2f} | {way['top1']:.2f} | {way['latency']['median_ms']:.3g} "
            f"({way['latency']['p95_ms']:.3g}) | {way['peak_memory_mb']:.0f} | {way['verdict']} |"
            for way in row["ways"]
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _points(drop: float | None) -> str:
    """A drop on images that were not asked of this rung is none."""
    return "" if drop is None else f"{drop:.2f}"


def devices_ladders() -> str:
    """Each rung tried and the points it lost: on the images that decide, on the others, on all."""
    lines = [
        "| network | format | rung | lost, deciding half | other half | all | won | verdict |",
        "| :-- | :-- | :-- | --: | --: | --: | --: | :-- |",
    ]
    for name, row in devices_networks():
        for ladder in row["ladders"]:
            for rung in ladder["rungs"]:
                drop = " | ".join(_points(rung["drop"][part]) for part in ("selection", "report", "whole"))
                verdict = "taken" if rung["name"] == ladder["chosen"] else "not enough"
                lines.append(
                    f"| {name} | {ladder['kind']} | {rung['name']} | {drop} | {rung['bought']:.2f} | {verdict} |"
                )
    return "\n".join(lines) + "\n"
