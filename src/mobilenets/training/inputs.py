"""From a batch of images as they are stored to what the network is given at one step: augmented and normalised.

Every random draw is seeded by the recipe's seed and the step's place in the run, and made for the whole batch whatever
part of it this process has. So a step is the same after a resume, and on two processes as on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mobilenets.data.decoding import RandomCrop, draw
from mobilenets.data.loader import WHOLE, Share, TrainingImages
from mobilenets.errors import RecipeError
from mobilenets.models.layers import Normalizer
from mobilenets.preprocessing import Preprocessing
from mobilenets.training.progress import image_size_at
from mobilenets.training.recipe import Recipe


@dataclass(frozen=True)
class Augment:
    """Crop each image at a random place out of itself padded with black, then mirror it with probability one half.

    Each image gets draws of its own, all from one generator that a step can seed. torchvision's `transforms.v2` draws
    once a call, so on a batch all images would move the same way, and it takes no generator.

    Attributes:
        flip: mirror left to right half of the time. Not for digits, letters or anything else that has a handedness.
        crop_padding: black pixels added on each side before the crop; 4 is usual at 32x32, 0 leaves the crop out.

    Raises:
        RecipeError: `crop_padding` is negative.
    """

    flip: bool
    crop_padding: int

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise RecipeError(f"crop_padding must be 0 or more pixels, not {self.crop_padding}")

    def __call__(self, images: Tensor, generator: torch.Generator, share: Share = WHOLE) -> Tensor:
        """Augment uint8 images `[B, H, W, C]` into as many of the same size.

        The same generator state gives the same result. Generator and images must be on the same device. The draws are
        those of the whole batch of which these images are a `share`, so that its parts come out as the whole does.
        """
        if not self.flip and not self.crop_padding:
            return images
        batch, height, width, channels = images.shape
        part = slice(share.index * batch, (share.index + 1) * batch)
        top, left, mirrored = (drawn[part] for drawn in self.draw(batch * share.count, generator))
        padding = self.crop_padding
        if not padding:
            return _mirror(images, mirrored)
        padded = F.pad(images, (0, 0, padding, padding, padding, padding))
        rows = top[:, None] + torch.arange(height, device=images.device)
        across = torch.arange(width, device=images.device).expand(batch, width)
        columns = left[:, None] + torch.where(mirrored[:, None], width - 1 - across, across)
        # One selection of pixels does both: the crop chooses rows and columns, the mirror reverses the columns.
        lines = torch.arange(batch, device=images.device)[:, None] * padded.shape[1] + rows
        places = lines[:, :, None] * padded.shape[2] + columns[:, None, :]
        return padded.view(-1, channels).index_select(0, places.flatten()).view(images.shape)

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw top and left of the crop within the padded image, int64 `[B]`, and whether to mirror, bool `[B]`."""
        device = generator.device
        places = 2 * self.crop_padding + 1
        top, left = torch.randint(places, (2, batch), generator=generator, device=device)
        if self.flip:
            return top, left, torch.rand(batch, generator=generator, device=device) < 0.5
        return top, left, torch.zeros(batch, dtype=torch.bool, device=device)


