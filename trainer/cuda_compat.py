"""CUDA 13 on a host with an older NVIDIA driver.

PyTorch's CUDA 13 wants a driver of R580 or later (NVIDIA, CUDA Toolkit Release Notes, table "CUDA
Toolkit and Minimum Required NVIDIA Driver Version"); the version on SageMaker's training hosts is
not documented. On data-centre GPUs, NVIDIA's package cuda-compat provides the user-mode part of the
newer driver (NVIDIA, CUDA Compatibility, "Forward Compatibility"). It must not be used with a
driver as new or newer, so it precedes the driver's own libraries only where that is older, as in
AWS's training images (aws/deep-learning-containers, start_cuda_compat.sh).

    python -m trainer.cuda_compat    fetches the package into an image

A failed fetch does not fail the image's build: on a host with the newer driver the package is not
needed, and on another a job with device=gpu ends at its start with an error that names the driver.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path

# In NVIDIA's repository for Debian. The digest comes from one public repository; it has not been
# compared with the file.
PACKAGE = (
    "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/"
    "cuda-compat-13-0_580.173.02-1_amd64.deb"
)
SHA256 = "2fb9026a83487f19d98c21671af4d93cc78ec35285f6e034c7f4b6baaaadefd9"
FOLDER = "usr/local/cuda-13.0/compat"
_DRIVER = "proc/driver/nvidia/version"
_FETCH_SECONDS = 120


def with_compatibility(
    environment: Mapping[str, str], root: Path = Path("/")
) -> dict[str, str] | None:
    """The environment in which PyTorch finds the newer driver; None where it is not needed."""
    folder = root / FOLDER
    provided = [_numbers(path.name) for path in folder.glob("libcuda.so.*.*")]
    driver = _driver(root)
    first, *further = environment.get("LD_LIBRARY_PATH", "").split(":")
    if not provided or driver is None or driver >= max(provided) or first == str(folder):
        return None
    paths = [str(folder), *(path for path in (first, *further) if path)]
    return {**environment, "LD_LIBRARY_PATH": ":".join(paths)}


def _driver(root: Path) -> tuple[int, ...] | None:
    """The version of the host's driver, as its kernel module reports it; None without one."""
    try:
        text = (root / _DRIVER).read_text("utf-8")
    except OSError:
        return None
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text)
    return _numbers(found[1]) if found else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def fetch(url: str, sha256: str, root: Path) -> None:
    """Unpack the package below `root`. Raises OSError, ValueError or CalledProcessError."""
    with urllib.request.urlopen(url, timeout=_FETCH_SECONDS) as response:  # noqa: S310  a constant
        body = response.read()
    found = hashlib.sha256(body).hexdigest()
    if found != sha256:
        raise ValueError(f"SHA-256 is {found}, expected {sha256}")
    with tempfile.NamedTemporaryFile(suffix=".deb") as package:
        package.write(body)
        package.flush()
        subprocess.run(["dpkg-deb", "--extract", package.name, str(root)], check=True)


if __name__ == "__main__":
    try:
        fetch(PACKAGE, SHA256, Path("/"))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.stdout.write(
            f"WARNING: no cuda-compat from {PACKAGE}: {error}. "
            "This image trains on hosts with an NVIDIA driver of R580 or later only.\n"
        )
