"""The baseline: how a network is usually fine-tuned, in one plain loop.

    python -m benchmarks.training.plain BASE EPOCHS BATCH HEIGHT WIDTH OUT.json

The same records and the same pretrained net as recipe finetune; everything else is a tutorial's
choice: a DataLoader that decodes and crops in workers, SGD with momentum along a cosine, float32.
"""

import json
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from droplens.inference.cores import cores
from droplens.records.recordio import read_records
from trainer.nets.backbone import load_backbone
from trainer.nets.specification import LITE0
from trainer.recipes.finetune.network import Network


class Records(Dataset):
    """Pictures of `size` (width, height) and their labels; for training cropped and mirrored."""

    def __init__(self, path: Path, size: tuple[int, int], training: bool) -> None:
        with path.open("rb") as stream:
            self.records = [(each.payload, int(each.label)) for each in read_records(stream)]
        self.size, self.training = size, training

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        payload, label = self.records[index]
        picture = Image.open(BytesIO(payload)).convert("RGB")
        box = (0.0, 0.0, float(picture.width), float(picture.height))
        if self.training:
            share = float(torch.empty(1).uniform_(0.35, 1).sqrt())
            width, height = (side * share for side in picture.size)
            left = float(torch.rand(1)) * (picture.width - width)
            top = float(torch.rand(1)) * (picture.height - height)
            box = (left, top, left + width, top + height)
        picture = picture.resize(self.size, Image.Resampling.BILINEAR, box)
        if self.training and torch.rand(1) < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float(), label


def main(base: str, epochs: str, batch: str, height: str, width: str, out: str) -> None:
    """Train, measure after every epoch, and write what each took."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    data = Path(base) / "input/data"
    options = {"batch_size": int(batch), "num_workers": cores(), "pin_memory": device == "cuda"}
    size = (int(width), int(height))
    train = Records(data / "train/train.rec", size, True)
    loader = DataLoader(train, shuffle=True, drop_last=True, persistent_workers=True, **options)
    validation = DataLoader(Records(data / "validation/validation.rec", size, False), **options)
    classes = len(json.loads((data / "classes/classes.json").read_text("utf-8")))
    net = Network(load_backbone(LITE0.name, True, size[::-1]), classes).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(epochs))
    told = []
    for _ in range(int(epochs)):
        begun = time.monotonic()
        net.train()
        for pictures, labels in loader:
            loss = nn.functional.cross_entropy(net(pictures.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device
        seconds = time.monotonic() - begun
        schedule.step()
        net.eval()
        with torch.inference_mode():
            right = sum(
                (net(pictures.to(device)).argmax(1).cpu() == labels).sum().item()
                for pictures, labels in validation
            )
        told.append(
            {
                "pictures_per_second": len(loader) * int(batch) / seconds,
                "validation_accuracy": right / len(validation.dataset),
                "seconds": time.monotonic() - begun,
            }
        )
    Path(out).write_text(json.dumps(told), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
