"""The one visible training loop.

Everything a step does stands here in reading order. What varies between methods is the objective; what varies between
experiments is the recipe.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mobilenets.data.loader import TrainingBatch, TrainingImages
from mobilenets.errors import (
    DataError,
    ModelError,
    NonFiniteLossError,
    TrainingError,
    TrainingInterruptedError,
)
from mobilenets.files import write_text_atomically
from mobilenets.progress import EpochPoint, Progress
from mobilenets.training.accumulation import (
    Accumulation,
    check_single_images,
    is_out_of_memory,
    save_failed_batch,
    within_memory,
)
from mobilenets.training.checkpoints import SAVE_SECONDS, Checkpoints, Experiment, Trained
from mobilenets.training.distributed import SOLO, Team
from mobilenets.training.inputs import DROPOUT, NORM, ORDER, BatchInputs, StepIndex, derived_seed
from mobilenets.training.optimizer import (
    CrossEntropy,
    Objective,
    build_ema,
    build_optimizer,
    dominant,
    freeze,
    reestimate,
    set_learning_rate,
    training_mode,
    verb_of,
    why_reestimate,
)
from mobilenets.training.plan import (
    ComputePlan,
    allowed_plans,
    choose_plan,
    keep_freed_memory,
    remember_parts,
    remembered_parts,
)
from mobilenets.training.progress import (
    MetricLog,
    Position,
    StopRequest,
    epoch_point,
    extension,
    learning_rate_at,
    step_report,
    stop_on_interrupt,
    where_of,
)
from mobilenets.training.recipe import Recipe

Network = TypeVar("Network", bound=nn.Module)

Validate = Callable[[nn.Module, torch.memory_format, int, StopRequest], tuple[float, float] | None]
"""Loss and accuracy, after so many steps, on images not trained on; None where there are none, or when it was asked to
stop meanwhile. It must leave the network as it was."""

RECIPE = "recipe.toml"


class Training(Generic[Network]):
    """A network in training on prepared images, into a run folder.

    Args:
        model: the network; trained in place.
        images: what it is trained on.
        recipe: how.
        run: the run folder, which no other process writes.
        experiment: what makes it the same run when it is resumed.
        device: where to compute.
        progress: receives progress; in a team, the main process's.
        classes: how many the network answers.
        objective: what a step minimises; default: cross-entropy.
        team: the processes that train it together.
        save_seconds: at most so much time passes between two saved states, plus a step.
        validate: called after each epoch with the network that would be the result; in a team, by the main process.
        cropped: whether the images come cropped as the recipe says.
        decoded_by: what decodes the images, in words; a run that goes on with another one says so.
    """

    def __init__(
        self,
        model: Network,
        images: TrainingImages,
        recipe: Recipe,
        run: Path,
        *,
        experiment: Experiment,
        device: torch.device,
        progress: Progress,
        classes: int,
        objective: Objective | None = None,
        team: Team = SOLO,
        save_seconds: float = SAVE_SECONDS,
        validate: Validate | None = None,
        decoded_by: str = "exactly",
        cropped: bool = False,
    ) -> None:
        self.model = model.to(device)
        self.images = images
        self.recipe = recipe
        self.run = run
        self.experiment = experiment
        self.device = device
        self.progress = progress
        self.objective = objective or CrossEntropy(recipe.label_smoothing)
        self.validate = validate
        self.team = team
        self.checkpoints = Checkpoints(run, experiment, device, team, save_seconds, decoded_by)
        self.inputs = BatchInputs(recipe, images.preprocessing, classes, device, cropped=cropped)
        freeze(self.model, recipe.freeze)
        self.optimizer = build_optimizer(self.model, recipe)
        self.ema = build_ema(self.model, recipe.ema_decay) if recipe.ema_decay is not None else None
        team.check_images(len(images))
        # A small data set is one batch. Left-over images wait for another epoch's order: a last batch of one image
        # would give batch norm nothing to normalise over.
        self.batch_size = min(recipe.batch_size, len(images) // team.count * team.count)
        team.check_batch(self.batch_size)
        check_single_images(self.model, images, recipe, processes=team.count)
        self.steps = len(images) // self.batch_size
        self.position = Position()
        self.parts = 1
        self._clock = 0.0

    def fit(self, *, resume: bool = False, force: bool = False) -> Network:
        """Train to the recipe's last epoch and return the network to use (the averaged one where there is one).

        Args:
            resume: go on from the state in the run folder.
            force: go on even if it is that of another experiment.

        Raises:
            NonFiniteLossError: naming the step; the batch is saved.
            TrainingInterruptedError: on Ctrl-C or SIGTERM; the state is saved.
            RunError: `resume` where nothing, or something else, was begun; or the folder can't be written.
            DataError: images that can't be read any more; the state is saved.
        """
        if self.device.type == "cpu":
            keep_freed_memory()
        plan = self._restore(force) if resume else self._begin()
        synced = self.recipe.sync_norm and self.team.count > 1
        if synced:
            from mobilenets.training.synced_norm import sync_norms, unsync_norms

            sync_norms(self.model, self.device)
        self.compute = Accumulation(
            self.team.wrap(self.model, self.device),
            self.objective,
            plan,
            self.device,
            parts=self.parts,
            on_halving=self._halved,
        )
        if self.team.is_main:
            write_text_atomically(self.run / RECIPE, self.recipe.to_toml())
        self._save()
        training_mode(self.model, self.recipe.freeze)
        with stop_on_interrupt(self._acknowledge) as stop:
            if self.team.is_main:
                with MetricLog(self.run, self.position.epoch) as log:
                    self._epochs(stop, log)
            else:
                self._epochs(stop, None)
        if synced:
            unsync_norms(self.model)
        result = self.model if self.ema is None else cast(Network, self.ema.module)
        if self.team.is_main:
            self._reestimate_norms(result)
        return result.eval()

    def _epochs(self, stop: StopRequest, log: MetricLog | None) -> None:
        progress = self.position
        while progress.epoch < self.recipe.epochs:
            self._clock = time.perf_counter()
            if self._steps(stop):
                self._stop(stop)
            point = epoch_point(progress, self.steps, self.recipe)
            if log is not None:
                point = self._validated(point, stop)
            if self._asked(stop):  # during validation, which a run that goes on makes anew
                self._stop(stop)
            if log is not None:
                log.add(point)
            progress.next_epoch()
            self._save()
            self.progress.epoch(point, self.recipe.epochs)
        if self._asked(stop):
            self._stop(stop)

    def _asked(self, stop: StopRequest) -> bool:
        """Whether any process was asked to stop; all of a team meet here."""
        return self.team.sum([float(bool(stop))], self.device)[0] > 0

    def _steps(self, stop: StopRequest) -> bool:
        """The rest of an epoch, or what there is of it until a request to stop; returns whether one came."""
        try:
            for images, labels in self._remaining_batches():
                if self._step(images, labels, stop):
                    return True
                if self.checkpoints.due:
                    self._save()
        except DataError as error:  # images or shards that can't be read any more
            self._save()
            where = where_of(self.position, self.steps)
            # Of a team only the main process can save, and it may not know of this.
            saved = f"Saved before {where}" if self.team.count == 1 else f"The state saved last is from before {where}"
            raise DataError(f"{error}. {saved}: `resume=True` goes on once they are back") from error
        except (RuntimeError, MemoryError) as error:  # where no smaller parts help: augmentation, the optimizer
            if not is_out_of_memory(error):
                raise
            where = where_of(self.position, self.steps)
            raise TrainingError(
                f"out of memory in {where}; free some, or try a smaller `batch_size` in another folder; "
                "`resume=True` goes on from the state saved last"
            ) from error
        return False

    def _step(self, images: NDArray[np.uint8], labels: NDArray[np.int64], stop: StopRequest) -> bool:
        """One batch [B, H, W, C]: augment, forward, backward, update, count; returns whether to stop."""
        progress = self.position
        index = StepIndex(progress.epoch, progress.step, self.team.share)
        inputs, targets = self.inputs(images, labels, index, self.compute.plan.layout)
        set_learning_rate(self.optimizer, self._learning_rate())

        mine = self.compute.gradients(inputs, targets, dominant(targets), index.seed(self.recipe, DROPOUT))
        loss, correct, count, stopping = self.team.sum(
            [mine.loss * mine.images, mine.correct, mine.images, float(bool(stop))], self.device
        )
        if not math.isfinite(loss):
            self._refuse(images, labels, loss / count)
        if self.recipe.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad_norm)
        self.optimizer.step()
        if self.ema is not None and self.team.is_main:
            self.ema.update_parameters(self.model)

        progress.step += 1
        progress.images += int(count)
        progress.loss_sum += loss
        progress.correct += int(correct)
        now = time.perf_counter()  # from the end of the step before: waiting for images counts
        progress.seconds += now - self._clock
        self._clock = now
        self.progress.step(step_report(progress, self.steps, self.recipe, verb_of(self.objective)))
        # In a team all stop at the same step; alone, a request that came during the step need not wait for the next.
        return stopping > 0 or (self.team.count == 1 and bool(stop))

    def _remaining_batches(self) -> Iterator[TrainingBatch]:
        """The epoch's batches from the current step on, in an order that depends on seed and epoch only."""
        seed = derived_seed(self.recipe.seed, self.position.epoch, ORDER)
        return self.images.epoch(seed, self.batch_size, first=self.position.step, share=self.team.share)

    def _reestimate_norms(self, model: nn.Module) -> None:
        """Measure batch norm's statistics anew where training left none that fit; frozen ones are the weights' own."""
        reason = why_reestimate(model, self.recipe.epochs * self.steps, averaged=self.ema is not None)
        if reason is not None and self.recipe.freeze == "none":
            self.progress.message(f"batch norm re-estimated: {reason}")
            # Mixed, since images lie sorted by class, and parted evenly: a batch of one class or of a few images
            # would be normalised by statistics unlike the others' and weigh as much, or by none at all.
            seed = derived_seed(self.recipe.seed, self.recipe.epochs, NORM)
            parts = -(-len(self.images) // self.batch_size) * self.compute.parts
            size = max(min(2, self.batch_size), len(self.images) // parts)
            batches = self.images.epoch(seed, size)
            layout = self.compute.plan.layout
            reestimate(model, (self.inputs.plain(torch.from_numpy(images), layout) for images, _ in batches))

    def _validated(self, point: EpochPoint, stop: StopRequest) -> EpochPoint:
        """Add what the validation images say, unless it is to stop; the time it takes is not the epoch's."""
        network = self.model if self.ema is None else self.ema.module
        steps = self.position.epoch * self.steps + self.position.step
        try:
            scored = None if self.validate is None else self.validate(network, self.compute.plan.layout, steps, stop)
        except ModelError as error:  # the last step's gradient was NaN or infinite, though its loss was finite
            again = "or go on from the state before with `resume=True` `force=True`"
            raise NonFiniteLossError(f"after epoch {point.epoch} of {self.run} {error}, {again}") from error
        return point if scored is None else replace(point, validation_loss=scored[0], validation_top1=scored[1])

    def _learning_rate(self) -> float:
        return learning_rate_at(self.position.epoch * self.steps + self.position.step, self.steps, self.recipe)

    def _begin(self) -> ComputePlan:
        """Choose how to compute, on a real batch; the network is not changed by it."""
        self.parts = remembered_parts(self.run)
        plan, self.parts = self.team.run_on_main(self._choose_plan)
        self.model.to(memory_format=plan.layout)
        return plan

    def _choose_plan(self) -> tuple[ComputePlan, int]:
        """The plan, and in how many parts a batch fits into memory."""
        images, labels = next(self._remaining_batches())
        inputs = self.inputs.plain(torch.from_numpy(images), torch.contiguous_format)
        targets = torch.from_numpy(labels).to(self.device)
        if len(allowed_plans(self.recipe, self.device)) > 1:
            self.progress.message("finding the fastest way to compute here")

        def choose(parts: int) -> tuple[ComputePlan, str]:
            fitting = -(-len(inputs) // parts)
            return choose_plan(self.model, inputs[:fitting], targets[:fitting], self.recipe, self.objective)

        def halved(parts: int) -> None:
            self.progress.message(f"out of memory: going on with {self._fewer(parts)}")

        (plan, how), parts = within_memory(
            choose, parts=self.parts, images=len(inputs), device=self.device, on_halving=halved
        )
        together = f" in {self.team.count} processes" if self.team.count > 1 else ""
        self.progress.message(f"{verb_of(self.objective)} on {self.device.type}{together} in {plan} ({how})")
        return plan, parts

    def _restore(self, force: bool) -> ComputePlan:
        restored = self.checkpoints.restore(self._trained(), force=force, progress=self.progress)
        self.parts = max(restored.parts, remembered_parts(self.run))
        self.position = restored.position
        self.position.step = min(self.position.step, self.steps)  # more only where a difference was forced
        if restored.longer_than is not None:
            step = self.position.epoch * self.steps + self.position.step
            self.progress.message(extension(self.recipe, restored.longer_than, step, self.steps))
        return restored.plan

    def _trained(self) -> Trained:
        return Trained(self.model, self.optimizer, self.ema)

    def _save(self) -> None:
        self.checkpoints.save(self._trained(), self.compute.plan, self.compute.parts, self.position)

    def _stop(self, stop: StopRequest) -> None:
        """End in good order: all of a team together, once the state is saved, by the signal that any of them got."""
        self.team.run_on_main(self._save)
        signal = self.team.largest(stop.signal, self.device)
        where = f"epoch {self.position.epoch + 1}, step {self.position.step} of {self.steps}"
        if self.position.epoch == self.recipe.epochs:
            where = "training's end, before scoring"
        raise TrainingInterruptedError(f"stopped at {where}; {self.run} is saved", signal=signal)

    def _acknowledge(self) -> None:
        self.progress.message("stopping after this step; again to stop at once and lose it")

    def _halved(self, parts: int) -> None:
        """Memory ran out. In a team the others are at another point by now: note it for the restart, and give up."""
        if self.team.count > 1:
            remember_parts(self.run, parts)
            raise TrainingError(
                f"out of memory in process {self.team.rank}; a restart goes on with {self._fewer(parts)}"
            )
        self.progress.message(f"out of memory: going on with {self._fewer(parts)}")

    def _fewer(self, parts: int) -> str:
        batch = self.batch_size // self.team.count
        return f"{-(-batch // parts)} images at a time, their gradients added up to the recipe's {self.batch_size}"

    def _refuse(self, images: NDArray[np.uint8], labels: NDArray[np.int64], loss: float) -> None:
        """Stop at a loss that is NaN or infinite, with the batch kept; the state saved last is from before it."""
        where = where_of(self.position, self.steps)
        batch = self.team.gather((images, labels))
        kept = ""
        if self.team.is_main:
            content = {
                "images": torch.from_numpy(np.concatenate([one for one, _ in batch])),
                "labels": torch.from_numpy(np.concatenate([truth for _, truth in batch])),
                "model": self.model.state_dict(),
                "epoch": self.position.epoch,
                "step": self.position.step,
                "loss": loss,
                "learning_rate": self._learning_rate(),
            }
            kept = f"; its batch is in {save_failed_batch(self.run, content).name}"
        raise NonFiniteLossError(
            f"the loss is {loss} in {where} of {self.run}{kept}; try a lower learning_rate (now "
            f"{self._learning_rate():.2g}), clip_grad_norm 1 or precision float32, in another folder or by "
            "`resume=True` `force=True` from the state saved before"
        )
