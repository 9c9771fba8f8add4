"""What must stay fast, with its limit: `python benchmarks/time_limits.py`; the exit code is 1 where one is exceeded.

Regime: in this process, the best of three. The tests hold what these compute; times are measured here, since a busy
machine would make a test fail without a fault. The limits leave a slow machine a margin.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mobilenets.auditing.structure.align import align
from mobilenets.auditing.structure.published import reference
from mobilenets.benchmarking.worker import take_turn, wait_until_idle
from mobilenets.errors import BadImagesError

ROUNDS = 3


def align_a_hundred_layers() -> float:
    """Align the longest published network with itself but for a layer; processor time."""
    published = reference("mobilenet_v4_conv_large")
    start = time.process_time()
    align(published.chain.layers, published.places, published.chain.layers[1:])
    return time.process_time() - start


def reuse_a_reference() -> float:
    """Ask a hundred times for a reference that is built once; elapsed time."""
    reference("mobilenet_v3_large", width_mult=0.9)
    start = time.perf_counter()
    for _ in range(100):
        reference("mobilenet_v3_large", width_mult=0.9)
    return time.perf_counter() - start


def refuse_a_looping_tiff() -> float:
    """Read a TIFF file whose directory names itself as the next one; elapsed time."""
    from fuzz_images import SOUND, read

    content = bytearray(SOUND["tif"]()[-2])
    first = int.from_bytes(content[4:8], "little")
    at = first + 2 + 12 * int.from_bytes(content[first : first + 2], "little")
    content[at : at + 4] = first.to_bytes(4, "little")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loop.tif"
        path.write_bytes(content)
        start = time.monotonic()
        with contextlib.suppress(BadImagesError):
            read(path)
        return time.monotonic() - start


def idle_after_a_call() -> float:
    """Share of processor time that a session's threads use once the wait for them has ended."""
    import numpy as np
    import onnxruntime
    from onnxruntime.datasets import get_example

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(get_example("mul_1.onnx"), options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    session.run(None, {session.get_inputs()[0].name: np.ones(shape, np.float32)})
    wait_until_idle()
    used, start = time.process_time(), time.monotonic()
    time.sleep(0.1)
    return (time.process_time() - used) / (time.monotonic() - start)


def a_turn_of_20_ms() -> float:
    """How far a turn of 20 ms with calls of 4 ms is from the 5 calls it has time for."""
    return abs(len(take_turn(lambda: time.sleep(0.004), 0.02, lead_in=True)) - 5)


LIMITS: dict[Callable[[], float], float] = {
    align_a_hundred_layers: 0.15,
    reuse_a_reference: 0.1,
    refuse_a_looping_tiff: 60,
    idle_after_a_call: 0.5,
    a_turn_of_20_ms: 3,
}


def main() -> int:
    exceeded = 0
    for measure, limit in LIMITS.items():
        best = min(measure() for _ in range(ROUNDS))
        exceeded += best > limit
        print(f"{'EXCEEDED' if best > limit else 'ok':>8}  {best:8.4f} of {limit:g}  {measure.__name__}")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
