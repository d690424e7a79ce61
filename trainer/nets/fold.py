"""Fold batch norms of a pretrained network into its convolutions, to train it without them.

The images of one subject have other statistics than those that a network was pretrained on. In
training, batch norm would normalise by the former, and a classifier fitted to the features of the
latter would no longer suit. Folded norms keep the network's function, and an activation is read and
written less often.
"""

import logging
from copy import deepcopy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

log = logging.getLogger(__name__)

# Of the outputs' largest magnitude: differences that come from rounding.
ROUNDING = 1e-3
EXAMPLES = 2


@torch.no_grad()
def folded(net: nn.Module, shape: tuple[int, int]) -> nn.Module:
    """A copy of the net with each batch norm after a convolution folded into the latter.

    shape: a height and a width of images that the net takes. The copy has the same function, up to
    rounding, and convolutions with biases. Where a folded net would have another function, as when
    a convolution's output is used twice, the net itself is returned.
    """
    chance = torch.Generator().manual_seed(0)
    example = torch.randn((EXAMPLES, 3, *shape), generator=chance)
    copy = deepcopy(net).eval()
    pairs = _pairs(copy, example)
    before = copy(example)
    for conv, name in pairs:
        norm = copy.get_submodule(name)
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        copy.set_submodule(name, nn.Identity())
    difference = float((copy(example) - before).abs().max() / before.abs().max())
    if not difference <= ROUNDING:
        log.warning("batch norms are not folded: the outputs would differ by %.1g", difference)
        return net
    return copy.train(net.training)


def _pairs(net: nn.Module, example: torch.Tensor) -> list[tuple[nn.Conv2d, str]]:
    """Convolutions, and the names of the norms whose input is their output."""
    outputs: list[tuple[torch.Tensor, nn.Conv2d]] = []
    pairs: list[tuple[nn.Conv2d, str]] = []

    def convolved(conv: nn.Conv2d, _: object, output: torch.Tensor) -> None:
        outputs.append((output, conv))

    hooks = []
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(convolved))
        # Subclasses, such as timm's, may do more than normalise.
        elif type(module) is nn.BatchNorm2d and module.track_running_stats:

            def normed(_: object, given: tuple[torch.Tensor], name: str = name) -> None:
                pairs.extend((conv, name) for output, conv in outputs if output is given[0])

            hooks.append(module.register_forward_pre_hook(normed))
    try:
        net(example)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs
