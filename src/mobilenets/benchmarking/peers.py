"""Model files opened with the runtime's own defaults, and PyTorch eager: the baselines of a benchmark.

The input's shape and type are read from the file and filled with random numbers, so any classifier will do. Each
opener returns how the file is called: `prepare(batch)` gives a call that answers `batch` images. A file that fixes its
batch is asked as often as it takes. Where OpenVINO's file leaves the batch open, it is fixed before compiling, because
that is its faster way. Without a number of threads the runtime's own choice stands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobilenets.errors import BackendError, MissingExtraError, first_line
from mobilenets.install import install_line
from mobilenets.limits import parse_json

Call = Callable[[], object]

# A suffix and the runtime that reads it first; OpenVINO reads ONNX as well.
RUNTIME_OF_SUFFIX = {".onnx": "onnxruntime", ".xml": "openvino", ".tflite": "litert"}
_QUANTIZED = (b"DequantizeLinear", b"FakeQuantize")  # operators of 8-bit ONNX and OpenVINO files


@dataclass(frozen=True)
class Opened:
    """A file ready to be asked.

    Attributes:
        prepare: gives the call that answers so many images.
        precision: the arithmetic its runtime chose.
        check: makes sure that the answers are right, where that is known; raises a `MobilenetsError` otherwise.
    """

    prepare: Callable[[int], Call]
    precision: str
    check: Call = lambda: None


def open_with_defaults(path: Path, backend: str, threads: int | None) -> Opened:
    """Open a model file.

    Args:
        path: what the runtime reads: `.onnx`, `.xml` or `.tflite`.
        backend: `onnxruntime`, `openvino` or `litert`.
        threads: None leaves the number to the runtime.

    Raises:
        BackendError: the file is missing, can't be loaded, or does not fix the size of its one input.
        MissingExtraError: the runtime is not installed.
    """
    if not path.is_file():
        raise BackendError(f"{path}: no such file")
    openers = {"onnxruntime": _open_onnxruntime, "openvino": _open_openvino, "litert": _open_litert}
    if backend not in openers:
        raise BackendError(f"{path}: with its defaults a file runs in {', '.join(openers)}, not in {backend}")
    try:
        return openers[backend](path, threads)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{path} needs {backend}: {install_line(backend)}") from error


def _open_onnxruntime(path: Path, threads: int | None) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (given,) = _only_input(session.get_inputs(), path)
    shape = tuple(size if isinstance(size, int) else None for size in given.shape)
    dtype = _ONNX_TYPES.get(given.type)
    if dtype is None:
        raise BackendError(f"{path}: its input is {given.type}; images are float or uint8")

    def prepare(batch: int) -> Call:
        images, times = _images(path, shape, dtype, batch)
        return _repeated(lambda: session.run(None, {given.name: images}), times)

    return Opened(prepare, "int8" if _is_quantized(path) else "fp32")


_ONNX_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(float16)": "float16"}


def _open_openvino(path: Path, threads: int | None) -> Opened:
    from mobilenets.runtime.openvino_backend import load_openvino  # imports it

    openvino = load_openvino()
    core = openvino.Core()
    model = core.read_model(path)
    (given,) = _only_input(model.inputs, path)
    dimensions = given.partial_shape
    shape = tuple(None if size.is_dynamic else size.get_length() for size in dimensions)
    dtype = str(given.element_type.to_dtype())
    settings: dict[str, Any] = {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", settings)
    chosen = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())

    def prepare(batch: int) -> Call:
        images, times = _images(path, shape, dtype, batch)
        fixed = model.clone()
        fixed.reshape(list(images.shape))
        request = core.compile_model(fixed, "CPU", settings).create_infer_request()
        return _repeated(lambda: request.infer([images], share_inputs=True), times)

    return Opened(prepare, "int8" if _is_quantized(path) else {"f32": "fp32", "f16": "fp16"}.get(chosen, chosen))


def _open_litert(path: Path, threads: int | None) -> Opened:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"{path}: LiteRT can't load it: {first_line(error)}") from error
    interpreter.allocate_tensors()
    (given,) = _only_input(interpreter.get_input_details(), path)
    shape = tuple(int(size) for size in given["shape"])
    dtype = np.dtype(given["dtype"]).name

    def prepare(batch: int) -> Call:
        images, times = _images(path, shape, dtype, batch)

        def answer() -> object:
            interpreter.set_tensor(given["index"], images)
            interpreter.invoke()
            return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

        return _repeated(answer, times)

    # Not the input's type: a float network may take uint8 images, too.
    scales = (tensor["quantization_parameters"]["scales"] for tensor in interpreter.get_tensor_details())
    return Opened(prepare, "int8" if any(scale.size for scale in scales) else "fp32")


def _is_quantized(path: Path) -> bool:
    content = path.read_bytes()
    return any(operator in content for operator in _QUANTIZED)


def _only_input(inputs: Sequence[Any], path: Path) -> Sequence[Any]:
    if len(inputs) != 1:
        raise BackendError(f"{path}: it has {len(inputs)} inputs; an image classifier has one")
    return inputs


def _images(path: Path, shape: Sequence[int | None], dtype: str, batch: int) -> tuple[NDArray[np.generic], int]:
    """Random input, and how many such calls make a batch: the file may fix how many images it takes."""
    own, *rest = shape if shape else (None,)
    if not rest or any(size is None for size in rest):
        raise BackendError(f"{path}: its input is {list(shape)}: only the batch may be left open")
    at_once = batch if own is None else own
    if batch % at_once:
        raise BackendError(f"{path}: it takes {at_once} images at once, which do not make a batch of {batch}")
    random = np.random.default_rng(0)
    full = (at_once, *(size for size in rest if size is not None))
    images = random.integers(0, 128, full) if "int" in dtype else random.standard_normal(full)
    return images.astype(dtype), batch // at_once


def _repeated(answer: Call, times: int) -> Call:
    if times == 1:
        return answer

    def call() -> object:
        for _ in range(times - 1):
            answer()
        return answer()

    return call


def open_pytorch(arguments: str, threads: int) -> Opened:
    """Build the network of `create_model(**arguments)` for float images `[B, C, H, W]`, already normalized.

    Its weights are random, which take the same time as trained ones.

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
