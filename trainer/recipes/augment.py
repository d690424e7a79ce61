"""Data augmentation of batches of images, on the device that trains.

One resampling crops, rotates and mirrors all images of a batch, each with its own parameters. Two
images may be mixed with their labels: mixup (Zhang et al., 2018, arXiv:1710.09412) blends them,
CutMix (Yun et al., 2019, arXiv:1905.04899) pastes a part of one into the other.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch.nn import functional

FEW_IMAGES, MANY_IMAGES = 200, 10_000
SMALLEST_CROP_OF_FEW, SMALLEST_CROP_OF_MANY = 0.7, 0.3
MIX_SHARE_OF_MANY = 0.5
COLOUR = 0.3
DEGREES, SHEAR, LOG_ASPECT = 10.0, 0.1, math.log(4 / 3)
LUMA = (0.299, 0.587, 0.114)


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

    def views(
        self, pixels: torch.Tensor, height: int, width: int, rng: np.random.Generator
    ) -> torch.Tensor:
        """float32 [N, 3, height, width], 0 to 255, of uint8 [N, H, W, 3] on the same device."""
        x = pixels.permute(0, 3, 1, 2).float()
        theta = torch.from_numpy(self._placements(len(x), rng)).to(x.device, non_blocking=True)
        grid = functional.affine_grid(theta, [len(x), 3, height, width], align_corners=False)
        x = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
        return self._coloured(x, rng) if self.colour else x

    def _placements(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """float32 [N, 2, 3]: affine maps from the output to the input, coordinates -1 to 1."""
        area = rng.uniform(self.smallest_crop, 1, count)
        aspect = np.exp(rng.uniform(-LOG_ASPECT, LOG_ASPECT, count))
        across, down = (np.minimum(np.sqrt(area * a), 1) for a in (aspect, 1 / aspect))
        angle = np.radians(rng.uniform(-DEGREES, DEGREES, count)) * self.transform
        shear = rng.uniform(-SHEAR, SHEAR, count) * self.transform
        mirrored = rng.choice([-1.0, 1.0], count)
        theta = np.empty((count, 2, 3), np.float32)
        theta[:, 0, 0] = mirrored * across * np.cos(angle)
        theta[:, 0, 1] = down * (shear - np.sin(angle))
        theta[:, 0, 2] = rng.uniform(-1, 1, count) * (1 - across)
        theta[:, 1, 0] = mirrored * across * np.sin(angle)
        theta[:, 1, 1] = down * np.cos(angle)
        theta[:, 1, 2] = rng.uniform(-1, 1, count) * (1 - down)
        return theta

    def _coloured(self, x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        drawn = rng.uniform(1 - self.colour, 1 + self.colour, (3, len(x), 1, 1, 1))
        factors = torch.from_numpy(drawn.astype(np.float32)).to(x.device, non_blocking=True)
        brightness, contrast, saturation = factors
        luma = torch.tensor(LUMA, device=x.device).view(1, 3, 1, 1)
        grey = (x * luma).sum(1, keepdim=True)
        x = grey + saturation * (x - grey)
        middle = grey.mean((2, 3), keepdim=True)
        return ((middle + contrast * (x - middle)) * brightness).clamp(0, 255)

    def mixed(
        self, x: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch [N, 3, H, W] and targets [N, classes], mixed with probability mix_share.

        Each image is mixed with the previous one of the batch, whose order is random already.
        """
        if rng.random() >= self.mix_share:
            return x, targets
        others, their_targets = x.roll(1, 0), targets.roll(1, 0)
        if rng.random() < 0.5:
            kept = rng.beta(0.2, 0.2)
            x = others.lerp(x, kept)
        else:
            height, width = x.shape[2:]
            pasted = math.sqrt(1 - rng.uniform())
            tall, wide = int(height * pasted), int(width * pasted)
            top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
            x = x.clone()
            region = np.s_[:, :, top : top + tall, left : left + wide]
            x[region] = others[region]
            kept = 1 - tall * wide / (height * width)
        return x, their_targets.lerp(targets, kept)
