"""What the measured figures come to at a size that was not measured: `python benchmarks/scale_paper.py`.

Arithmetic, not a measurement: from `loader.json`, `ray_predict.json` and published speeds of a GPU to ImageNet on
8 GPUs and to a billion images answered by processors. Every assumption is in the result.
"""

from __future__ import annotations

from typing import Any

from loading import load
from timing import write

# ImageNet-1k's training images, and images of MobileNet's usual size in training on one RTX 3090 (PyTorch 1.12, AMP,
# channels-last, batch 512): pytorch-image-models, results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv.
IMAGENET = 1_281_167
GPU_SPEED = {"mobilenet_v2": 2313.10, "mobilenet_v3_large": 2732.43, "mobilenet_v3_small": 8035.08}
PARAMETERS = {"mobilenet_v2": 3_504_872, "mobilenet_v3_large": 5_483_032, "mobilenet_v3_small": 2_542_856}
EPOCHS = {"mobilenet_v2": 300, "mobilenet_v3_large": 600, "mobilenet_v3_small": 600}
GPUS, BATCH, EFFICIENCY = 8, 256, 0.9
BYTES_PER_IMAGE = 110_000  # ImageNet's 1,281,167 JPEGs are about 140 GB
BILLION = 1_000_000_000
GPU_HOUR, CORE_HOUR = 0.40, 0.04
"""Prices assumed, in dollars: clouds differ by several times."""
PHOTO = "500x375"


def training(network: str, per_core: float) -> dict[str, float]:
    """ImageNet on 8 GPUs."""
    speed = GPUS * EFFICIENCY * GPU_SPEED[network]
    hours = EPOCHS[network] * IMAGENET / speed / 3600
    step = GPUS * BATCH / speed
    return {
        "images_per_second": speed,
        "epochs": EPOCHS[network],
        "hours": hours,
        "gpu_hours": GPUS * hours,
        "dollars": GPUS * hours * GPU_HOUR,
        "cores_to_feed_them": speed / per_core,
        "gigabytes_read_per_second": speed * BYTES_PER_IMAGE / 1e9,
        # A ring passes each gradient 2 (n - 1) / n times.
        "megabytes_exchanged_per_gpu_and_second": 4 * PARAMETERS[network] * 2 * (GPUS - 1) / GPUS / step / 1e6,
    }


def main() -> None:
    loader, ray = load("loader"), load("ray_predict")
    source = next(name for name in loader["sources"] if PHOTO in name)
    fed = loader["sources"][source]["training"]["images_per_second"]["mobilenets"]["median"] / 2
    # Ray was measured on tiny JPEGs: what photographs take to decode, about what training's do, comes on top.
    tiny = ray["ways"]["ray, 2 workers"]["rate_running"]["median"] / 2
    answered = 1 / (1 / tiny + 1 / fed)
    core_hours = BILLION / answered / 3600
    figures: dict[str, Any] = {
        "assumed": {
            "gpus": GPUS,
            "batch_per_gpu": BATCH,
            "efficiency": EFFICIENCY,
            "gpu_images_per_second": GPU_SPEED,
            "bytes_per_image": BYTES_PER_IMAGE,
            "dollars_per_gpu_hour": GPU_HOUR,
            "dollars_per_core_hour": CORE_HOUR,
        },
        "measured": {"loader_images_per_second_and_core": fed, "tiny_answers_per_second_and_core": tiny},
        "imagenet": {network: training(network, fed) for network in GPU_SPEED},
        "billion": {
            "answers_per_second_and_core": answered,
            "core_hours": core_hours,
            "days_on_256_cores": core_hours / 256 / 24,
            "dollars": core_hours * CORE_HOUR,
            "terabytes": BILLION * BYTES_PER_IMAGE / 1e12,
            "gigabytes_per_second_on_256_cores": 256 * answered * BYTES_PER_IMAGE / 1e9,
        },
    }
    write("scale_paper", "arithmetic from loader.json, ray_predict.json and published GPU speeds", figures)


if __name__ == "__main__":
    main()
