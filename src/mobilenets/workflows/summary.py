"""`summary`: what a network is made of and costs, layer by layer: a registered one, a module, a file or a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mobilenets.auditing.count import NetworkCount, count
from mobilenets.errors import AuditError, ModelError
from mobilenets.models.config import NetworkConfig
from mobilenets.models.network import MobileNet
from mobilenets.models.registry import create_model, list_models
from mobilenets.progress import Progress
from mobilenets.result import Result


@dataclass(frozen=True, repr=False)
class NetworkSummary(Result):
    """A network's layers, totals, peak memory and separable convolutions.

    Attributes:
        title: for people: its name, width and number of classes, or how the target was named.
        config: its arguments; None where it is not of this package.
        count: the figures.
        notes: what could not be seen of a target, or was chosen for it, a sentence each.
    """

    title: str
    config: NetworkConfig | None
    count: NetworkCount
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The arguments as `model`, and all figures, as `--json` prints them."""
        model = {"name": self.title} if self.config is None else self.config.to_dict()
        return {"model": model, **self.count.to_dict(), **({"notes": list(self.notes)} if self.notes else {})}

    def _headline(self) -> str:
        shape = " x ".join(map(str, self.count.input_shape))
        return f"{self.title}: {self.count.parameters:,} parameters, {self.count.macs:,} multiply-adds for {shape}"

    def _rows(self) -> Sequence[Mapping[str, object]]:
        return [
            {
                "layer": layer.path,
                "kind": layer.kind,
                "output_shape": " x ".join(map(str, layer.output_shape)),
                "parameters": layer.parameters,
                "macs": layer.macs,
                "activation_bytes": layer.activation_bytes,
            }
            for layer in self.count.layers
        ]


def summary(
    target: nn.Module | str | Path,
    *,
    width_mult: float = 1.0,
    image_size: int | None = None,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float | None = None,
    args: Mapping[str, Any] | None = None,
    run: bool = True,
    progress: Progress | None = None,
) -> NetworkSummary:
    """Count a network without training it: shapes, parameters, multiply-adds and activation memory of every layer.

    A registered network is built for it; everything else is what `audit` takes. Code that a text names is run.

    Args:
        target: a registered name, a module; or in text `package.module:Factory`, `path/file.py:Class`, an ONNX or
            TensorFlow Lite file, a run folder, or a comparison's for the network it recommends.
        width_mult: width multiplier, of a registered network.
        image_size: side of the square images in pixels; None is the target's own, or 224.
        num_classes: outputs of the classifier, of a registered network.
        in_channels: channels of the images, likewise.
        dropout: rate before the classifier, likewise; None is that of the paper's code.
        args: keyword arguments of the factory.
        run: False refuses to run code: then the target is a registered name, a file or a run folder.
        progress: unused, since nothing here takes long; every verb takes one.

    Raises:
        ModelError: the network does not exist or can't be built so, or takes no such images.
        AuditError: the target can't be loaded or read, or is code though `run` is False.
        MissingExtraError: reading such a file needs a package that is not installed.
    """
    if isinstance(target, str) and _is_name(target):
        with torch.device("meta"):  # shapes only: no memory, no time spent on weights
            model = create_model(
                target,
                num_classes=num_classes,
                width_mult=width_mult,
                image_size=224 if image_size is None else image_size,
                dropout=dropout,
                in_channels=in_channels,
            )
        if args:
            raise ModelError(f"`args` are for a class or function; {target} takes `width_mult` and so on")
        return NetworkSummary(_title(model.config), model.config, count(model))
    given = {"width_mult": width_mult != 1.0, "num_classes": num_classes != 1000, "in_channels": in_channels != 3}
    for name, is_given in {**given, "dropout": dropout is not None}.items():
        if is_given:
            what = type(target).__name__ if isinstance(target, nn.Module) else target
            raise ModelError(f"`{name}` is for a registered network; {what} is built already: leave it out")
    return _summary_of_target(target, image_size, args, run=run)


def will_run_code(target: str) -> bool:
    """Whether counting what a text names runs someone's code."""
    if _is_name(target):
        return False
    from mobilenets.auditing.target import will_run

    return will_run(target)


def _is_name(text: str) -> bool:
    """Whether a text is meant as a registered name: it is one, or nothing that a file or an object is called."""
    return text in list_models() or not (":" in text or "." in text or "/" in text or not text or Path(text).exists())


def _summary_of_target(
    target: nn.Module | str | Path, image_size: int | None, args: Mapping[str, Any] | None, *, run: bool
) -> NetworkSummary:
    from mobilenets.auditing.sizing import check_image_size
    from mobilenets.auditing.target import file_graph, load_target, module_target
    from mobilenets.auditing.user_code import ALLOW_RUNNING

    if image_size is not None:
        check_image_size(image_size)
    if isinstance(target, MobileNet):  # knows its images: nothing need be run to find them
        side = image_size or target.config.image_size
        return NetworkSummary(
            _title(target.config), target.config, count(target, (1, target.config.in_channels, side, side))
        )
    if isinstance(target, nn.Module):
        if not run:
            raise AuditError(f"{type(target).__name__} is code, and finding its images would run it: {ALLOW_RUNNING}")
        loaded = module_target(target, image_size)
    else:
        loaded = load_target(str(target), args, image_size, run=run)
    if loaded.module is not None:
        config = loaded.config
        title = loaded.title if config is None else f"{loaded.title}: {_title(config)}"
        return NetworkSummary(title, config, count(loaded.module, loaded.input_shape), loaded.notes)
    from mobilenets.auditing.graph_count import count_graph

    assert loaded.path is not None
    graph = file_graph(loaded.path, loaded.kind, image_size)
    return NetworkSummary(loaded.title, None, count_graph(graph), (*loaded.notes, *graph.notes))


def _title(config: NetworkConfig) -> str:
    return f"{config.name}, width {config.width_mult:g}, {config.num_classes:,} classes"
