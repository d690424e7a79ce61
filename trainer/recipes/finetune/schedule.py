"""What each step of an epoch is given: images, augmentation, learning rate, averaging.

All of it follows from (seed, epoch), so that an epoch that is repeated is the same.
"""

from dataclasses import dataclass
from math import ceil, cos, pi
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.recipes.finetune.augment import Augmentation
from trainer.recipes.finetune.peers import Peers

WARM_UP = 0.1
AVERAGED_SHARE = 0.05
# Epochs between evaluations, as a share of all.
EVALUATION_SHARE = 0.1


class Inputs(NamedTuple):
    """The inputs of all steps of an epoch, but for the pixels; of one step without the first axis.

    labels: int64 [steps, batch]; the next six: see augment.Draws, float32;
    rate: float32 [steps], the factor of the learning rate; followed: float32 [steps], the share of
    the distance that the average moves towards the weights.
    """

    labels: torch.Tensor
    placement: torch.Tensor
    colour: torch.Tensor
    contrast: torch.Tensor
    box: torch.Tensor
    blend: torch.Tensor
    kept: torch.Tensor
    rate: torch.Tensor
    followed: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The plan of a training.

    labels: int64 [records]; batch: images of a step, of all processes; shape: height and width of
    views.
    """

    labels: NDArray[np.int64]
    batch: int
    epochs: int
    seed: int
    shape: tuple[int, int]
    augmentation: Augmentation

    @property
    def steps(self) -> int:
        """Of an epoch; records that do not fill a batch are left for other epochs."""
        return len(self.labels) // self.batch

    @property
    def images(self) -> int:
        """Of an epoch."""
        return self.steps * self.batch

    def epoch(self, number: int, peers: Peers) -> tuple[NDArray[np.int64], Inputs]:
        """This process's share of an epoch: records [steps, batch], and inputs on the host."""
        rng = np.random.default_rng((self.seed, number))
        permuted = rng.permutation(len(self.labels))[: self.images]
        drawn = self.augmentation.draw(self.steps, self.batch, self.shape, rng)
        ours = np.s_[:, peers.share(self.batch)]
        order: NDArray[np.int64] = permuted.reshape(self.steps, self.batch)[ours]
        arrays = (
            self.labels[order],
            *(each[ours] for each in (drawn.placement, drawn.colour, drawn.contrast)),
            *(drawn.box, drawn.blend, drawn.kept),
            *self._paces(number),
        )
        return order, Inputs(*(torch.from_numpy(np.ascontiguousarray(each)) for each in arrays))

    def _paces(self, epoch: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The rate and the averaging of each step."""
        total = self.steps * self.epochs
        numbers = range(epoch * self.steps, (epoch + 1) * self.steps)
        span = max(AVERAGED_SHARE * total, 1)
        followed = [1 - min(1 - 1 / span, (1 + step) / (10 + step)) for step in numbers]
        rates = [_rate(step, total) for step in numbers]
        return np.array(rates, np.float32), np.array(followed, np.float32)


def evaluates(epoch: int, epochs: int) -> bool:
    """Whether an evaluation follows this epoch of so many: every few, and the last."""
    return (epoch + 1) % ceil(EVALUATION_SHARE * epochs) == 0 or epoch + 1 == epochs


def _rate(step: int, total: int) -> float:
    """The schedule's factor of the learning rate: linear warm-up, then a cosine to 0."""
    warm_up = max(WARM_UP * total, 1)
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return 0.5 * (1 + cos(pi * (step - warm_up) / max(total - warm_up, 1)))
