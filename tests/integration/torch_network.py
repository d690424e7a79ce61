"""What becomes of networks before and in training, for tests that have no PyTorch themselves.

    python -m tests.integration.torch_network OUT.json

OUT gets figures by name. With a GPU it also gets the losses of steps launched one by one, and of
the same ones as a CUDA graph.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer.nets.efficientnet_lite import Lite
from trainer.nets.fold import folded
from trainer.nets.specification import LITE0
from trainer.recipes.finetune.augment import Augmentation
from trainer.recipes.finetune.checkpoint import CHECKPOINT_SECONDS, Checkpoint
from trainer.recipes.finetune.device import precision
from trainer.recipes.finetune.evaluate import by_chunks
from trainer.recipes.finetune.fitting import _optimizer
from trainer.recipes.finetune.network import Network
from trainer.recipes.finetune.peers import ALONE, Peers
from trainer.recipes.finetune.pixels import Pixels, view_shape
from trainer.recipes.finetune.schedule import Schedule, evaluates
from trainer.recipes.finetune.step import Step
from trainer.settings import Folders, Hyperparameters

CPU = torch.device("cpu")
SHAPE = (48, 64)


class Shared(nn.Module):
    """A net whose convolution's output is used before and after the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


def with_statistics(net: nn.Module) -> nn.Module:
    """Batch norms with random statistics and weights, as pretrained ones have."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net


def folding() -> dict[str, Any]:
    """Largest differences of outputs, and what is left of the norms."""
    net = with_statistics(Lite(LITE0)).eval()
    x = torch.randn(2, 3, *SHAPE)
    with torch.inference_mode():
        before, after = net(x), folded(net, SHAPE)(x)
        relative = float((after - before).abs().max() / before.abs().max())
    shared = with_statistics(Shared())
    return {
        "fold_difference": relative,
        "fold_norms_left": sum(
            isinstance(each, nn.BatchNorm2d) for each in folded(net, SHAPE).modules()
        ),
        "fold_source_unchanged": any(isinstance(each, nn.BatchNorm2d) for each in net.modules()),
        "fold_refused": folded(shared, SHAPE) is shared,
    }


def chunks() -> dict[str, Any]:
    """Sizes of the chunks, and the outputs by one process and by each of two."""
    decoded = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), np.uint8)
    pixels = Pixels.of(decoded, np.zeros(11, np.int64), CPU)
    sizes = []

    def run(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return x.mean((2, 3))

    whole = by_chunks(run, pixels, 3, most=4)
    parts = [by_chunks(run, pixels, 3, 4, _Separate(rank, 2)) for rank in range(2)]
    return {
        "chunk_sizes": sizes,
        "chunks": whole.tolist(),
        "chunks_expected": decoded.mean((1, 2)).tolist(),
        "chunks_of_two": sum(parts).tolist(),
    }


class _Separate(Peers):
    """One of several processes, without the sum over all of them."""

    def add(self, tensor: torch.Tensor) -> None:
        """Leave the tensor as this process made it."""


def schedules() -> dict[str, Any]:
    """An epoch of one process, and its halves."""
    labels = np.arange(20) % 3
    plan = Schedule(
        labels=labels,
        batch=8,
        epochs=4,
        seed=1,
        shape=SHAPE,
        augmentation=Augmentation(smallest_crop=0.5, mix_share=0.5, colour=0.3, transform=True),
    )
    order, inputs = plan.epoch(2, ALONE)
    halves = [plan.epoch(2, Peers(rank, 2)) for rank in range(2)]
    joined = np.concatenate([half for half, _ in halves], axis=1)
    placements = torch.cat([half.placement for _, half in halves], 1)
    again, _ = plan.epoch(2, ALONE)
    other, _ = plan.epoch(3, ALONE)
    return {
        "schedule_steps": plan.steps,
        "schedule_halves": bool(
            (joined == order).all() and torch.equal(placements, inputs.placement)
        ),
        "schedule_repeats": bool((again == order).all()),
        "schedule_differs": bool((other != order).any()),
        "schedule_labels": bool((labels[order] == inputs.labels.numpy()).all()),
        "evaluated": [epoch for epoch in range(25) if evaluates(epoch, 25)],
        "schedule_rates": [float(r) for n in range(4) for r in plan.epoch(n, ALONE)[1].rate],
    }


def groups() -> dict[str, Any]:
    """The optimiser's groups of a folded network."""
    network = Network(Lite(LITE0), 5)
    network.fold(SHAPE)
    made = network.parameter_groups(1.0, 0.1)
    return {
        "groups": len(made),
        "group_parameters": sum(len(group["params"]) for group in made),
        "parameters": len(list(network.parameters())),
        "group_rates": sorted({group["rate"] for group in made}),
        "group_decays": sorted({group["weight_decay"] for group in made}),
        "view_shape": view_shape((224, 384)),
    }


