"""PyTorch eager as a peer: the same network with random weights, which take the same time as trained ones."""

from __future__ import annotations

from collections.abc import Callable

from mobilenets.benchmarking.by_hand import Opened
from mobilenets.errors import MissingExtraError
from mobilenets.install import install_line
from mobilenets.limits import parse_json


def open_pytorch(arguments: str, threads: int) -> Opened:
    """Build the network of `create_model(**arguments)` for float images `[B, C, H, W]`, already normalized.

    PyTorch so saves the normalisation that every artifact does inside its file: the comparison favours the peer.

    Raises:
        MissingExtraError: PyTorch is not installed.
        ModelError: the arguments are no network's.
    """
    try:
        import torch

        from mobilenets.models.registry import create_model
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"`against=pytorch` needs {error.name}: {install_line('train')}") from error
    torch.set_num_threads(threads)
    known = parse_json(arguments)
    model = create_model(**known).eval()
    size, channels = int(known.get("image_size", 224)), int(known.get("in_channels", 3))

    def prepare(batch: int) -> Callable[[], object]:
        images = torch.rand(batch, channels, size, size)

        def answer() -> object:
            with torch.inference_mode():
                return model(images)

        return answer

    return Opened(prepare, "fp32")