def _mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror some of the images. Whole images move faster than selected pixels: at 224x224 by a factor of twenty."""
    result = images.clone()
    for place in mirrored.nonzero().flatten().tolist():
        result[place] = images[place].flip(1)
    return result


RAND_LEVELS = 11
"""RandAugment's magnitudes go from 0 to 10, as in its paper (arXiv 1909.13719) and its authors' code."""


@dataclass(frozen=True)
class Rand:
    """RandAugment: `ops` changes in a row, each of `magnitude` of 10 and made with `probability`."""

    ops: int = 2
    magnitude: int = 9
    probability: float = 1.0


@dataclass(frozen=True)
class Distort:
    """Change each image of a batch by draws of its own; nothing is done by default.

    Attributes:
        crop: cut a part and resize it to the image's size.
        brightness: change it by up to this share.
        saturation: change it by up to this share.
        policy: TrivialAugment (arXiv 2103.10158) by its name, or RandAugment.
        erasing: how likely a rectangle is erased (arXiv 1708.04896).
        fill: the erased rectangle's colour, 0 to 255 a channel; the images' mean is 0 to the network.
    """

    crop: RandomCrop | None = None
    brightness: float = 0.0
    saturation: float = 0.0
    policy: Literal["trivial"] | Rand | None = None
    erasing: float = 0.0
    fill: Sequence[float] = (0.0,)

    def transforms(self) -> list[nn.Module]:
        """What is done to an image `[C, H, W]` uint8 after the crop, in order."""
        if not (self.brightness or self.saturation or self.policy or self.erasing):
            return []
        from torchvision.transforms import v2  # takes a second to load, and most recipes have no use for it

        made: list[nn.Module] = []
        if self.brightness or self.saturation:
            made.append(v2.ColorJitter(brightness=self.brightness, saturation=self.saturation))
        if isinstance(self.policy, Rand):
            change = v2.RandAugment(num_ops=1, magnitude=self.policy.magnitude, num_magnitude_bins=RAND_LEVELS)
            made += [v2.RandomApply([change], p=self.policy.probability)] * self.policy.ops
        elif self.policy == "trivial":
            made.append(v2.TrivialAugmentWide())
        if self.erasing:
            made.append(v2.RandomErasing(p=self.erasing, value=list(self.fill)))
        return made

    def __call__(self, images: Tensor, seed: int, share: Share = WHOLE) -> Tensor:
        """Change uint8 images `[B, H, W, C]` on the CPU into as many of the same size.

        The same seed gives the same result, whatever `share` of the whole batch these images are. torch's global
        generator is left as it was.
        """
        transforms = self.transforms()
        if not transforms and self.crop is None:
            return images
        from torchvision.transforms.v2 import functional

        batch, height, width, _ = images.shape
        rows = share.rows(batch * share.count)
        draws = draw(seed, 0, batch * share.count)
        seeds = torch.randint(2**62, (batch * share.count,), generator=torch.Generator().manual_seed(seed))
        changed = []
        with torch.random.fork_rng(devices=[]):
            for index, row in enumerate(rows):
                image = images[index].permute(2, 0, 1).contiguous()
                if self.crop is not None:
                    left, top, right, bottom = self.crop.box(width, height, draws[row])
                    sides = bottom - top, right - left
                    image = functional.resized_crop(image, top, left, *sides, size=[height, width], antialias=True)
                torch.default_generator.manual_seed(int(seeds[row]))
                for transform in transforms:
                    image = transform(image)
                changed.append(image)
        return torch.stack(changed).permute(0, 2, 3, 1).contiguous()


class _Draws(NamedTuple):
    """What is drawn for every pair of a batch: the share `[P]` that stays of an image where it is blended, 1 where it
    is not, and the box `[P, 4]` (left, top, right, bottom) that is exchanged, empty where none is."""

    kept: NDArray[np.float64]
    box: NDArray[np.int64]


@dataclass(frozen=True)
class Mixing:
    """Mix pairs of a batch.

    Attributes:
        mixup_alpha: parameter of the beta distribution of MixUp's shares; None leaves it out.
        cutmix_alpha: CutMix's, likewise; with both, each pair gets one of the two.
        probability: how likely a pair is mixed at all.
    """

    mixup_alpha: float | None
    cutmix_alpha: float | None
    probability: float = 1.0

    def __bool__(self) -> bool:
        return self.mixup_alpha is not None or self.cutmix_alpha is not None

    def __call__(
        self, images: Tensor, labels: Tensor, classes: int, seed: int, share: Share = WHOLE
    ) -> tuple[Tensor, Tensor]:
        """Images `[B, C, H, W]` float and labels `[B]` -> mixed images and shares of the classes `[B, classes]`.

        The same seed gives the same result, whatever `share` of the whole batch these images are, as long as it is an
        even number; the last image of an odd one has no partner and stays. No global generator is touched.
        """
        count, (height, width) = len(images), images.shape[2:]
        first, pairs = share.index * count // 2, (count * share.count + 1) // 2
        draws = self._draw(pairs, height, width, seed)
        rows = np.arange(count)
        partner = np.minimum(rows ^ 1, count - 1)
        pair = first + rows // 2
        kept, box = draws.kept[pair], draws.box[pair]
        kept[partner == rows], box[partner == rows] = 1.0, 0
        if self.mixup_alpha is None:
            mixed = images.clone()
        else:
            weight = torch.from_numpy(kept).to(images.device, images.dtype)[:, None, None, None]
            mixed = images[torch.from_numpy(partner).to(images.device)].lerp_(images, weight)
        cut = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        for row in np.flatnonzero(cut).tolist():
            left, top, right, bottom = box[row].tolist()
            mixed[row, :, top:bottom, left:right] = images[partner[row], :, top:bottom, left:right]
        own = torch.from_numpy(kept - cut / (height * width)).to(images.device, torch.float32)[:, None]
        targets = F.one_hot(labels, classes).to(torch.float32)
        return mixed, own * targets + (1 - own) * targets[torch.from_numpy(partner).to(labels.device)]

    def _draw(self, pairs: int, height: int, width: int, seed: int) -> _Draws:
        """Draw for all pairs of the whole batch, whether or not they are mixed: what one gets depends on no other."""
        generator = np.random.default_rng(seed)
        mixes = generator.random(pairs) < self.probability
        blends = generator.random(pairs) < 0.5
        if self.mixup_alpha is None or self.cutmix_alpha is None:
            blends[:] = self.mixup_alpha is not None
        kept = np.ones(pairs)
        if self.mixup_alpha is not None:
            kept = np.where(mixes & blends, generator.beta(self.mixup_alpha, self.mixup_alpha, pairs), 1.0)
        box = np.zeros((pairs, 4), np.int64)
        if self.cutmix_alpha is not None:
            half = 0.5 * np.sqrt(1 - generator.beta(self.cutmix_alpha, self.cutmix_alpha, pairs))
            half = np.where(mixes & ~blends, half, 0.0)
            for axis, side in enumerate((width, height)):
                centre, reach = generator.integers(side, size=pairs), (half * side).astype(np.int64)
                box[:, axis] = np.maximum(centre - reach, 0)
                box[:, axis + 2] = np.minimum(centre + reach, side)
        return _Draws(kept, box)


def derived_seed(seed: int, *place: int) -> int:
    """A seed for one place of a run (epoch, step, purpose), independent of those of all other places."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0] >> 1)


