"""What was measured of streaming from shards, as the guide shows it."""

from __future__ import annotations

from loading import load


def shards() -> str:
    """Memory over an epoch of more and more images, and the speed of shards beside a folder's."""
    result = load("shards")
    lines = [
        "| images | before the epoch (MiB) | most in its first third (MiB) | most in its last third (MiB) |",
        "| --: | --: | --: | --: |",
    ]
    for images, row in result["memory"].items():
        memory = (row["before_mib"], row["first_third_mib"], row["last_third_mib"])
        lines.append(f"| {int(images):,} | {' | '.join(f'{value:.0f}' for value in memory)} |")
    speeds, starts, trained = (result[name] for name in ("images_per_second", "seconds_to_first_batch", "training"))
    start, middle = (starts[at]["median"] for at in ("start", "middle"))
    return (
        "\n".join(lines) + f"\n\nJPEG of 32x32, {result['shard_bytes'] / 2**30:.1f} GiB of shards; before the epoch, "
        "Python and PyTorch are loaded and nothing else. From shards "
        f"{speeds['shards']['median']:,.0f} images a second come, decoded and shuffled, from a folder "
        f"{speeds['folder']['median']:,.0f} (20,000 images, medians). Of 10^6 images the first batch is there after "
        f"{start:.1f} s, that in the middle of the epoch, as a resume asks for it, after {middle:.1f} s. A training on "
        f"{trained['images']:,} of them was killed, resumed at step {trained['resumed_at']} of {trained['steps']:,} "
        f"and stopped at step {trained['stopped_at']}: {trained['peak_mib']:.0f} MiB at most.\n"
    )
