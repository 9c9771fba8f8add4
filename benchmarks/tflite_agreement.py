"""Do our networks answer as the files their weights come from? `python benchmarks/tflite_agreement.py`.

Regime: Google's two quantization-aware trained uint8 files against our float networks with their dequantized weights,
on 500 ImageNet pictures, one each of 500 classes (`../shared/data`; see the README there). Both get the same pixels
(shorter side resized to size / 0.875, bilinear, centre crop): LiteRT as uint8, ours normalized. The pictures are
probably training images, so the top-1 compares the two and is no ImageNet score.

How much of the difference is the rounding of activations is measured too: these files round every layer's output to 8
bits and ours do not, so ours is asked once more with its outputs rounded as the file rounds them.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from scipy.stats import binomtest

from mobilenets.images import open_image
from mobilenets.models.layers import ConvNormActivation, InvertedResidual
from mobilenets.models.network import MobileNet
from mobilenets.models.registry import create_model
from mobilenets.models.weights.tflite import read_tflite_weights
from mobilenets.preprocessing import Preprocessing
from mobilenets.tflite.model import Quantization
from mobilenets.tflite.reader import read_model

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = {
    "mobilenet_v1_0.25_128_quant.tflite": ("mobilenet_v1", 0.25),
    "mobilenet_v2_1.0_224_quant.tflite": ("mobilenet_v2", 1.0),
}
BATCH = 20
BACKGROUND = 1
"""These files' output 0 is no class of ImageNet: class k answers at k + 1."""

Indices = NDArray[np.int64]


def read_truth(archive: zipfile.ZipFile) -> tuple[list[str], Indices]:
    """The pictures' names, and the output that is right for each."""
    lines = (DATA / "imagenet-classes.txt").read_text(encoding="utf-8").splitlines()
    index = {line.split()[0]: number for number, line in enumerate(lines)}
    names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg")))
    return names, np.array([index[name.partition("/")[0]] + BACKGROUND for name in names])


def arranged(archive: zipfile.ZipFile, names: list[str], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The pictures as uint8 `[N, H, W, C]`."""
    pictures = (open_image(io.BytesIO(archive.read(name)), name=name) for name in names)
    return np.stack([preprocessing.arrange(picture) for picture in pictures])


def litert_answers(path: Path, images: NDArray[np.uint8]) -> Indices:
    """What the file itself calls each image, run by LiteRT on one thread."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    entry, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    called = []
    for image in images:
        interpreter.set_tensor(entry, image[None])
        interpreter.invoke()
        called.append(interpreter.get_tensor(answer)[0].argmax())
    return np.array(called)


def our_answers(model: torch.nn.Module, images: NDArray[np.uint8], preprocessing: Preprocessing) -> Indices:
    """What our float network calls each image."""
    with torch.inference_mode():
        batches = np.array_split(images, -(-len(images) // BATCH))
        return np.concatenate(
            [model(torch.from_numpy(preprocessing.normalize(batch))).argmax(1).numpy() for batch in batches]
        )


def round_as(path: Path, model: MobileNet) -> None:
    """From now on round every layer's output as the file does: to 256 values, with its own scale and zero point."""
    graph = read_model(path)

    def outputs(*kinds: str) -> list[Quantization | None]:
        chosen = (operator for operator in graph.operators if operator.kind in kinds)
        return [graph.tensors[operator.outputs[0]].quantization for operator in chosen]

    def blocks_with_shortcut() -> list[torch.nn.Module]:
        return [block for block in model.blocks if isinstance(block, InvertedResidual) and block.has_shortcut]

    convolutions = [module for module in model.modules() if isinstance(module, ConvNormActivation)]
    for layers, quantizations in (
        ([*convolutions, model.classifier], outputs("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")),
        (blocks_with_shortcut(), outputs("ADD")),
        ([model.pool], outputs("AVERAGE_POOL_2D", "MEAN")),
    ):
        for layer, quantization in zip(layers, quantizations, strict=True):
            if quantization is None:
                raise SystemExit(f"{path} is no quantized file")
            layer.register_forward_hook(_rounding(quantization))


def _rounding(quantization: Quantization) -> Callable[[torch.nn.Module, Any, torch.Tensor], torch.Tensor]:
    (scale,), (zero_point,) = quantization.scales, quantization.zero_points

    def hook(layer: torch.nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(output, scale, zero_point, 0, 255)

    return hook


def compare(file: str, archive: zipfile.ZipFile) -> dict[str, Any]:
    """One file's row: percentages, and the 95 % Wilson interval of the agreement."""
    path, (network, width_mult) = DATA / "google" / file, FILES[file]
    weights = read_tflite_weights(path)
    if weights.preprocessing is None:
        raise SystemExit(f"{path} does not say how images are prepared")
    size = weights.preprocessing.image_size
    arguments = {"num_classes": weights.num_classes, "width_mult": width_mult, "image_size": size}
    model = create_model(network, **arguments, **weights.options).eval()
    model.load_state_dict(weights.tensors(model))
    names, truth = read_truth(archive)
    images = arranged(archive, names, weights.preprocessing)
    theirs, ours = litert_answers(path, images), our_answers(model, images, weights.preprocessing)
    round_as(path, model)
    rounded = our_answers(model, images, weights.preprocessing)
    agreeing = int((theirs == ours).sum())
    interval = binomtest(agreeing, len(names)).proportion_ci(method="wilson")
    return {
        "network": model.config.to_dict(),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "images": len(names),
        "litert_top1": percent(theirs == truth),
        "ours_top1": percent(ours == truth),
        "agreeing": agreeing,
        "agreement": percent(theirs == ours),
        "agreement_interval": [round(100 * bound, 2) for bound in interval],
        "ours_rounded_top1": percent(rounded == truth),
        "agreement_rounded": percent(theirs == rounded),
    }


def percent(hits: NDArray[np.bool_]) -> float:
    return round(100 * float(hits.mean()), 2)


def main() -> None:
    from timing import write

    torch.set_num_threads(1)
    with zipfile.ZipFile(DATA / "imagenet-samples.zip") as archive:
        rows = {file: compare(file, archive) for file in FILES}
    for file, row in rows.items():
        print(
            f"{file}: LiteRT {row['litert_top1']} %, ours {row['ours_top1']} %, agree {row['agreement']} %; "
            f"with activations rounded to 8 bits {row['agreement_rounded']} %"
        )
    regime = "500 ImageNet pictures of 500 classes, centre crop 87.5 %, bilinear; uint8 file against our float network"
    versions = {package: version(package) for package in ("ai-edge-litert", "numpy", "pillow", "tflite", "torch")}
    write(
        "tflite_agreement",
        regime,
        {"command": "python benchmarks/tflite_agreement.py", "versions": versions, "files": rows},
    )


if __name__ == "__main__":
    main()
