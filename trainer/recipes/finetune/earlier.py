"""weights.pt: a trained network's weights, written with the model and read from channel `model`."""

import pickle
import shutil
import tarfile
from pathlib import Path
from typing import Any

import torch

from trainer.artefact import WEIGHTS_FILE
from trainer.data.features import DatasetError
from trainer.job import Job
from trainer.recipes.finetune.network import Network
from trainer.settings import SettingsError

MAX_MODEL_BYTES = 2**31
MODEL_CHANNEL, MODEL_ARCHIVE = "model", "model.tar.gz"

State = dict[str, Any]


def write_weights(job: Job, network: Network) -> None:
    """Write weights.pt next to the model."""
    job.folders.model.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    saved = {
        "backbone": job.settings.backbone,
        "classes": job.classes,
        "folded": network.folded,
        "state": state,
    }
    torch.save(saved, job.folders.model / WEIGHTS_FILE)


def earlier_size(job: Job) -> int | None:
    """Bytes of the archive in channel `model`; None without one."""
    archive = job.folders.channel(MODEL_CHANNEL) / MODEL_ARCHIVE
    return archive.stat().st_size if archive.is_file() else None


def read_earlier(job: Job) -> State | None:
    """The weights.pt of channel `model`, in the archive that training wrote or as a file."""
    folder = job.folders.channel(MODEL_CHANNEL)
    if not folder.is_dir():
        return None
    path, archive = folder / WEIGHTS_FILE, folder / MODEL_ARCHIVE
    try:
        if archive.is_file():
            path = job.folders.base / "earlier.pt"
            _extract(archive, path)
        earlier: State = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, KeyError):
        raise DatasetError(
            f"Channel {MODEL_CHANNEL} holds no {WEIGHTS_FILE}: only a model of recipe finetune can "
            "be trained further."
        ) from None
    except (tarfile.TarError, EOFError, RuntimeError, pickle.UnpicklingError, OSError) as error:
        raise DatasetError(f"Channel {MODEL_CHANNEL} cannot be read: {error}.") from None
    if earlier["backbone"] != job.settings.backbone:
        raise SettingsError(
            f"Hyperparameter backbone={job.settings.backbone!r}, but the model of channel "
            f"{MODEL_CHANNEL} has {earlier['backbone']!r}."
        )
    return earlier


def _extract(archive: Path, path: Path) -> None:
    with tarfile.open(archive) as tar:
        names = {member.name.removeprefix("./"): member for member in tar if member.isfile()}
        member = names[WEIGHTS_FILE]
        if member.size > MAX_MODEL_BYTES:
            raise DatasetError(
                f"Channel {MODEL_CHANNEL}: {WEIGHTS_FILE} is larger than {MAX_MODEL_BYTES} bytes."
            )
        content = tar.extractfile(member)
        assert content is not None
        with content, path.open("wb") as out:
            shutil.copyfileobj(content, out)
