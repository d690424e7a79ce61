"""EfficientNet-Lite0 and Lite2 as a trainable PyTorch module.

Its parameters are named as in the weights file, so that it loads what `convert.read_weights`
returns, and `convert.build_features` converts what it exports.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainer.nets.convert import Weights
from trainer.nets.specification import (
    BATCH_NORM_EPSILON,
    HEAD_CHANNELS,
    PIXEL_MEAN,
    PIXEL_SCALE,
    STEM_CHANNELS,
    STEM_STRIDE,
    Block,
    Specification,
)


class Lite(nn.Module):
    """Normalised images [N, 3, H, W] to channel means [N, 1280].

    mean, deviation: of pixels from 0 to 255, per channel, by which images are normalised.
    """

    features = HEAD_CHANNELS
    mean = (PIXEL_MEAN,) * 3
    deviation = (1 / PIXEL_SCALE,) * 3

    def __init__(self, specification: Specification) -> None:
        super().__init__()
        self.specification = specification
        self._conv_stem = _Convolution(3, STEM_CHANNELS, 3, stride=STEM_STRIDE)
        self._bn0 = _batch_norm(STEM_CHANNELS)
        self._blocks = nn.ModuleList(map(_Block, specification.blocks))
        self._conv_head = _Convolution(specification.blocks[-1].outputs, HEAD_CHANNELS, 1)
        self._bn1 = _batch_norm(HEAD_CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3), dtype=torch.float32)

    def depths(self) -> list[list[nn.Module]]:
        """The net's parts in order from input to features, for a learning rate by depth."""
        return [
            [self._conv_stem, self._bn0],
            *([block] for block in self._blocks),
            [self._conv_head, self._bn1],
        ]

    def load_packaged(self, weights: Weights) -> None:
        """Load the weights of `convert.read_weights`, without the ImageNet classifier."""
        own = self.state_dict()
        self.load_state_dict({name: torch.tensor(weights[name]) for name in own})

    def exported(self) -> Weights:
        """The weights as arrays, by the names of the weights file."""
        return {name: tensor.cpu().numpy() for name, tensor in self.state_dict().items()}


class _Convolution(nn.Conv2d):
    """TensorFlow's SAME padding: an odd row or column goes below and to the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, **options: Any) -> None:
        stride = options.get("stride", 1)
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, bias=False, padding=padding, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (stride, _), (kernel, _) = self.stride, self.kernel_size
        if stride > 1:
            down, across = (
                max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
                for side in x.shape[2:]
            )
            x = functional.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(x)


class _Block(nn.Module):
    def __init__(self, block: Block) -> None:
        super().__init__()
        self.expands, self.adds, inner = block.expands, block.adds, block.inner
        if self.expands:
            self._expand_conv = _Convolution(block.inputs, inner, 1)
            self._bn0 = _batch_norm(inner)
        self._depthwise_conv = _Convolution(
            inner, inner, block.kernel, stride=block.stride, groups=inner
        )
        self._bn1 = _batch_norm(inner)
        self._project_conv = _Convolution(inner, block.outputs, 1)
        self._bn2 = _batch_norm(block.outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return y + x if self.adds else y


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON)
