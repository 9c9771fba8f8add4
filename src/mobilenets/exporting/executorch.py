"""A network as an ExecuTorch program for its XNNPACK backend: phones' and boards' processors, 32-bit floats."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import nn

from mobilenets.errors import ExportError, MissingExtraError, MobilenetsError, first_line
from mobilenets.exporting.exported import Exported
from mobilenets.exporting.prepare import example_images, exportable
from mobilenets.exporting.quiet import silent
from mobilenets.preprocessing import Preprocessing

MODEL = "model.pte"


def require_executorch() -> None:
    """Raise MissingExtraError where the extra `executorch` is not installed."""
    if find_spec("executorch") is None:
        raise MissingExtraError("exporting to executorch needs executorch: pip install 'mobilenets[executorch]'")


def to_executorch(model: nn.Module, preprocessing: Preprocessing, *, precision: str = "fp32") -> Exported:
    """Translate a network to an ExecuTorch program; the model itself is not touched.

    The program takes one image a call. A free batch works, but costs: memory is planned for the largest (a V2 at 32
    pixels with up to 16 images: 261 kB in place of 15), XNNPACK gets two pieces in place of one, and a single image
    takes about twice as long.

    Args:
        model: normalized images float32 `[B, C, H, W]` to logits `[B, K]`.
        preprocessing: fixes H, W and C, and gives the normalisation to put inside.
        precision: `fp32`.

    Raises:
        ExportError: the network can't be written.
        MobilenetsError: there is no such precision.
        MissingExtraError: the extra `executorch` is not installed.
    """
    require_executorch()
    if precision != "fp32":
        raise MobilenetsError(f"executorch is exported as fp32, not {precision}")
    network = exportable(model, preprocessing)
    with silent(), torch.inference_mode(False), torch.no_grad():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        try:
            program = torch.export.export(network, (example_images(preprocessing, 1),))
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            content = bytes(lowered.to_executorch().buffer)
        except (
            RuntimeError,
            ValueError,
            TypeError,
            NotImplementedError,
            torch._dynamo.exc.TorchDynamoException,
        ) as error:
            raise ExportError(f"the network can't be written for ExecuTorch: {first_line(error)}") from error
    return Exported({MODEL: content}, dynamic_batch=False)
