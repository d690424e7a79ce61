"""The trained network: a backbone and a linear classifier, and what it starts from."""

from math import log1p
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from trainer.nets.backbone import Backbone, load_backbone
from trainer.nets.fold import folded
from trainer.recipes.finetune.device import precision
from trainer.recipes.finetune.evaluate import by_chunks
from trainer.recipes.finetune.peers import ALONE, Peers
from trainer.recipes.finetune.pixels import Pixels
from trainer.recipes.ridge_head import fit_head

LABEL_SMOOTHING = 0.1
DROPOUT = 0.2
# The first layer's learning rate as a share of the last one's, with a constant ratio from layer to
# layer: early layers, which detect edges, need the least change.
LOWEST_RATE = 0.15
# Neighbouring layers share a group of the optimiser: each group costs launches of its own.
LAYERS_PER_GROUP = 3

State = dict[str, Any]


class Network(nn.Module):
    """Backbone, dropout and linear classifier: images [N, 3, H, W] of 0 to 255 to logits.

    folded: whether the backbone's batch norms are folded into its convolutions. Those that cannot
    be keep their statistics in training; without folding, norms are trained as usual.
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.features, classes)
        self.folded = False
        for name, value in (("mean", backbone.mean), ("deviation", backbone.deviation)):
            tensor = torch.tensor(value).view(1, 3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def restored(cls, saved: State, shape: tuple[int, int]) -> "Network":
        """The network of a weights.pt, which also earlier versions may have written.

        shape: height and width of images.
        """
        backbone = load_backbone(saved["backbone"], False, shape)
        network = cls(backbone, len(saved["classes"]))
        if saved.get("folded"):
            network.fold(shape)
        network.load_state_dict(saved["state"])
        return network

    def fold(self, shape: tuple[int, int]) -> None:
        """Fold the backbone's batch norms. shape: height and width of images."""
        self.backbone, self.folded = folded(self.backbone, shape), True

    def train(self, mode: bool = True) -> "Network":
        """As any module's; the norms of a folded network keep their statistics."""
        super().train(mode)
        if self.folded:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @torch.inference_mode()
    def fit_classifier(self, training: Pixels, shape: tuple[int, int], seed: int) -> float | None:
        """Initialise the classifier by a ridge head on the features of images of `shape`.

        Gradients of a randomly initialised classifier distort the pretrained features (Kumar et
        al., 2022, arXiv:2202.10054). Returns the head's leave-one-out accuracy, if there is one.
        """
        classes = self.classifier.out_features
        fit = fit_head(self.features_of(training, shape), training.labels, classes, seed)
        # The head's scores are 1 for the true class and 0 for others; the smoothed labels are most
        # likely at this difference of logits.
        margin = log1p(classes * (1 - LABEL_SMOOTHING) / LABEL_SMOOTHING)
        self.classifier.weight.copy_(torch.from_numpy(fit.head.weight.T * margin))
        self.classifier.bias.copy_(torch.from_numpy(fit.head.bias * margin))
        return fit.leave_one_out_accuracy

    @torch.inference_mode()
    def features_of(
        self, images: Pixels, shape: tuple[int, int], peers: Peers = ALONE
    ) -> NDArray[np.float32]:
        """float32 [N, features] of training images, resized to `shape`."""
        self.eval()

        def run(x: torch.Tensor) -> torch.Tensor:
            x = functional.interpolate(x, shape, mode="bilinear", antialias=True)
            with precision(x.device):
                return self.features(x)

        return by_chunks(run, images, self.classifier.in_features, peers=peers).cpu().numpy()

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[N, features] of images [N, 3, H, W] of 0 to 255."""
        x = (x - self.mean) / self.deviation
        return self.backbone(x.contiguous(memory_format=torch.channels_last))

    def forward(self, x: torch.Tensor, dropout: torch.Tensor | None = None) -> torch.Tensor:
        """float32 [N, classes], also under autocast. dropout: factors [N, features]."""
        features = self.features(x)
        with torch.autocast(x.device.type, enabled=False):
            features = features.float()
            return self.classifier(features if dropout is None else features * dropout)

    def take_classes(self, earlier: "Network", rows: list[int | None]) -> None:
        """Load an earlier network's weights, with a row of its classifier for each class.

        rows: the row of each class, None for a class that it does not know.
        """
        self.backbone, self.folded = earlier.backbone, earlier.folded
        ours = [row for row, theirs in enumerate(rows) if theirs is not None]
        theirs = [row for row in rows if row is not None]
        with torch.no_grad():
            self.classifier.weight[ours] = earlier.classifier.weight[theirs]
            self.classifier.bias[ours] = earlier.classifier.bias[theirs]

    def parameter_groups(self, rate: float, decay: float) -> list[State]:
        """Parameters by depth, each with its learning rate; no weight decay of biases and norms."""
        depths = [*self.backbone.depths(), [self.classifier]]
        last = len(depths) - 1
        placed = {
            id(parameter): depth
            for depth, parts in enumerate(depths)
            for part in parts
            for parameter in part.parameters()
        }
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for parameter in self.parameters():
            # Parameters outside of all parts, such as a class token, count as the first layer.
            depth: float = placed.get(id(parameter), 0)
            if depth < last:
                depth = _middle_of_group(depth, last)
            groups.setdefault((depth, parameter.ndim > 1), []).append(parameter)
        return [
            {
                "params": parameters,
                "rate": rate * LOWEST_RATE ** (1 - depth / last),
                "weight_decay": decay if decays else 0.0,
            }
            for (depth, decays), parameters in groups.items()
        ]


def _middle_of_group(depth: float, last: int) -> float:
    """The mean depth of the group of neighbouring layers, all before the `last`."""
    first = depth // LAYERS_PER_GROUP * LAYERS_PER_GROUP
    return float(np.mean([first, min(first + LAYERS_PER_GROUP, last) - 1]))
