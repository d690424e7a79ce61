"""What networks of timm compute in PyTorch, as a graph, and as a graph in 8-bit integers.

    python -m tests.integration.torch_timm OUT.npz NAME [NAME ...]

OUT gets for each network, with random weights, NAME.torch, NAME.onnx and NAME.int8: float32
[N, features]; and NAME.depths, the number of its parts.

timm imports torchvision, whose wheel on PyPI is built for PyTorch with CUDA. Beside PyTorch's CPU
build its library of operators cannot be loaded, and then its import fails at two that it describes
to PyTorch. No network of timm calls them: declared, without a kernel, they suffice.
"""

import importlib
import sys

import numpy as np
import onnxruntime
import torch

from trainer.nets.backbone import export, load_backbone
from trainer.nets.int8 import quantize

SIDE = 64
CALIBRATION = 8
OPERATORS = ("nms", "qnms")
_LIBRARIES: list[torch.library.Library] = []


def declare_operators() -> None:
    """Import torchvision, and declare the operators first where that fails."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)  # what it declares ends with it
        importlib.import_module("torchvision")


def main(out: str, *names: str) -> None:
    """Build, export and quantise each network."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    images = np.kron(coarse, np.ones((1, SIDE // 8, SIDE // 8, 1), np.uint8))
    found = {}
    for name in names:
        torch.manual_seed(0)
        net = load_backbone(name, False, (SIDE, SIDE)).eval()
        mean, deviation = (
            torch.tensor(each).view(1, 3, 1, 1) for each in (net.mean, net.deviation)
        )
        with torch.inference_mode():
            x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
            found[f"{name}.torch"] = net((x - mean) / deviation).numpy()
        graph = export(net, SIDE, SIDE)
        int8 = quantize(graph, [image[None] for image in images[:CALIBRATION]])
        for kind, model in (("onnx", graph), ("int8", int8)):
            session = onnxruntime.InferenceSession(model.SerializeToString())
            found[f"{name}.{kind}"] = session.run(["features"], {"image": images})[0]
        assert found[f"{name}.torch"].shape[1] == net.features
        found[f"{name}.depths"] = np.array(len(net.depths()))
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
