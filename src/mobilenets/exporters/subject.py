"""What is exported, and to which format.

The subject is a run folder, a weight file with the network it is of, or a network in memory. Formats are found by name,
and only the module of the one asked for is imported.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

from torch import nn

from mobilenets.arguments import check_threads
from mobilenets.artifact.container import DOCUMENT, SUFFIXES, check_suffix, read_artifact
from mobilenets.artifact.description import Confidence, Description
from mobilenets.artifact.golden import GoldenPairs
from mobilenets.errors import ArtifactError, MobilenetsError, RunError
from mobilenets.exporters.prepare import Exported
from mobilenets.files import check_writable
from mobilenets.image_record import ImageRecord
from mobilenets.models.network import MobileNet
from mobilenets.models.saved import SavedNetwork, load_network, record_of_weights, versions
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Progress
from mobilenets.run_folder import recommended_run

IMAGENET = "imagenet"


@dataclass(frozen=True)
class Subject:
    """What is exported: a network with its class names in output order, its preprocessing and where it came from.

    `images` says which images it was trained on, where that is known.
    """

    model: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    provenance: Mapping[str, str]
    images: ImageRecord | None = None


def load_subject(
    run: Path | str | SavedNetwork,
    *,
    model: str | None = None,
    width_mult: float = 1.0,
    image_size: int | None = None,
) -> tuple[Subject, tuple[str, ...]]:
    """Find the network to export, and what its user should know of it, a sentence each.

    Args:
        run: a run folder; with `model` also a weight file as `create_model` takes it, or `imagenet`.
        model: name of the network a weight file is of; None for a run folder, which knows.
        width_mult: of the network a weight file is of.
        image_size: side in pixels to export a weight file's network for; None takes the file's own, else 224.

    Raises:
        RunError: it is no run folder, the message says how a weight file is given; or `width_mult` or `image_size` is
            given for what says its own.
        WeightsError, ModelError: the weight file can't be read, or is of another network.
    """
    if isinstance(run, SavedNetwork):
        _refuse_sizes(width_mult, image_size)
        return Subject(run.model, run.classes, run.preprocessing, run.provenance, run.images), ()
    if model is not None:
        return _from_weights(run, model, width_mult, image_size)
    path = Path(run)
    _refuse_artifact(path)
    if run == IMAGENET or path.is_file():
        raise RunError(f"{run} is no run folder; if it is a weight file, name its network: `model=mobilenet_v2`")
    saved = load_network(path)
    _refuse_sizes(width_mult, image_size)
    return Subject(saved.model, saved.classes, saved.preprocessing, saved.provenance, saved.images), ()


def recommended(run: Path | str | SavedNetwork, progress: Progress) -> Path | str | SavedNetwork:
    """The run folder that a comparison's folder recommends, and say so; anything else as it is.

    Raises:
        RunError: the comparison recommends none, or its run is gone.
    """
    if isinstance(run, SavedNetwork) or (found := recommended_run(run)) is None:
        return run
    progress.message(f"{run} recommends {found}")
    return found


def _refuse_sizes(width_mult: float, image_size: int | None) -> None:
    """Better than to export another network than was asked for."""
    if width_mult != 1.0 or image_size is not None:
        raise RunError("`width_mult` and `image_size` are for a weight file; a run folder says its own")


def _refuse_artifact(path: Path) -> None:
    """A file that was exported holds a network no longer, only what it computes."""
    if not (path / DOCUMENT).is_file() and path.suffix.lower() not in filter(None, SUFFIXES.values()):
        return
    try:
        kind = read_artifact(path).description.kind
    except ArtifactError:
        return  # nothing of ours: what it is instead is said next
    raise RunError(f"{path} is an exported file already ({kind}); give the run folder it was made from")


def _from_weights(
    weights: Path | str, name: str, width_mult: float, image_size: int | None
) -> tuple[Subject, tuple[str, ...]]:
    from mobilenets.models.registry import create_from_weights
    from mobilenets.models.weights.read import read_weights

    classes, own_size = 1000, None
    if weights != IMAGENET:
        imported = read_weights(weights)
        classes = imported.num_classes - imported.has_background
        own_size = None if imported.preprocessing is None else imported.preprocessing.image_size
    size = image_size or own_size or 224
    arguments = {"num_classes": classes, "width_mult": width_mult, "image_size": size}
    network, report = create_from_weights(name, weights, arguments)
    notes = list(report.notes)
    if report.preprocessing is None:
        preprocessing = Preprocessing(image_size=size, channels=network.config.in_channels)
        notes.append("the file does not say how images are prepared: scaled to [-1, 1], as the papers' code does")
    else:
        preprocessing = _sized(report.preprocessing, size)
    if report.classes is None:
        notes.append("the file does not name its classes: they are numbered")
    names = report.classes or tuple(f"class {number}" for number in range(classes))
    record = {"weights_file": report.path.name, "weights_sha256": report.sha256, "weights_origin": report.origin}
    return Subject(network.eval(), names, preprocessing, record, record_of_weights(report.path)), tuple(notes)


def _sized(preprocessing: Preprocessing, size: int) -> Preprocessing:
    """The same for images of another size, with the same share cut off at the edges."""
    own, shorter = preprocessing.image_size, preprocessing.resize_size or preprocessing.image_size
    return replace(preprocessing, image_size=size, resize_size=round(shorter * size / own))


@dataclass(frozen=True)
class _Format:
    """A module of this package with its translator and its check of what has to be installed, and what it can write."""

    module: str
    translate: str
    require: str
    precisions: tuple[str, ...] = ("fp32", "fp16")


# By name, so that only what is asked for is imported.
_FORMATS = {
    "onnx": _Format("onnx", "to_onnx", "require_exporter"),
    "openvino": _Format("openvino", "to_openvino", "require_openvino"),
    "litert": _Format("litert.convert", "to_litert", "require_litert"),
    "executorch": _Format("executorch", "to_executorch", "require_executorch", ("fp32",)),
}
FORMATS = tuple(_FORMATS)


class Translate(Protocol):
    """What every translator does."""

    def __call__(self, model: nn.Module, preprocessing: Preprocessing, *, precision: str = "fp32") -> Exported:
        """Translate a network; raises ExportError when it can't be written."""
        ...


