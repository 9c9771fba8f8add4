"""A network as a LiteRT file (`.tflite`) that takes pictures as they are.

The file is written directly, layer by layer, rather than through a general converter (litert-torch): nothing has to be
undone, so there are no stray transpositions, h-swish stays one operator, and the batch is free. It takes a second
instead of minutes, and neither JAX nor an older PyTorch has to be installed.
"""

from __future__ import annotations

from importlib.util import find_spec

from torch import nn
from torch.fx.proxy import TraceError

from mobilenets.errors import ExportError, MissingExtraError, first_line
from mobilenets.exporters.prepare import Exported
from mobilenets.install import install_line
from mobilenets.models.layers import Normalizer
from mobilenets.preprocessing import Preprocessing

FILE = "model.tflite"
PRECISIONS = ("fp32", "fp16")
INPUT, OUTPUT = "images", "logits"


def to_litert(
    model: nn.Module, preprocessing: Preprocessing, *, precision: str = "fp32", for_int8: bool = False
) -> Exported:
    """Translate a network to LiteRT; the network is not touched.

    Args:
        model: normalized images float32 `[B, C, H, W]` to logits `[B, K]`.
        preprocessing: fixes H, W and C, and gives the normalisation to put inside.
        precision: `fp32`, or `fp16` for weights of half the size; the file then still computes in float32, unless the
            device's own accelerator does otherwise.
        for_int8: write what is to be quantized: h-swish as a sum and a product, which XNNPACK has in int8.

    Returns:
        One file whose input `images` is uint8 `[B, H, W, C]` and whose output `logits` is float32 `[B, K]`. The batch
        stands at 1 and can be set to any number (`Interpreter.resize_tensor_input`).

    Raises:
        ExportError: the precision is unknown, or the network has a layer or a way LiteRT export can't write.
        MissingExtraError: the extra `export` is not installed.
    """
    require_litert()
    if precision not in PRECISIONS:
        raise ExportError(f"a LiteRT file has no precision {precision!r}: choose {' or '.join(PRECISIONS)}")
    # The schema comes with the extra, so whoever has it not still can import this module and be told.
    from mobilenets.exporters.litert.file import FileBuilder
    from mobilenets.exporters.litert.graph import GraphWalk
    from mobilenets.exporters.litert.layers import LayerWriter
    from mobilenets.exporters.prepare import folded

    try:
        network = folded(model)
    except TraceError as error:
        raise ExportError(
            f"the network's way depends on its input, which LiteRT export can't follow ({first_line(error)}): "
            "export to onnx"
        ) from error
    file = FileBuilder("written by mobilenets", half=precision == "fp16", for_int8=for_int8)
    writer = LayerWriter(file, split_hard_swish=for_int8)
    normalizer = Normalizer(preprocessing)
    scale, shift = (values.double().flatten().numpy() for values in (normalizer.scale, normalizer.shift))
    pixels = writer.images(INPUT, preprocessing.image_size, scale, shift)
    logits = GraphWalk(network, writer).write(pixels)
    if len(logits.shape) != 1:
        raise ExportError(f"the network's output is {['B', *logits.sizes]}, no logits: export a classifier")
    return Exported({FILE: file.finish({INPUT: 0}, {OUTPUT: logits.index})}, dynamic_batch=True)


def require_litert() -> None:
    """Raise MissingExtraError where the extra `export` is not installed: before hours of work, not after."""
    missing = [name for name in ("ai_edge_litert", "flatbuffers") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"LiteRT export needs {' and '.join(missing)}: {install_line('export')}")
