"""Data augmentation of batches of images, on the device that trains.

One resampling crops, rotates and mirrors all images of a batch, each with its own parameters. Two
images may be mixed with their labels: mixup (Zhang et al., 2018, arXiv:1710.09412) blends them,
CutMix (Yun et al., 2019, arXiv:1905.04899) pastes a part of one into the other.

The random numbers of an epoch are drawn at once on the host, so that no step waits for them.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

FEW_IMAGES, MANY_IMAGES = 200, 10_000
SMALLEST_CROP_OF_FEW, SMALLEST_CROP_OF_MANY = 0.7, 0.3
MIX_SHARE_OF_MANY = 0.5
COLOUR = 0.3
DEGREES, SHEAR, LOG_ASPECT = 10.0, 0.1, math.log(4 / 3)
LUMA = (0.299, 0.587, 0.114)
MIXUP_BETA = 0.2

Draw = NDArray[np.float32]


class Draws(NamedTuple):
    """What is drawn for the steps of an epoch, float32.

    placement: [steps, batch, 2, 3], affine maps from the view to the image, coordinates -1 to 1.
    colour: [steps, batch, 3, 3], matrices of red, green and blue.
    contrast: [steps, batch, 3], weights of the view's mean colour in what is added to all pixels.
    box: [steps, 4], the rows and columns (first, and first after) that the other image replaces.
    blend: [steps], the own image's share outside of the box.
    kept: [steps], the own label's share.
    """

    placement: Draw
    colour: Draw
    contrast: Draw
    box: Draw
    blend: Draw
    kept: Draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """The strength of augmentation.

    smallest_crop: the smallest share of the image's area in a crop.
    mix_share: probability that a batch is mixed.
    colour: largest relative change of brightness, contrast and saturation.
    transform: whether images are rotated and sheared.
    """

    smallest_crop: float
    mix_share: float
    colour: float
    transform: bool

    @classmethod
    def suited(cls, kind: str, images: int) -> Self:
        """For the built-in algorithm's augmentation_type and the number of training images.

        A few hundred images give too few steps to learn from small crops or mixed classes; with
        many images both improve the accuracy.
        """
        span = math.log(MANY_IMAGES / FEW_IMAGES)
        share = min(max(math.log(max(images, 1) / FEW_IMAGES) / span, 0.0), 1.0)
        return cls(
            smallest_crop=SMALLEST_CROP_OF_FEW
            + share * (SMALLEST_CROP_OF_MANY - SMALLEST_CROP_OF_FEW),
            mix_share=share * MIX_SHARE_OF_MANY,
            colour=0.0 if kind == "crop" else COLOUR,
            transform=kind == "crop_color_transform",
        )

    def draw(
        self, steps: int, batch: int, shape: tuple[int, int], rng: np.random.Generator
    ) -> Draws:
        """For `steps` batches of `batch` views of `shape` (height, width)."""
        placement = self._placements((steps, batch), rng)
        colour, contrast = self._colours((steps, batch), rng)
        mixes = [self._mix(shape, rng) for _ in range(steps)]
        box, blend, kept = (np.array(each, np.float32) for each in zip(*mixes, strict=True))
        return Draws(placement, colour, contrast, box, blend, kept)

    def _placements(self, size: tuple[int, int], rng: np.random.Generator) -> Draw:
        area = rng.uniform(self.smallest_crop, 1, size)
        aspect = np.exp(rng.uniform(-LOG_ASPECT, LOG_ASPECT, size))
        across, down = (np.minimum(np.sqrt(area * a), 1) for a in (aspect, 1 / aspect))
        angle = np.radians(rng.uniform(-DEGREES, DEGREES, size)) * self.transform
        shear = rng.uniform(-SHEAR, SHEAR, size) * self.transform
        mirrored = rng.choice([-1.0, 1.0], size)
        theta = np.empty((*size, 2, 3), np.float32)
        theta[..., 0, 0] = mirrored * across * np.cos(angle)
        theta[..., 0, 1] = down * (shear - np.sin(angle))
        theta[..., 0, 2] = rng.uniform(-1, 1, size) * (1 - across)
        theta[..., 1, 0] = mirrored * across * np.sin(angle)
        theta[..., 1, 1] = down * np.cos(angle)
        theta[..., 1, 2] = rng.uniform(-1, 1, size) * (1 - down)
        return theta

    def _colours(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[Draw, Draw]:
        """Saturation moves pixels away from their grey, contrast from the image's mean grey."""
        factors = rng.uniform(1 - self.colour, 1 + self.colour, (3, *size, 1))
        brightness, contrast, saturation = factors
        luma = np.array(LUMA)
        saturated = saturation[..., None] * np.eye(3) + (1 - saturation[..., None]) * luma
        matrices = (brightness * contrast)[..., None] * saturated
        return matrices.astype(np.float32), (brightness * (1 - contrast) * luma).astype(np.float32)

    def _mix(
        self, shape: tuple[int, int], rng: np.random.Generator
    ) -> tuple[tuple[int, int, int, int], float, float]:
        """The box, the blend and the kept share of one batch."""
        if rng.random() >= self.mix_share:
            return (0, 0, 0, 0), 1.0, 1.0
        if rng.random() < 0.5:
            kept = rng.beta(MIXUP_BETA, MIXUP_BETA)
            return (0, 0, 0, 0), kept, kept
        height, width = shape
        pasted = math.sqrt(1 - rng.uniform())
        tall, wide = int(height * pasted), int(width * pasted)
        top = int(rng.integers(height - tall + 1))
        left = int(rng.integers(width - wide + 1))
        return (top, top + tall, left, left + wide), 1.0, 1 - tall * wide / (height * width)

    def views(
        self,
        pixels: torch.Tensor,
        placement: torch.Tensor,
        colour: torch.Tensor,
        contrast: torch.Tensor,
        shape: tuple[int, int],
    ) -> torch.Tensor:
        """float32 [N, 3, height, width], 0 to 255, of uint8 [N, H, W, 3] and a step's draws."""
        x = pixels.permute(0, 3, 1, 2).float()
        grid = functional.affine_grid(placement, [len(x), 3, *shape], align_corners=False)
        x = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
        if not self.colour:
            return x
        added = (contrast * x.mean((2, 3))).sum(1)[:, None, None]
        return torch.baddbmm(added, colour, x.flatten(2)).view_as(x).clamp(0, 255)

    def mixed(
        self,
        x: torch.Tensor,
        targets: torch.Tensor,
        box: torch.Tensor,
        blend: torch.Tensor,
        kept: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [N, 3, H, W] and targets [N, classes], both mixed by a step's draws.

        The images of each pair of neighbours are mixed with each other; their order is random
        already. An odd last one stays as it is.
        """
        if not self.mix_share:
            return x, targets
        height, width = x.shape[2:]
        rows = torch.arange(height, device=x.device)[:, None]
        columns = torch.arange(width, device=x.device)
        top, bottom, left, right = box.unbind()
        inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
        own = blend * ~inside
        return torch.lerp(_exchanged(x), x, own), torch.lerp(_exchanged(targets), targets, kept)


def _exchanged(x: torch.Tensor) -> torch.Tensor:
    """Each pair of neighbours exchanged."""
    even = len(x) // 2 * 2
    pairs = x[:even].unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    return pairs if even == len(x) else torch.cat([pairs, x[even:]])
