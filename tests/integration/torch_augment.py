"""What augment.py makes of a batch, for tests that have no PyTorch themselves.

    python -m tests.integration.torch_augment OUT.npz

OUT gets pictures as float32 [N, 3, H, W]; those of `places` tell by red and green where in the
picture a pixel comes from, column and row from 0 to 1.
"""

import sys
from typing import Any

import numpy as np
import torch

from trainer.recipes.finetune.augment import Augmentation

COUNT, HEIGHT, WIDTH, CLASSES = 12, 20, 28, 4
SMALLEST_CROP = 0.5
VIEW = (16, 24)


def main(out: str) -> None:
    """Every kind of view, the same one twice, and mixed batches."""
    chance = np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), np.uint8)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    places = np.stack([columns * 9, rows * 9, 0 * rows], axis=2).astype(np.uint8)
    made: dict[str, Any] = {}

    def drawn(augmentation: Augmentation, seed: int, steps: int = 1) -> list[torch.Tensor]:
        rng = np.random.default_rng(seed)
        return [torch.from_numpy(each) for each in augmentation.draw(steps, COUNT, VIEW, rng)]

    def views(augmentation: Augmentation, pixels: np.ndarray, seed: int) -> np.ndarray:
        placement, colour, contrast = (each[0] for each in drawn(augmentation, seed)[:3])
        batch = torch.from_numpy(pixels)
        return augmentation.views(batch, placement, colour, contrast, VIEW).numpy()

    cut = Augmentation(smallest_crop=SMALLEST_CROP, mix_share=0, colour=0, transform=False)
    made["places"] = views(cut, np.stack([places] * COUNT), 0) / 9
    made["places"] /= np.array([WIDTH, HEIGHT, 1]).reshape(3, 1, 1)
    strong = Augmentation(smallest_crop=0.3, mix_share=1, colour=0.3, transform=True)
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        made[name] = views(strong, chance, seed)

    x = torch.from_numpy(made["first"])
    targets = torch.eye(CLASSES)[torch.arange(COUNT) % CLASSES]
    # An odd batch too: its last image has no neighbour.
    for name, count in (("mixed", COUNT), ("odd", COUNT - 1)):
        mixes = zip(*drawn(strong, 0, steps=20)[3:], strict=True)
        mixed = [strong.mixed(x[:count], targets[:count], *mix) for mix in mixes]
        made[name] = np.stack([pictures.numpy() for pictures, _ in mixed])
        made[f"{name}_targets"] = np.stack([each.numpy() for _, each in mixed])
    made["targets"] = targets.numpy()
    rarely = Augmentation(smallest_crop=1, mix_share=1e-9, colour=0, transform=False)
    same, same_targets = rarely.mixed(x, targets, *(each[0] for each in drawn(rarely, 0)[3:]))
    made["unmixed"], made["unmixed_targets"] = same.numpy(), same_targets.numpy()
    strengths = [Augmentation.suited("crop_color", 10**power) for power in range(6)]
    made["smallest_crops"] = np.array([each.smallest_crop for each in strengths])
    made["mix_shares"] = np.array([each.mix_share for each in strengths])
    np.savez(out, **made)


if __name__ == "__main__":
    main(*sys.argv[1:])
