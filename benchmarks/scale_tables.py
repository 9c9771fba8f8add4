"""Tables of what trainings survive and of what larger ones cost, for `tables.py`."""

from __future__ import annotations

from loading import load


def kills() -> str:
    """How many trainings were killed, and how many of them ended where they should."""
    result = load("kills")
    alone, team = result["alone"], result["torchrun"]
    moments = ", ".join(f"{count} {moment}" for moment, count in alone["moments"].items())
    return (
        f"{alone['kills']} processes of {alone['runs']} trainings were killed at random moments ({moments}), and "
        f"{team['kills']} of {team['runs']} trainings by two processes under torchrun: {alone['identical']} of "
        f"{alone['runs']} and {team['identical']} of {team['runs']} ended bit for bit where one left alone did.\n"
    )


def scaling() -> str:
    """Images a second by one and two processes."""
    result = load("scaling")
    ways = next(iter(result["images_per_second"].values()))
    lines = [f"| network, width 0.5, 32 px | {' | '.join(ways)} | efficiency |", "| :-- |" + " --: |" * (len(ways) + 1)]
    for network, speeds in result["images_per_second"].items():
        cells = [f"{one['median']:.0f} ({one['min']:.0f}–{one['max']:.0f})" for one in speeds.values()]
        lines.append(f"| {network} | {' | '.join(cells)} | {100 * result['efficiency'][network]:.0f} % |")
    return "\n".join(lines) + "\n"


def ray_predict() -> str:
    """Images a second with and without Ray, and the memory of who starts it."""
    result = load("ray_predict")
    lines = [
        f"| MobileNetV2, 224 px, {result['images']:,} images | images a second | while running | first answer |",
        "| :-- | --: | --: | --: |",
    ]
    for way, one in result["ways"].items():
        rate, running, first = (one[name]["median"] for name in ("rate", "rate_running", "first_seconds"))
        lines.append(f"| {way} | {rate:.0f} | {running:.0f} | {first:.1f} s |")
    few, many = result["driver_memory"]
    memory = (
        f"The process that starts Ray needs {few['peak_mib']:.0f} MiB at most for {few['files']:,} files and "
        f"{many['peak_mib']:.0f} MiB for {many['files']:,}."
    )
    return "\n".join(lines) + f"\n\n{memory}\n"


def scale_imagenet() -> str:
    """What ImageNet on 8 GPUs comes to."""
    result = load("scale_paper")
    assumed, fed = result["assumed"], result["measured"]["loader_images_per_second_and_core"]
    lines = [
        "| network | images a second | epochs | hours | GPU hours | dollars | cores to feed them | GB read a second |",
        "| :-- |" + " --: |" * 7,
    ]
    for network, one in result["imagenet"].items():
        lines.append(
            f"| {network} | {one['images_per_second']:,.0f} | {one['epochs']} | {one['hours']:.1f} | "
            f"{one['gpu_hours']:.0f} | {one['dollars']:.0f} | {one['cores_to_feed_them']:.0f} | "
            f"{one['gigabytes_read_per_second']:.1f} |"
        )
    price = f"${assumed['dollars_per_gpu_hour']:.2f} a GPU hour"
    said = (
        f"Assumed: {assumed['gpus']} GPUs of an RTX 3090's published speed, {100 * assumed['efficiency']:.0f} % of "
        f"eight times one, {assumed['bytes_per_image']:,} bytes an image, {price}; "
        f"measured: {fed:.0f} images a second and core from JPEGs of 500x375."
    )
    return "\n".join(lines) + f"\n\n{said}\n"


def scale_billion() -> str:
    """What answering a billion images comes to."""
    result = load("scale_paper")
    one, tiny = result["billion"], result["measured"]["tiny_answers_per_second_and_core"]
    price = f"${one['dollars']:,.0f} at ${result['assumed']['dollars_per_core_hour']:.2f} a core hour"
    return (
        f"MobileNetV2 at 224 pixels, {tiny:.0f} answers a second and core as measured with Ray on 32-pixel JPEGs, "
        f"{one['answers_per_second_and_core']:.0f} with the decoding of photographs as the loader was measured: "
        f"{one['core_hours']:,.0f} core hours, {one['days_on_256_cores']:.1f} days on 256 cores, {price}. "
        f"The images are {one['terabytes']:.0f} TB, read at "
        f"{one['gigabytes_per_second_on_256_cores']:.2f} GB a second.\n"
    )
