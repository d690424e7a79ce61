"""One process among those that train a network together, each on a share of every batch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed

Shared = TypeVar("Shared")


@dataclass(frozen=True, slots=True)
class Peers:
    """This process, and how many train together. Alone, its methods leave tensors as they are.

    rank: this process's number, from 0; count: of processes, all with the same device type.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes what all have in common: checkpoints, the model, the log."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """The images of a batch that this process trains on. `batch` is a multiple of `count`."""
        size = batch // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def add(self, tensor: torch.Tensor) -> None:
        """Replace the tensor by its sum over all processes."""
        if self.count > 1:
            distributed.all_reduce(tensor)

    def take_over(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace the tensors by those of the process with rank 0."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def object_of_leader(self, read: Callable[[], Shared]) -> Shared:
        """What `read` returns to the process with rank 0, in all processes."""
        if self.count == 1:
            return read()
        shared: list[Any] = [read() if self.leads else None]
        distributed.broadcast_object_list(shared, 0)
        return shared[0]


ALONE = Peers()
