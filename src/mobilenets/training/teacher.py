"""A trained network as another's teacher: found, checked against the images, and fitted to the student's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilenets.errors import ModelError, RecipeError, WeightsError
from mobilenets.image_record import ImageRecord
from mobilenets.models.layers import Normalizer
from mobilenets.models.registry import create_from_weights
from mobilenets.models.saved import SavedNetwork, load_network, record_of_weights
from mobilenets.models.weights.fit import LoadedWeights, file_sha256
from mobilenets.preprocessing import Preprocessing
from mobilenets.progress import Progress
from mobilenets.run_folder import DESCRIPTION, WEIGHTS
from mobilenets.training.optimizer import cross_entropy
from mobilenets.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Distillation:
    """Cross-entropy against the labels, mixed with agreement with a teacher on the very same images.

    `(1 - weight) CE(labels, student) + weight T² KL(teacher at T || student at T)`, where "at T" are the softmax
    probabilities of the logits over the temperature T. The factor T² keeps the share of the two parts in the gradient
    whatever T is, as a soft target's gradient shrinks with 1 / T².
    Source: Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2.

    Attributes:
        teacher: student's inputs [B, C, H, W] -> logits [B, K] in the student's order of classes; in evaluation mode.
        temperature: T, above 0; larger ones show more of what the teacher thinks of the wrong classes.
        weight: the teacher's share, 0 to 1.
        label_smoothing: of the labels' part only: the teacher's answers are soft already.
        class_weights: [K], of the labels' part only.
    """

    teacher: nn.Module
    temperature: float
    weight: float
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None
    verb: ClassVar[str] = "distilling"

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] float, labels [B] int64 -> loss (scalar), the student's logits [B, K]."""
        with torch.no_grad():
            wanted: Tensor = self.teacher(images)
        logits: Tensor = model(images)
        hard = cross_entropy(logits.float(), labels, self.label_smoothing, self.class_weights)
        soft = F.kl_div(
            F.log_softmax(logits.float() / self.temperature, dim=1),
            F.log_softmax(wanted.float() / self.temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - self.weight) * hard + self.weight * self.temperature**2 * soft, logits


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network to learn from.

    Attributes:
        network: the student's normalised images [B, C, H, W] -> logits [B, K] in the student's order of classes.
        identity: what makes it the same teacher to a run that is resumed: its network and the digest of its weights.
        asked: as it was asked for, without the folders above it.
        images: which images it was trained on; None where that is not known.
    """

    network: FittedTeacher
    identity: Mapping[str, str]
    asked: str
    images: ImageRecord | None = None

    @property
    def record(self) -> dict[str, str]:
        """What the student's provenance says of it."""
        return {"teacher": self.asked, **{f"teacher_{key}": value for key, value in self.identity.items()}}

    def objective(self, recipe: Recipe, device: torch.device, class_weights: Tensor | None = None) -> Distillation:
        """The objective of a student of this teacher, under a recipe that `resolve_recipe` has completed."""
        if recipe.temperature is None or recipe.distill_weight is None:
            raise RecipeError("temperature and distill_weight are open: let resolve_recipe complete the recipe")
        network = self.network.to(device)
        return Distillation(network, recipe.temperature, recipe.distill_weight, recipe.label_smoothing, class_weights)


class FittedTeacher(nn.Module):
    """A trained network that takes another's inputs and answers in another's order of classes.

    The images come normalised for the student, augmented as it sees them; here they get the teacher's own normalisation
    and, where the teacher's input size differs, are resized to it (bilinear, antialiased). It stays in evaluation mode
    whatever is asked of it, and its weights take no gradient.

    Args:
        network: the teacher; its weights are shared, its mode is changed.
        own: how images are prepared for the teacher.
        student: how they are prepared for the student; as many channels.
        order: for each of the student's classes, its place among the teacher's outputs.
    """

    scale: Tensor
    shift: Tensor
    order: Tensor

    def __init__(self, network: nn.Module, own: Preprocessing, student: Preprocessing, order: Sequence[int]) -> None:
        super().__init__()
        # Channels-last is the fastest layout for its forward pass, whichever the student is trained in.
        self.network = network.requires_grad_(False).to(memory_format=torch.channels_last)
        self.image_size = own.image_size
        mine, theirs = Normalizer(own), Normalizer(student)
        # Student's input = pixel * theirs.scale + theirs.shift, solved for the pixel and normalised the teacher's way.
        scale = mine.scale / theirs.scale
        self.same_values = own.mean == student.mean and own.std == student.std
        self.same_order = list(order) == list(range(len(order)))
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", mine.shift - theirs.shift * scale, persistent=False)
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> FittedTeacher:
        """Stay in evaluation mode: a teacher with dropout or batch statistics would answer differently each time."""
        super().train(False)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """The student's inputs [B, C, H, W] float32 -> logits [B, K] in the student's order."""
        x = images if self.same_values else images * self.scale + self.shift
        if tuple(x.shape[2:]) != (self.image_size, self.image_size):
            x = F.interpolate(x, (self.image_size, self.image_size), mode="bilinear", antialias=True)
        logits: Tensor = self.network(x)
        return logits if self.same_order else logits.index_select(1, self.order)


def load_teacher(
    teacher: str | Path,
    classes: Sequence[str],
    student: Preprocessing,
    *,
    network: str,
    width_mult: float = 1.0,
    progress: Progress,
) -> Teacher:
    """Find a teacher and fit it to the images; the progress is told of it in a line.

    Args:
        teacher: a run folder, or weights as `create_model` takes them.
        classes: the images' class names in the order of the student's outputs.
        student: how images are prepared for the student.
        network: name of the teacher's network where `teacher` is no run folder, which says so itself.
        width_mult: its width, likewise.
        progress: told what is learnt from, and what was done to make it fit.

    torch's global generator is left as it was.

    Raises:
        RunError: the folder's network is damaged.
        WeightsError: the weights can't be had or read, are of another network, or answer other classes.
        ModelError: it takes images of other channels, or there is no such network.
    """
    folder = _run_folder(Path(teacher))
    notes: tuple[str, ...] = ()
    with torch.random.fork_rng(devices=[]):  # a network is built with weights drawn from it, then given its own
        if folder is not None:
            saved, sha256, asked = load_network(folder), file_sha256(folder / WEIGHTS), folder.resolve().name
        else:
            saved, report = _from_weights(teacher, classes, student, network, width_mult)
            sha256, asked, notes = report.sha256, report.path.name, (*report.notes, *_assumptions(report))
    order = class_order(saved.classes, classes, asked)
    if saved.preprocessing.channels != student.channels:
        raise ModelError(
            f"the teacher {asked} takes images of {saved.preprocessing.channels} channels, the student of "
            f"{student.channels}; choose a teacher for the same images"
        )
    config = saved.model.config
    name = f"{config.name} x{config.width_mult:g} {saved.preprocessing.image_size}px"
    resized = "" if saved.preprocessing.image_size == student.image_size else ", images resized for it"
    progress.message(f"learning from {asked} ({name}{resized})")
    for note in notes:
        progress.message(f"note: {note}")
    fitted = FittedTeacher(saved.model, saved.preprocessing, student, order)
    return Teacher(fitted, {"network": name, "sha256": sha256}, asked, record_of_weights(teacher))


def class_order(taught: Sequence[str], wanted: Sequence[str], teacher: str) -> tuple[int, ...]:
    """For each class wanted, its place among the classes taught.

    Raises:
        WeightsError: they are not the same names; the message gives one that is missing.
    """
    if tuple(taught) == tuple(wanted):  # also where names stand twice, as ImageNet's "crane" does
        return tuple(range(len(taught)))
    places = {name: place for place, name in enumerate(taught)}
    missing = [name for name in wanted if name not in places]
    if missing:
        raise WeightsError(
            f"the teacher {teacher} does not answer {missing[0]} ({len(missing)} of the images' {len(wanted)} classes "
            "are missing); choose one that was trained on the same classes"
        )
    if len(taught) != len(wanted) or len(set(wanted)) != len(wanted):
        raise WeightsError(
            f"the teacher {teacher} answers {len(taught)} classes, the images have {len(wanted)}; "
            "choose one that was trained on the same classes"
        )
    return tuple(places[name] for name in wanted)


def _run_folder(path: Path) -> Path | None:
    """The run folder meant, by itself or by its weight file; None where there is none, or it is no run's."""
    folder = path.parent if path.name == WEIGHTS else path
    try:
        return folder if (folder / DESCRIPTION).exists() else None
    except OSError:  # a name the system refuses: said where weights are read
        return None


def _from_weights(
    weights: str | Path, classes: Sequence[str], student: Preprocessing, network: str, width_mult: float
) -> tuple[SavedNetwork, LoadedWeights]:
    """Build the teacher of a weight file, at the size its images were prepared for where that is known."""
    arguments = {"num_classes": len(classes), "width_mult": width_mult, "in_channels": student.channels}
    model, report = create_from_weights(network, weights, {**arguments, "image_size": student.image_size})
    own = report.preprocessing or student
    if own.image_size != student.image_size:  # its early strides depend on the size it was made for
        model, report = create_from_weights(network, weights, {**arguments, "image_size": own.image_size})
    if report.fresh_classifier:
        raise WeightsError(
            f"{report.path} can't teach these images: it does not answer {len(classes)} classes as they have; "
            "train it on them and give the run folder"
        )
    return SavedNetwork(model.eval(), report.classes or tuple(classes), own, {}), report


def _assumptions(report: LoadedWeights) -> list[str]:
    """What a weight file leaves open and is taken for granted."""
    said = []
    if report.classes is None:
        said.append(f"{report.path.name} names no classes: its outputs are taken to be the images' classes, in order")
    if report.preprocessing is None:
        said.append(f"images for {report.path.name} are taken to be prepared as the student's")
    return said
