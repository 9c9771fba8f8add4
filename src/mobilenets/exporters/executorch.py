"""A network as an ExecuTorch program for its XNNPACK backend: phones' and boards' processors, 32-bit floats."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor, nn

from mobilenets.errors import ExportError, MissingExtraError, MobilenetsError, first_line
from mobilenets.exporters.prepare import Exported, example_images, exportable
from mobilenets.install import install_line
from mobilenets.output_capture import capture_all_output
from mobilenets.preprocessing import Preprocessing

MODEL = "model.pte"


class GateInFloats(nn.Module):
    """Hard sigmoid with constants that are floats from the start.

    ExecuTorch spells `nn.Hardsigmoid` out with whole numbers and turns each of them into a float outside of XNNPACK:
    two kernel calls for every gate, at every image (18 in a V3 small).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Values of any shape to 0 ... 1."""
        return torch.clamp(x + 3.0, 0.0, 6.0) / 6.0


def require_executorch() -> None:
    """Raise MissingExtraError where the extra `executorch` is not installed."""
    if find_spec("executorch") is None:
        raise MissingExtraError(f"exporting to executorch needs executorch: {install_line('export,executorch')}")


def to_executorch(model: nn.Module, preprocessing: Preprocessing, *, precision: str = "fp32") -> Exported:
    """Translate a network to an ExecuTorch program; the model itself is not touched.

    The program takes one image a call. A free batch was tried on a V2 at 32 pixels with up to 16 images: XNNPACK got
    two pieces in place of one, 17 times the memory was planned (261 kB in place of 15), and a batch of 16 failed.

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
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Hardsigmoid):
            network.set_submodule(name, GateInFloats())
    with capture_all_output(), torch.inference_mode(False), torch.no_grad():
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
