"""The device that trains, and the number format that it computes in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from trainer.settings import SettingsError


def find_device(wanted: str, number: int = 0) -> torch.device:
    """The GPU of this number if there is one, else the CPU.

    wanted: hyperparameter `device`. Raises SettingsError where it is gpu and there is none.
    """
    if torch.cuda.is_available():
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
        return device
    if wanted == "gpu":
        raise SettingsError(
            "Hyperparameter device=gpu, but PyTorch finds none here: either the machine has no GPU "
            f"or its driver is too old for CUDA {torch.version.cuda}."
        )
    return torch.device("cpu")


def prepare_device(threads: int) -> None:
    """PyTorch's settings of this process. threads: of the CPU."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")


def precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 on a GPU; float32 on a CPU, since most have no units for bfloat16.

    Weights are converted anew in every pass: a CUDA graph would go on using a cached copy.
    """
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)
    return nullcontext()
