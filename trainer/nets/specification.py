"""The specification of EfficientNet-Lite0, for the ONNX writer and the PyTorch module.

"Lite0" of EfficientNet (Tan and Le, 2019, arXiv:1905.11946; the Lite variant,
github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite): no squeeze-and-excitation,
ReLU6 in place of swish, TensorFlow's SAME padding, images normalised by (x - 127) / 128. Tensors
are named as in the pretrained weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass

PIXEL_MEAN = 127.0
PIXEL_SCALE = 1 / 128.0
BATCH_NORM_EPSILON = 1e-3
STEM_CHANNELS = 32
STEM_STRIDE = 2
# Of the convolution after the last block; their means over the image are the features.
HEAD_CHANNELS = 1280
# Of the paper's table 1: repeats, kernel, stride of the first repeat, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclass(frozen=True, slots=True)
class Block:
    """An inverted residual block: expand, depthwise, project, and add where shapes allow.

    inputs, outputs: channels; kernel, stride: of the depthwise convolution.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int

    @property
    def inner(self) -> int:
        """Channels of the depthwise convolution."""
        return self.inputs * self.expansion

    @property
    def expands(self) -> bool:
        """Whether a convolution of 1 x 1 comes before the depthwise one."""
        return self.expansion != 1

    @property
    def adds(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.inputs == self.outputs


def _blocks() -> Iterator[Block]:
    inputs, number = STEM_CHANNELS, 0
    for repeats, kernel, stride, expansion, outputs in _STAGES:
        for repeat in range(repeats):
            yield Block(
                f"_blocks.{number}", inputs, outputs, kernel, 1 if repeat else stride, expansion
            )
            inputs, number = outputs, number + 1


BLOCKS = tuple(_blocks())
