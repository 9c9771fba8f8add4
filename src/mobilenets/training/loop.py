"""The one visible training loop.

Everything a step does stands here in reading order. What varies between methods is the objective; what varies between
experiments is the recipe.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Generic, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mobilenets.data.training_images import TrainingBatch, TrainingImages
from mobilenets.errors import NonFiniteLossError, RunError, TrainingInterruptedError
from mobilenets.evaluation.results import EpochPoint
from mobilenets.files import write_text_atomically
from mobilenets.training.allocator import keep_freed_memory
from mobilenets.training.ema import build_ema
from mobilenets.training.inputs import DROPOUT, NORM, ORDER, BatchInputs, Place
from mobilenets.training.interrupt import stop_on_interrupt
from mobilenets.training.metric_log import MetricLog
from mobilenets.training.norm_statistics import FORGOTTEN, reestimate, share_of_start
from mobilenets.training.objectives import CrossEntropy, Objective, verb_of
from mobilenets.training.observer import Observer, StepReport
from mobilenets.training.optimizer import build_optimizer, set_learning_rate
from mobilenets.training.plan import ComputePlan, allowed_plans, choose_plan
from mobilenets.training.recipe import Recipe
from mobilenets.training.schedule import learning_rate_at
from mobilenets.training.state import Experiment, Progress, SavedState, derived_seed, load_state, save_state

Network = TypeVar("Network", bound=nn.Module)

RECIPE = "recipe.toml"


class Training(Generic[Network]):
    """A network in training on prepared images, into a run folder."""

    def __init__(
        self,
        model: Network,
        images: TrainingImages,
        recipe: Recipe,
        run: Path,
        *,
        experiment: Experiment,
        device: torch.device,
        observer: Observer,
        classes: int,
        objective: Objective | None = None,
    ) -> None:
        self.model = model.to(device)
        self.images = images
        self.recipe = recipe
        self.run = run
        self.experiment = experiment
        self.device = device
        self.observer = observer
        self.objective = objective or CrossEntropy(recipe.label_smoothing)
        self.inputs = BatchInputs(recipe, images.preprocessing, classes, device)
        self.optimizer = build_optimizer(self.model, recipe)
        self.ema = build_ema(self.model, recipe.ema_decay) if recipe.ema_decay is not None else None
        # A small data set is one batch. Left-over images wait for another epoch's order: a last batch of one image
        # would give batch norm nothing to normalise over.
        self.batch_size = min(recipe.batch_size, len(images))
        self.steps = len(images) // self.batch_size
        self.progress = Progress()
        self._clock = 0.0

    def fit(self, *, resume: bool = False) -> Network:
        """Train to the recipe's last epoch and return the network to use (the averaged one where there is one).

        Raises:
            NonFiniteLossError: naming the step.
            TrainingInterruptedError: on Ctrl-C; the state is saved.
            RunError: `resume` where nothing, or something else, was begun.
        """
        if self.device.type == "cpu":
            keep_freed_memory()
        plan = self._restore() if resume else self._begin()
        write_text_atomically(self.run / RECIPE, self.recipe.to_toml())
        self._save(plan)
        progress = self.progress
        self.model.train()
        with MetricLog(self.run, progress.epoch) as log, stop_on_interrupt(self._acknowledge) as stop:
            while progress.epoch < self.recipe.epochs:
                self._clock = time.perf_counter()
                for images, labels in self._remaining_batches():
                    self._step(images, labels, plan)
                    if stop:
                        break
                if progress.step == self.steps:
                    point = self._epoch_point()
                    log.add(point)
                    progress.next_epoch()
                    self._save(plan)
                    self.observer.epoch(point, self.recipe.epochs)
                if stop:
                    self._stop(plan)
        result = self.model if self.ema is None else cast(Network, self.ema.module)
        self._settle_norm(result, plan)
        return result.eval()

    def _step(self, images: NDArray[np.uint8], labels: NDArray[np.int64], plan: ComputePlan) -> None:
        """One batch [B, H, W, C]: augment, forward, backward, update, account."""
        progress = self.progress
        place = Place(progress.epoch, progress.step)
        inputs, targets = self.inputs(images, labels, place, plan.layout)
        torch.manual_seed(place.seed(self.recipe, DROPOUT))
        set_learning_rate(self.optimizer, self._learning_rate())

        self.optimizer.zero_grad(set_to_none=True)
        with plan.autocast(self.device):
            loss, logits = self.objective(self.model, inputs, targets)
        value = loss.item()
        if not math.isfinite(value):
            self._refuse(value)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad_norm)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model)

        progress.step += 1
        progress.images += len(labels)
        progress.loss_sum += value * len(labels)
        progress.correct += int((logits.argmax(dim=1) == targets).sum())
        now = time.perf_counter()  # from the end of the step before: waiting for images counts
        progress.seconds += now - self._clock
        self._clock = now
        self.observer.step(self._report())

    def _remaining_batches(self) -> Iterator[TrainingBatch]:
        """The epoch's batches from the current step on, in an order that depends on seed and epoch only."""
        seed = derived_seed(self.recipe.seed, self.progress.epoch, ORDER)
        return self.images.epoch(seed, self.batch_size, first=self.progress.step)

    def _settle_norm(self, model: nn.Module, plan: ComputePlan) -> None:
        """Measure batch norm's statistics anew where training was too short for them."""
        left = share_of_start(model, self.recipe.epochs * self.steps)
        if left > FORGOTTEN:
            self.observer.message(f"batch norm re-estimated: {left:.0%} of its start was left after so few steps")
            # Mixed, since images lie sorted by class, and parted evenly: a batch of one class or of a few images
            # would be normalised by statistics unlike the others' and weigh as much.
            seed = derived_seed(self.recipe.seed, self.recipe.epochs, NORM)
            parts = -(-len(self.images) // self.batch_size)
            batches = self.images.epoch(seed, len(self.images) // parts)
            reestimate(model, (self.inputs.plain(torch.from_numpy(images), plan.layout) for images, _ in batches))

    def _learning_rate(self) -> float:
        return learning_rate_at(self.progress.epoch * self.steps + self.progress.step, self.steps, self.recipe)

    def _begin(self) -> ComputePlan:
        """Choose how to compute, on a real batch; the network is not changed by it."""
        images, labels = next(self._remaining_batches())
        inputs = self.inputs.plain(torch.from_numpy(images), torch.contiguous_format)
        targets = torch.from_numpy(labels).to(self.device)
        if len(allowed_plans(self.recipe, self.device)) > 1:
            self.observer.message("finding the fastest way to compute here")
        plan, how = choose_plan(self.model, inputs, targets, self.recipe, self.objective)
        self.observer.message(f"{verb_of(self.objective)} on {self.device.type} in {plan} ({how})")
        self.model.to(memory_format=plan.layout)
        return plan

    def _restore(self) -> ComputePlan:
        """Take up weights, optimizer, averages, position and compute plan of the saved state."""
        state = load_state(self.run, self.device)
        differences = state.experiment.differences(self.experiment)
        if differences:
            raise RunError(f"{self.run} is another experiment: {'; '.join(differences)}. Choose another folder")
        plan = ComputePlan(state.plan["precision"], state.plan["memory_format"])
        self.model.to(memory_format=plan.layout)
        self.model.load_state_dict(state.model)
        self.optimizer.load_state_dict(state.optimizer)
        if self.ema is not None and state.ema is not None:
            self.ema.load_state_dict(state.ema)
        self.progress = state.progress
        where = f"epoch {state.progress.epoch}, step {state.progress.step}"
        self.observer.message(f"resumed after {where}, on {self.device.type} in {plan}")
        if state.plan["device"] != self.device.type:
            self.observer.message(f"begun on {state.plan['device']}: the weights will differ a little from its own")
        return plan

    def _save(self, plan: ComputePlan) -> None:
        state = SavedState(
            experiment=self.experiment,
            plan={**asdict(plan), "device": self.device.type},
            progress=self.progress,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            ema=self.ema.state_dict() if self.ema is not None else None,
        )
        save_state(self.run, state)

    def _stop(self, plan: ComputePlan) -> None:
        self._save(plan)
        where = f"epoch {self.progress.epoch + 1}, step {self.progress.step} of {self.steps}"
        if self.progress.epoch == self.recipe.epochs:
            where = "training's end, before scoring"
        raise TrainingInterruptedError(f"stopped at {where}; {self.run} is saved")

    def _acknowledge(self) -> None:
        self.observer.message("stopping after this step; again to stop at once and lose it")

    def _refuse(self, loss: float) -> None:
        where = f"epoch {self.progress.epoch + 1}, step {self.progress.step + 1} of {self.steps}"
        raise NonFiniteLossError(
            f"the loss is {loss} in {where} of {self.run}; try a lower learning_rate "
            f"(now {self._learning_rate():.2g}), clip_grad_norm 1 or precision float32"
        )

    def _epoch_point(self) -> EpochPoint:
        progress = self.progress
        return EpochPoint(
            epoch=progress.epoch + 1,
            loss=progress.loss_sum / progress.images,
            top1=100 * progress.correct / progress.images,
            learning_rate=learning_rate_at((progress.epoch + 1) * self.steps - 1, self.steps, self.recipe),
            seconds=progress.seconds,
            images_per_second=progress.images / progress.seconds,
        )

    def _report(self) -> StepReport:
        progress = self.progress
        steps_left = (self.recipe.epochs - progress.epoch) * self.steps - progress.step
        return StepReport(
            epoch=progress.epoch + 1,
            epochs=self.recipe.epochs,
            step=progress.step,
            steps=self.steps,
            loss=progress.loss_sum / progress.images,
            top1=100 * progress.correct / progress.images,
            images_per_second=progress.images / progress.seconds,
            seconds_left=steps_left * progress.seconds / progress.step,
            verb=verb_of(self.objective),
        )
