"""What a GPU could do, and how much of it the training uses."""

import time
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from trainer.recipes.finetune import Fitting, Network, Pixels, with_margin
from trainer.settings import Folders
from trainer.train import open_job

SIDE, REPEATS = 8192, 20


def measured_peak() -> float:
    """bfloat16 operations a second of a large matrix product, the best of some."""
    left, right = (torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(REPEATS):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        left @ right
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return 2 * SIDE**3 / best


def operations_per_picture(network: Network, side: int) -> float:
    """Multiplications and additions of one training step, forward and back, for each picture."""
    pictures = torch.rand(8, 3, side, side, device="cuda")
    with FlopCounterMode(display=False) as counter:
        network(pictures).sum().backward()
    return counter.get_total_flops() / len(pictures)


def profiled(base: Path) -> dict[str, float]:
    """Of one warm epoch: the share of time in which no kernel and no copy ran, and the work done.

    The profiler itself costs time between the kernels, so that the real share is smaller.
    """
    device = torch.device("cuda")
    job = open_job(Folders(base))
    training = Pixels.of(job.training, with_margin(job.resize), device)
    validation = Pixels.of(job.validation, job.resize, device)
    fitting = Fitting(job, Network.start(job, training), training, validation)
    fitting.run_epoch()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        fitting.train_epoch(1)
        torch.cuda.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    )
    busy, reached = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return {
        "gpu_idle_share": 1 - busy / (reached - spans[0][0]),
        "operations_per_picture": operations_per_picture(fitting.network, job.resize.width),
        "measured_peak_operations": measured_peak(),
    }
