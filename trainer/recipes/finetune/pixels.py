"""The decoded images of a channel, on the GPU where they fit, and batches of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.preprocess import Resize

# Training images are larger than the net's input by this factor, so that crops keep their details.
MARGIN = 1.15
# The sides of training's views as a share of the served image's: a crop that is enlarged to its
# view shows objects larger than the whole image does, and in smaller views they have the same size
# in both (Touvron et al., 2019, arXiv:1906.06423). They also cost less time.
VIEW_SHARE = 6 / 7
VIEW_MULTIPLE = 8
# Pixels are kept on the GPU where they take at most this share of its free memory.
RESIDENT_SHARE = 0.5
UPLOADED_AT_ONCE = 1024


def with_margin(resize: Resize) -> Resize:
    """The resize to the larger images that crops are taken from."""
    return Resize(width=round(resize.width * MARGIN), height=round(resize.height * MARGIN))


def view_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width of training's views, for the height and width of the served image."""
    height, width = (round(side * VIEW_SHARE / VIEW_MULTIPLE) * VIEW_MULTIPLE for side in shape)
    return height, width


@dataclass(frozen=True, slots=True)
class Pixels:
    """The images of a channel.

    pixels: uint8 [N, height, width, 3], on the device where they fit; labels: int64 [N].
    """

    pixels: NDArray[np.uint8] | torch.Tensor
    labels: NDArray[np.int64]
    device: torch.device

    @classmethod
    def of(
        cls, decoded: NDArray[np.uint8], labels: NDArray[np.int64], device: torch.device
    ) -> "Pixels":
        """Decoded images, copied to a GPU with enough memory."""
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if decoded.nbytes <= RESIDENT_SHARE * free:
                return cls(_uploaded(decoded, device), labels, device)
        return cls(decoded, labels, device)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def on_device(self) -> bool:
        """Whether a GPU holds all of them."""
        return isinstance(self.pixels, torch.Tensor)

    def batches(self, order: NDArray[np.int64]) -> Iterator[torch.Tensor]:
        """uint8 [size, height, width, 3] on the device for each row of `order` [batches, size].

        From the host's memory, each batch is gathered while the previous one is trained on.
        """
        if isinstance(self.pixels, torch.Tensor):
            for chosen in torch.from_numpy(order).to(self.device):
                yield self.pixels[chosen]
            return
        with ThreadPoolExecutor(1, "batches") as executor:
            following = executor.submit(self._gather, order[0]) if len(order) else None
            for number in range(len(order)):
                assert following is not None
                gathered = following.result()
                if number + 1 < len(order):
                    following = executor.submit(self._gather, order[number + 1])
                yield gathered.to(self.device, non_blocking=True)

    def _gather(self, chosen: NDArray[np.int64]) -> torch.Tensor:
        gathered = torch.from_numpy(self.pixels[chosen])
        return gathered.pin_memory() if self.device.type == "cuda" else gathered


def _uploaded(decoded: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    pixels = torch.empty(decoded.shape, dtype=torch.uint8, device=device)
    for first in range(0, len(decoded), UPLOADED_AT_ONCE):
        part = slice(first, first + UPLOADED_AT_ONCE)
        pixels[part] = torch.from_numpy(np.array(decoded[part]))
    return pixels
