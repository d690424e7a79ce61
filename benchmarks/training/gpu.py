"""What a GPU could do, and how much of it the training uses."""

import time
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from droplens.inference.cores import cores
from trainer.data.decode import decode
from trainer.recipes.finetune.device import find_device, prepare_device
from trainer.recipes.finetune.fitting import Fitting
from trainer.recipes.finetune.network import Network
from trainer.recipes.finetune.peers import ALONE
from trainer.recipes.finetune.pixels import Pixels, with_margin
from trainer.recipes.finetune.run import start
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


def operations_per_picture(network: Network, shape: tuple[int, int]) -> float:
    """Multiplications and additions of one training step, forward and back, for each picture."""
    pictures = torch.rand(8, 3, *shape, device="cuda")
    with FlopCounterMode(display=False) as counter:
        network(pictures).sum().backward()
    return counter.get_total_flops() / len(pictures)


def profiled(base: Path) -> dict[str, float]:
    """Of one warm epoch: the share of time in which no kernel and no copy ran, and the work done.

    Only the GPU is traced: to trace the CPU's operators too would make the CPU slower, and the GPU
    wait for it.
    """
    job = open_job(Folders(base))
    device = find_device("gpu")
    prepare_device(cores())
    decoded = decode(job.training, with_margin(job.resize))
    training = Pixels.of(decoded, job.training.labels, device)
    validation = Pixels.of(decode(job.validation, job.resize), job.validation.labels, device)
    fitting = Fitting(job, start(job, training, ALONE), training, validation)
    fitting.run_epoch()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        fitting.train_epoch(1)
        torch.cuda.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    )
    busy, reached = 0.0, spans[0][0]
    for began, end in spans:
        busy += max(0.0, end - max(began, reached))
        reached = max(reached, end)
    return {
        "gpu_idle_share": 1 - busy / (reached - spans[0][0]),
        "cuda_graph": fitting.step.graph,
        "operations_per_picture": operations_per_picture(fitting.network, fitting.schedule.shape),
        "measured_peak_operations": measured_peak(),
    }
