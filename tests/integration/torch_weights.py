"""A state dict of random weights of a network of timm, with its classifier.

python -m tests.integration.torch_weights NAME OUT.safetensors
"""

import sys

import timm
import torch
from safetensors.torch import save_file


def main(name: str, out: str) -> None:
    """Write it."""
    torch.manual_seed(0)
    save_file(timm.create_model(name).state_dict(), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
