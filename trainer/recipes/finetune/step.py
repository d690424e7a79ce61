"""One step of training that never waits for the device, so that it can be one CUDA graph.

A step is some thousand short kernels. Launched one by one, they take longer to launch than to run;
a CUDA graph launches all of them at once (NVIDIA, CUDA C++ Programming Guide, "CUDA Graphs"). Its
tensors must stay where they are, and nothing in it may depend on a value that the host has read.
"""

import logging
from collections.abc import Callable

import torch
from torch.nn import functional

from trainer.recipes.finetune.augment import Augmentation
from trainer.recipes.finetune.device import precision
from trainer.recipes.finetune.network import DROPOUT, LABEL_SMOOTHING, Network
from trainer.recipes.finetune.peers import Peers
from trainer.recipes.finetune.schedule import Inputs

log = logging.getLogger(__name__)

# Steps before the graph is captured, in which libraries choose their kernels.
EAGER_STEPS = 3


class Step:
    """Trains `network` and its `average` on one batch after the other.

    loss: sum over this process's images of the epoch, and correct: of its correct predictions;
    float32 scalars on the device. graph: whether steps are replayed as a CUDA graph.
    """

    def __init__(
        self,
        network: Network,
        average: Network,
        optimizer: torch.optim.Optimizer,
        augmentation: Augmentation,
        shape: tuple[int, int],
        peers: Peers,
        class_weights: torch.Tensor | None,
    ) -> None:
        self._network, self._optimizer = network, optimizer
        self._augmentation, self._shape, self._peers = augmentation, shape, peers
        self._class_weights = class_weights
        device = network.classifier.weight.device
        self._averages, self._current = _followed(average, network)
        self._gradients = _gradients(network)
        self._at = torch.zeros(1, dtype=torch.int64, device=device)
        self.loss = torch.zeros((), device=device)
        self.correct = torch.zeros((), device=device)
        self._inputs: Inputs | None = None
        self._pixels: torch.Tensor | None = None
        self._graphs: list[torch.cuda.CUDAGraph] = []
        self._until_captured = EAGER_STEPS if device.type == "cuda" else -1

    @property
    def graph(self) -> bool:
        """Whether steps are replayed as a CUDA graph."""
        return bool(self._graphs)

    def begin(self, inputs: Inputs) -> None:
        """Take the inputs of an epoch's steps; the next `run` is its first step."""
        device = self._at.device
        if self._inputs is None:
            self._inputs = Inputs(*(torch.empty_like(each, device=device) for each in inputs))
        for ours, given in zip(self._inputs, inputs, strict=True):
            ours.copy_(given)
        for counter in (self._at, self.loss, self.correct):
            counter.zero_()

    def run(self, pixels: torch.Tensor) -> None:
        """Train on uint8 [batch, H, W, 3] on the device."""
        if self._pixels is None:
            self._pixels = torch.empty_like(pixels)
        self._pixels.copy_(pixels, non_blocking=True)
        if self._until_captured > 0:
            self._until_captured -= 1
            _beside(self._whole)
            return
        if self._until_captured == 0:
            self._until_captured = -1
            self._capture()
        if not self._graphs:
            self._whole()
        elif self._peers.count == 1:
            self._graphs[0].replay()
        else:
            self._graphs[0].replay()
            self._peers.add(self._gradients)
            self._graphs[1].replay()

    def _whole(self) -> None:
        self._differentiate()
        self._peers.add(self._gradients)
        self._update()

    def _capture(self) -> None:
        """Record the step, without running it.

        Alone, in one graph. With peers in two: the sum of the gradients between them stays visible
        to NCCL's watchdog, which ends a process whose peer was lost.
        """
        alone = self._peers.count == 1
        parts = [self._whole] if alone else [self._differentiate, self._update]
        graphs = []
        try:
            for part in parts:
                graph = torch.cuda.CUDAGraph()
                # Other threads, such as the watchdog's, may call CUDA meanwhile.
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    part()
                graphs.append(graph)
        except RuntimeError as error:
            log.warning("no CUDA graph, steps are launched kernel by kernel: %s", error)
            torch.cuda.synchronize()
            return
        self._graphs = graphs

    def _differentiate(self) -> None:
        """Views, loss and gradients of this process's images."""
        assert self._inputs is not None
        assert self._pixels is not None
        inputs = Inputs(*(each.index_select(0, self._at)[0] for each in self._inputs))
        with torch.no_grad():
            augment = self._augmentation
            x = augment.views(
                self._pixels, inputs.placement, inputs.colour, inputs.contrast, self._shape
            )
            classes = self._network.classifier.out_features
            targets = functional.one_hot(inputs.labels, classes).float()
            x, targets = augment.mixed(x, targets, inputs.box, inputs.blend, inputs.kept)
            dropout = self._dropout(len(x))
            self._gradients.zero_()
        with precision(x.device):
            scores = self._network(x, dropout)
        loss = functional.cross_entropy(
            scores, targets, self._class_weights, label_smoothing=LABEL_SMOOTHING
        )
        (loss / self._peers.count).backward()
        with torch.no_grad():
            self.loss += loss * len(x)
            self.correct += (scores.argmax(1) == inputs.labels).sum()

    def _dropout(self, images: int) -> torch.Tensor:
        """This process's rows of what is drawn for the whole batch, alike in every process."""
        batch = images * self._peers.count
        drawn = torch.rand(batch, self._network.classifier.in_features, device=self._at.device)
        return (drawn[self._peers.share(batch)] >= DROPOUT) / (1 - DROPOUT)

    @torch.no_grad()
    def _update(self) -> None:
        """The optimiser's step by the gradients of all processes, and the average's."""
        assert self._inputs is not None
        rate, followed = (
            each.index_select(0, self._at)[0] for each in (self._inputs.rate, self._inputs.followed)
        )
        for group in self._optimizer.param_groups:
            torch.mul(rate, group["rate"], out=group["lr"])
        self._optimizer.step()
        moves = torch._foreach_sub(self._current, self._averages)
        torch._foreach_mul_(moves, followed)
        torch._foreach_add_(self._averages, moves)
        self._at += 1


def _followed(average: Network, network: Network) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The tensors of the average, and those of the network that they follow."""
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    floating = [(mean, now) for mean, now in pairs if mean.is_floating_point()]
    return [mean for mean, _ in floating], [now for _, now in floating]


def _gradients(network: Network) -> torch.Tensor:
    """One tensor that holds the gradients of all parameters, to be summed at once."""
    parameters = list(network.parameters())
    whole = torch.zeros(
        sum(each.numel() for each in parameters), device=network.classifier.weight.device
    )
    parts = whole.split([each.numel() for each in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.as_strided(parameter.shape, parameter.stride())
    return whole


def _beside(work: Callable[[], None]) -> None:
    """Run on a stream of its own, as before a capture (PyTorch, "CUDA semantics")."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)