def translator(to: str, precision: str = "fp32") -> Translate:
    """The translator to a format, once everything it needs is there: before long work, not after.

    Raises:
        MobilenetsError: there is no such format, or not in this precision; the message lists what there is.
        MissingExtraError: a package it needs is not installed; the message names the extra.
    """
    if to not in _FORMATS:
        near = difflib.get_close_matches(to.lower(), FORMATS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise MobilenetsError(f"there is no format {to!r}; {hint}Valid: {', '.join(FORMATS)}")
    chosen = _FORMATS[to]
    if precision not in chosen.precisions:
        more = "; 'mobilenets quantize' makes int8" if precision == "int8" else ""
        raise MobilenetsError(f"{to} is exported as {' or '.join(chosen.precisions)}, not {precision!r}{more}")
    module = importlib.import_module(f"mobilenets.exporters.{chosen.module}")
    getattr(module, chosen.require)()
    return cast(Translate, getattr(module, chosen.translate))


@dataclass(frozen=True)
class ExportTarget:
    """Where to, and as what: the format, its precision, the place, and threads for the runtime."""

    to: str
    precision: str
    out: Path
    threads: int | None = None

    def check(self) -> Translate:
        """Refuse what can't be, before anything long is begun; returns the translator.

        Raises:
            MobilenetsError: there is no such format or precision, or an impossible number of threads.
            ArtifactError: the name of `out` is of another format.
            RunError: nothing can be written there, or something else than an artifact would be overwritten.
            MissingExtraError: the translator needs what is not installed.
        """
        check_threads(self.threads)
        translate = translator(self.to, self.precision)
        check_suffix(self.out, self.to)
        check_place(self.out, folder=self.to == "openvino")
        return translate


def check_place(out: Path, *, folder: bool) -> None:
    """Refuse a place without a name of its own, that can't be written, or where something else would be overwritten.

    Raises:
        RunError: the message says what is there.
    """
    if folder and out.name in ("", ".."):
        raise RunError(f"{out} is no name: OpenVINO's artifact is a folder of its own: give its name, e.g. model")
    check_writable(out, folder=folder)
    if out.is_dir() and any(out.iterdir()) and not (out / DOCUMENT).is_file():
        raise RunError(f"{out} holds other files, and OpenVINO's artifact is a folder of its own: choose a new one")


def describe(
    subject: Subject,
    kind: str,
    precision: str,
    exported: Exported,
    golden: GoldenPairs,
    *,
    confidence: Confidence | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Description:
    """The description of an exported network; provenance is the subject's own, what is given, and versions here."""
    model = subject.model
    network: dict[str, Any] = (
        model.config.to_dict() if isinstance(model, MobileNet) else {"name": type(model).__qualname__}
    )
    # The run's own versions are of who trained it: kept apart from those of who exported it.
    trained = {f"trained_with_{key}" if key in versions() else key: value for key, value in subject.provenance.items()}
    return Description(
        kind=kind,
        precision=precision,
        network=network,
        classes=subject.classes,
        preprocessing=subject.preprocessing,
        dynamic_batch=exported.dynamic_batch,
        golden=golden,
        confidence=confidence,
        images=subject.images,
        provenance={**trained, **versions(), **(provenance or {})},
    )
