"""Pretrained weights: where a network's come from, and their SHA-256.

    python -m trainer.nets.pretrained NAME --given FOLDER --out FOLDER

Those of timm's networks are no package of PyPI, and a training has no network: the image's build
provides them (trainer/timm.Dockerfile), from the user's file, or from the hub that timm names. It
records their SHA-256 beside them, which every training checks.

Only safetensors is read: it holds numbers, and no code as a pickle may.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.nets.specification import PACKAGED

RECORD_FILE = "backbone.json"
WEIGHTS_FILE = "backbone.safetensors"
# The name of the file in a repository of the hub.
_HUB_FILE = "model.safetensors"


class WeightsError(ValueError):
    """Pretrained weights are missing, damaged or not those that were expected."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose weights these are, where they come from, and the SHA-256 of their file."""

    name: str
    source: str
    sha256: str


def origin(name: str, folder: Path) -> Origin | None:
    """Of a network's pretrained weights in this image; None where it has none.

    folder: of the image's weights.
    """
    if (packaged := PACKAGED.get(name)) is not None:
        source = f"package {packaged.package.replace('_', '-')}"
        return Origin(name, source, packaged.sha256)
    found = _read_record(folder)
    return found if found is not None and found.name == name else None


def timm_weights(name: str, folder: Path) -> Path:
    """The file with the weights of a network of timm. Raises WeightsError."""
    expected = origin(name, folder)
    path = folder / WEIGHTS_FILE
    if expected is None or not path.is_file():
        raise WeightsError(
            f"this image was built without the pretrained weights of {name}: build it with the "
            f"stack's parameter Backbone={name}"
        )
    found = _digest(path)
    if found != expected.sha256:
        raise WeightsError(
            f"{path} has the SHA-256 {found}, and {RECORD_FILE} beside it has {expected.sha256}"
        )
    return path


def provide(name: str, given: Path, out: Path) -> Origin:
    """Write the weights and their record into `out`. Raises WeightsError.

    given: a folder with the user's own weights; without them they are fetched.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / WEIGHTS_FILE
    if (given / WEIGHTS_FILE).is_file():
        shutil.copyfile(given / WEIGHTS_FILE, path)
        source = "the user's file"
    else:
        source = _fetch(name, path)
    _check_fits(name, path)
    found = Origin(name, source, _digest(path))
    (out / RECORD_FILE).write_text(json.dumps(asdict(found), indent=1) + "\n", "utf-8")
    return found


def _read_record(folder: Path) -> Origin | None:
    try:
        return Origin(**json.loads((folder / RECORD_FILE).read_text("utf-8")))
    except FileNotFoundError:
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(name: str, path: Path) -> str:
    """Download from the hub, into `path`. Returns the address, with the revision."""
    import timm
    from huggingface_hub import constants, hf_hub_download

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # of a tag that the network does not have
        raise WeightsError(str(error).rstrip(".")) from error
    if config is None:
        raise WeightsError(f"timm {timm.__version__} has no network {name}")
    repository = config.hf_hub_id
    if not repository:
        raise WeightsError(
            f"timm {timm.__version__} names no weights of {name} on the hub: provide them by the "
            "stack's parameter BackboneWeights"
        )
    try:
        fetched = Path(hf_hub_download(repository, _HUB_FILE, cache_dir=path.parent / "hub"))
    except Exception as error:
        raise WeightsError(
            f"{_HUB_FILE} of {repository} cannot be fetched from {constants.ENDPOINT}, "
            f"{type(error).__name__}: {' '.join(str(error).split())}. Where the hub cannot be "
            "reached, provide the weights by the stack's parameter BackboneWeights"
        ) from error
    revision = fetched.parent.name  # hub/models--<repository>/snapshots/<revision>/<file>
    shutil.copyfile(fetched, path)
    shutil.rmtree(path.parent / "hub")
    return f"{constants.ENDPOINT}/{repository}@{revision}"


def _check_fits(name: str, path: Path) -> None:
    """Load the file with its classifier: timm tolerates missing tensors only without it."""
    import timm

    try:
        timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay(path))
    except Exception as error:
        raise WeightsError(
            f"the weights do not fit {name}: {' '.join(str(error).split())[:500]}"
        ) from error


def overlay(path: Path) -> dict[str, object]:
    """What makes timm load this file, and as a state dict."""
    return {"file": os.fspath(path), "custom_load": False}


def main(argv: Sequence[str] | None = None) -> int:
    """Provide the weights, and print where they come from."""
    parser = argparse.ArgumentParser(prog="python -m trainer.nets.pretrained", description=__doc__)
    parser.add_argument("name", help="of a network of timm")
    parser.add_argument("--given", type=Path, required=True, help="folder of the user's weights")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and record")
    options = parser.parse_args(argv)
    try:
        found = provide(options.name, options.given, options.out)
    except WeightsError as error:
        sys.stdout.write(f"ERROR: {error}.\n")
        return 1
    sys.stdout.write(f"weights of {found.name} from {found.source}, SHA-256 {found.sha256}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
