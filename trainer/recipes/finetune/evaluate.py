"""A network's outputs for all images of a channel, and the accuracies that follow from them."""

from collections.abc import Callable
from math import ceil
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from trainer.recipes.finetune.peers import ALONE, Peers
from trainer.recipes.finetune.pixels import Pixels

MOST_IMAGES = 256


def by_chunks(
    run: Callable[[torch.Tensor], torch.Tensor],
    pixels: Pixels,
    width: int,
    most: int = MOST_IMAGES,
    peers: Peers = ALONE,
) -> torch.Tensor:
    """float32 [N, width] on the device: `run` of all images, float32 [size, 3, H, W] of 0 to 255.

    All chunks have the same size, `most` at most, since libraries tune themselves anew for each
    size: the last is padded by repeated images. Every process runs its share of the chunks; all
    must call this, and all get the whole result.
    """
    chunks = ceil(len(pixels) / most)
    size = ceil(len(pixels) / chunks)
    order = np.resize(np.arange(len(pixels)), (chunks, size))
    result = torch.zeros((chunks, size, width), device=pixels.device)
    ours = slice(peers.rank, None, peers.count)
    for number, chunk in zip(range(chunks)[ours], pixels.batches(order[ours]), strict=True):
        result[number] = run(chunk.permute(0, 3, 1, 2).float()).float()
    peers.add(result)
    return result.flatten(0, 1)[: len(pixels)]


def accuracies(scores: torch.Tensor, labels: torch.Tensor, top_k: int) -> dict[str, Any]:
    """Loss, accuracy and top-k accuracy of the validation images; k is at most the classes."""
    k = min(top_k, scores.shape[1])
    ranked = scores.topk(k, 1).indices == labels[:, None]
    return {
        "validation_loss": float(functional.cross_entropy(scores, labels)),
        "validation_accuracy": float(ranked[:, 0].float().mean()),
        f"validation_top_{k}_accuracy": float(ranked.any(1).float().mean()),
    }
