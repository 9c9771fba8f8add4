"""A PyTorch module as a graph by really running it: for code that torch.export can't follow, such as `if x.sum() > 0`.

What is recorded is the path this one image takes. Operators are those below autograd (`addmm` for a linear layer); the
vocabulary of the graph is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from mobilenets.auditing.graph.nodes import Dropout, Graph, Other
from mobilenets.auditing.graph.recorder import Recorder
from mobilenets.auditing.graph.sandbox import evaluation_copy, place_of_answer, tensors_of
from mobilenets.auditing.graph.values import Constant, Flowing, Recorded, eps_of, writes_in_place

OUTSIDE = "outside PyTorch"
_DROPOUTS = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"}
# Called before a call is run: the operator, its arguments, and the values of nodes so far by name.
Progress = Callable[["HookRun", Any, Sequence[Any], Mapping[str, Any]], None]


def hook_graph(module: nn.Module, input_shape: tuple[int, int, int, int], reason: str = "") -> Graph:
    """Capture `module` in evaluation mode by running a copy on one random image `[B, C, H, W]`.

    Args:
        module: the network; it is not touched.
        input_shape: of the image.
        reason: why torch.export failed; it becomes a note.

    Raises:
        AuditError: the module can't be copied.
        Exception: whatever the module's own code raises.
    """
    network = evaluation_copy(module)
    run = HookRun(network, input_shape)
    answer = run.run(random_images(input_shape))
    notes = [f"torch.export failed: {reason}; read with hooks instead"] if reason else []
    notes += ["the graph is the path one random image takes: the code may take another for others"]
    if run.left_pytorch:
        notes.append("values pass outside PyTorch (NumPy, Python) on their way; what happens there can't be seen")
    return run.recorder.graph(answer, "hooks", tuple(notes))


def random_images(shape: Sequence[int]) -> Tensor:
    """The same noise every time, `shape` float32; PyTorch's global generator is left as it is."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device="cpu")


class HookRun:
    """One run of a network under observation."""

    def __init__(
        self, network: nn.Module, input_shape: tuple[int, int, int, int], progress: Progress | None = None
    ) -> None:
        self.recorder = Recorder(network, input_shape)
        self.left_pytorch = False
        self.progress = progress
        self.paths = [""]
        self.paused = False
        # Tensors are kept, so that no other can take their identity.
        self._values: dict[int, tuple[Tensor, Recorded]] = {}
        self._latest: dict[tuple[int, ...], Flowing] = {}
        self._network = network
        for tensor in (*network.parameters(), *network.buffers()):
            self._values[id(tensor)] = (tensor, self.recorder.constant(tensor))

    def run(self, images: Tensor) -> Recorded:
        """Run the network; what its answer is in the graph."""
        self.bind(images, self.recorder.input)
        handles = [handle for path, module in self._network.named_modules() for handle in self._hooks(path, module)]
        try:
            with torch.no_grad(), _Functions(self), _Operators(self):
                outputs = self._network(images)
        finally:
            for handle in handles:
                handle.remove()
        answers = [value for value in map(self.value, tensors_of(outputs)) if isinstance(value, Flowing)]
        if not answers:
            return self.recorder.input
        return answers[place_of_answer([(answer.name, answer.shape) for answer in answers], self.recorder.nodes)]

    def bind(self, tensor: Tensor, value: Recorded) -> None:
        """From now on `tensor` is this node's value."""
        self._values[id(tensor)] = (tensor, value)
        if isinstance(value, Flowing):
            self._latest[value.shape] = value

    def value(self, tensor: Tensor) -> Recorded:
        """What a tensor is in the graph, now."""
        if id(tensor) not in self._values:
            self.bind(tensor, self._foreign(tensor))
        return self.recorder.newest(self._values[id(tensor)][1])

    def record(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Add a call that has been run."""
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if not outputs:
            return
        mapped = tree_map_only(Tensor, self.value, (list(args), dict(kwargs)))
        shapes = [tuple(output.shape) for output in outputs]
        values = self.recorder.call(function, mapped[0], mapped[1], shapes, self.paths[-1])
        if values is None:
            sources = self.recorder.sources(mapped)
            eps = eps_of(function, mapped[0], mapped[1])
            values = [Constant(output, sources, eps) for output in outputs]
        for output, value in zip(outputs, values, strict=False):
            if not (isinstance(value, Constant) and isinstance(output, nn.Parameter)):
                self.bind(output, value)

    def _foreign(self, tensor: Tensor) -> Recorded:
        """A tensor no operator made: one of a map's shape most likely is that map, back from NumPy."""
        shape = tuple(tensor.shape)
        latest = self._latest.get(shape)
        if latest is None or len(shape) < 2 or not tensor.is_floating_point():
            return self.recorder.constant(tensor)
        self.left_pytorch = True
        return self.recorder.add(Other(OUTSIDE), (latest,), shape, self.paths[-1], "outside")

    def _hooks(self, path: str, module: nn.Module) -> tuple[Any, Any]:
        def enter(module: nn.Module, args: Any) -> None:
            self.paths.append(path)

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self.paths.pop()

        return module.register_forward_pre_hook(enter), module.register_forward_hook(leave)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Sees every operator below autograd."""

    def __init__(self, run: HookRun) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._run = run

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._run.paused:
            return func(*args, **kwargs)
        if self._run.progress is not None:
            self._run.progress(self._run, func, args, kwargs)
        if writes_in_place(func) and isinstance(args[0], Tensor):
            # Looked up before it is overwritten: afterwards the tensor holds the result.
            self._run.value(args[0])
        result = func(*args, **kwargs)
        self._run.record(func, args, kwargs, result)
        return result


class _Functions(TorchFunctionMode):
    """Sees dropout, of which nothing is left below: in evaluation mode it returns its input."""

    def __init__(self, run: HookRun) -> None:
        super().__init__()
        self._run = run

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").rstrip("_")
        if name not in _DROPOUTS:
            return func(*args, **kwargs)
        named = dict(zip(("input", "p", "training"), args, strict=False)) | kwargs
        before = self._run.value(named["input"])
        self._run.paused = True
        try:
            result: Tensor = func(*args, **kwargs)
        finally:
            self._run.paused = False
        if isinstance(before, Flowing):
            active = bool(named.get("training", named.get("train", True)))
            dropout = Dropout(float(named.get("p", 0.5)), active)
            self._run.bind(result, self._run.recorder.add(dropout, (before,), before.shape, self._run.paths[-1], name))
        return result
