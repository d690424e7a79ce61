"""What PyTorch itself answers with a fine-tuned model's weights.

    python -m tests.integration.torch_reference FOLDER PIXELS.npy OUT.npy

FOLDER is a model folder of recipe finetune, PIXELS uint8 [N, H, W, 3]; OUT gets the probabilities
float32 [N, classes].
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from trainer.recipes.finetune.network import Network


def main(folder: str, pixels: str, out: str) -> None:
    """Load weights.pt into the training's own net and run it."""
    saved = torch.load(Path(folder) / "weights.pt", weights_only=True)
    training = json.loads((Path(folder) / "training.json").read_text("utf-8"))
    temperature = training["calibration"]["parameters"]["temperature"]
    images = torch.from_numpy(np.load(pixels)).permute(0, 3, 1, 2).float()
    network = Network.restored(saved, tuple(images.shape[2:])).eval()
    with torch.inference_mode():
        np.save(out, (network(images) / temperature).softmax(1).numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