ORDER, AUGMENT, DROPOUT, NORM, DISTORT, MIX = range(6)
"""What a derived seed is for."""


@dataclass(frozen=True)
class StepIndex:
    """A step of a run: `epoch` and `step` counted from 0, and which part of its batch this process has."""

    epoch: int
    step: int
    share: Share = WHOLE

    def seed(self, recipe: Recipe, purpose: int) -> int:
        """The seed of all draws of one kind at this step."""
        return derived_seed(recipe.seed, self.epoch, self.step, purpose)


class BatchInputs:
    """Makes the network's inputs and targets of a stored batch.

    Args:
        recipe: says how to augment.
        preprocessing: how the images are normalised.
        classes: how many there are.
        device: where the network is.
        cropped: whether the images come cut out of larger pictures already, as they were decoded.
    """

    def __init__(
        self,
        recipe: Recipe,
        preprocessing: Preprocessing,
        classes: int,
        device: torch.device,
        *,
        cropped: bool = False,
    ) -> None:
        self.recipe = recipe
        self.classes = classes
        self.device = device
        padding = recipe.crop_padding if recipe.crop == "padded" else 0
        self.augment = Augment(flip=recipe.flip, crop_padding=padding)
        self.distort = distortion(recipe, preprocessing, None if cropped else random_crop(recipe))
        self.mixing = Mixing(recipe.mixup_alpha, recipe.cutmix_alpha, _else(recipe.mix_probability, 1.0))
        self.normalize = Normalizer(preprocessing).to(device)

    def __call__(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], place: StepIndex, layout: torch.memory_format
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch as this step does.

        Args:
            images: `[B, H, W, C]`, this process's part.
            labels: `[B]`.
            place: the step.
            layout: of the inputs in memory.

        Returns:
            Inputs `[B, C, S, S]` float32, S being the epoch's image size, and targets, class indices `[B]` or, of mixed
            images, shares of the classes `[B, K]`, on the device.
        """
        # From the stored image on: cut and distorted, moved and mirrored, normalised, made smaller, mixed.
        distorted = self.distort(torch.from_numpy(images), place.seed(self.recipe, DISTORT), place.share)
        generator = torch.Generator().manual_seed(place.seed(self.recipe, AUGMENT))
        inputs = self.plain(self.augment(distorted, generator, place.share), layout)
        size = image_size_at(place.epoch, inputs.shape[-1], self.recipe)
        if size != inputs.shape[-1]:
            inputs = F.interpolate(inputs, (size, size), mode="bilinear", antialias=True)
        targets = torch.from_numpy(labels).to(self.device)
        if self.mixing:
            inputs, targets = self.mixing(inputs, targets, self.classes, place.seed(self.recipe, MIX), place.share)
        return inputs.contiguous(memory_format=layout), targets

    def plain(self, images: Tensor, layout: torch.memory_format) -> Tensor:
        """Images uint8 `[B, H, W, C]` as they are -> normalised inputs `[B, C, H, W]` on the device."""
        normalized = self.normalize.batch(images.to(self.device, non_blocking=True))
        return normalized.contiguous(memory_format=layout)


def random_crop(recipe: Recipe) -> RandomCrop | None:
    """How the recipe cuts parts out of images, or None where it does not."""
    if recipe.crop != "resized":
        return None
    usual = RandomCrop()
    ratio = _else(recipe.crop_ratio, usual.ratio[1])
    return RandomCrop((_else(recipe.crop_scale, usual.scale[0]), 1.0), (1 / ratio, ratio))


def distortion(recipe: Recipe, preprocessing: Preprocessing, crop: RandomCrop | None) -> Distort:
    """What the recipe does to each image by itself, and the crop, where it is still to be done."""
    policy: Rand | Literal["trivial"] | None = None
    if recipe.augment == "trivial":
        policy = "trivial"
    elif recipe.augment == "rand":
        usual = Rand()
        policy = Rand(
            usual.ops if recipe.rand_ops is None else recipe.rand_ops,
            usual.magnitude if recipe.rand_magnitude is None else recipe.rand_magnitude,
            _else(recipe.rand_probability, usual.probability),
        )
    return Distort(
        crop=crop,
        brightness=recipe.jitter_brightness,
        saturation=recipe.jitter_saturation,
        policy=policy,
        erasing=recipe.erasing,
        fill=tuple(255 * mean for mean in preprocessing.mean),
    )


def _else(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def balanced(
    images: TrainingImages, recipe: Recipe, classes: int, device: torch.device
) -> tuple[TrainingImages, Tensor | None]:
    """What the recipe's `balance` makes of the images and of the loss: class weights [K] on the device, or None.

    Args:
        images: the training images.
        recipe: how to balance.
        classes: K.
        device: where the network is trained.

    Raises:
        RecipeError: they are to be balanced, but stream from shards.
    """
    if recipe.balance == "none":
        return images, None
    from mobilenets.data.splits import BalancedImages, LabelledImages, class_weights

    if not isinstance(images, LabelledImages):
        raise RecipeError("balance needs the class of every image beforehand; shards are streamed: leave it out")
    if recipe.balance == "sampling":
        return BalancedImages(images), None
    return images, torch.from_numpy(class_weights(images.labels, classes)).to(device)