def checkpoints(folder: Path) -> dict[str, Any]:
    """After which epochs a checkpoint is due: by time, and by their number."""

    def checkpoint(**given: str) -> Checkpoint:
        values = {"num_classes": "2", "num_training_samples": "1", "recipe": "finetune"} | given
        job: Any = SimpleNamespace(
            folders=Folders(folder),
            settings=Hyperparameters.from_strings(values),
            classes=["a", "b"],
            dataset={},
        )
        return Checkpoint(job)

    timed, counted = checkpoint(), checkpoint(checkpoint_frequency="2")
    found = [timed.due(1)]
    timed._written -= CHECKPOINT_SECONDS
    found.append(timed.due(2))
    timed.write({"epochs": [1]})
    found.append(timed.due(3))
    return {
        "due_by_time": found,
        "due_by_number": [counted.due(epoch) for epoch in (1, 2, 3, 4)],
        "checkpoint_of_another": checkpoint(seed="1").read(),
        "checkpoint_read": (timed.read() or {})["epochs"],
    }


def losses(device: torch.device, *, graph: bool) -> list[float]:
    """Losses of the epochs of a small training on noise."""
    torch.manual_seed(0)
    network = Network(Lite(LITE0), 3)
    network.fold(SHAPE)
    network.to(device, memory_format=torch.channels_last)
    average = Network(Lite(LITE0), 3)
    average.fold(SHAPE)
    average.to(device, memory_format=torch.channels_last)
    average.load_state_dict(network.state_dict())
    rng = np.random.default_rng(0)
    pixels = Pixels.of(
        rng.integers(0, 256, (64, 80, 96, 3), np.uint8), rng.integers(0, 3, 64), device
    )
    augmentation = Augmentation(smallest_crop=0.5, mix_share=0.5, colour=0.3, transform=True)
    plan = Schedule(
        labels=pixels.labels, batch=8, epochs=3, seed=1, shape=SHAPE, augmentation=augmentation
    )
    settings: Any = SimpleNamespace(
        learning_rate=5e-4, weight_decay=0.02, beta_1=0.9, beta_2=0.999, eps=1e-8
    )
    optimizer = _optimizer(network, settings, 8)
    step = Step(network, average, optimizer, augmentation, SHAPE, ALONE, None)
    if not graph:
        step._until_captured = -1
    found = []
    for epoch in range(plan.epochs):
        order, inputs = plan.epoch(epoch, ALONE)
        torch.manual_seed(epoch)
        step.begin(inputs)
        for batch in pixels.batches(order):
            step.run(batch)
        found.append(float(step.loss) / plan.images)
    assert step.graph == (graph and device.type == "cuda")
    with torch.inference_mode(), precision(device):
        average(torch.rand(2, 3, *SHAPE, device=device))
    return found


def main(out: str) -> None:
    """Write all figures."""
    torch.manual_seed(0)
    found = folding() | chunks() | schedules() | groups() | checkpoints(Path(out).parent)
    if torch.cuda.is_available():
        gpu = torch.device("cuda")
        found |= {"eager": losses(gpu, graph=False), "graph": losses(gpu, graph=True)}
    Path(out).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
