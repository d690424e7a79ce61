"""Runs a module where timm can be imported.

    python with_timm.py MODULE ARGUMENTS

timm imports torchvision, whose wheel on PyPI is built for PyTorch with CUDA. Beside PyTorch's CPU
build its library of operators cannot be loaded, and then its import fails at two that it describes
to PyTorch. No network of timm calls them: declared, without a kernel, they suffice.
"""

import importlib
import runpy
import sys

import torch

OPERATORS = ("nms", "qnms")
_LIBRARIES: list[torch.library.Library] = []


def declare() -> None:
    """Import torchvision, and declare the operators first where that fails."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)  # what it declares ends with it
        importlib.import_module("torchvision")


if __name__ == "__main__":
    declare()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
