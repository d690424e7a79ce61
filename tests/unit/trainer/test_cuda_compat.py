"""The newer driver's libraries are put before an older one's, and before no other."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import needs
from trainer.cuda_compat import FOLDER, fetch, with_compatibility

PROPRIETARY = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Mar  5 22:23:56 UTC 2026\n"
    "GCC version:  gcc version 10.5.0 (GCC)\n"
)
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (a@b)\n"
    "GCC version:  gcc version 10.5.0 (GCC)\n"
)


def host(root: Path, module: str | None, bridge: str | None = "580.173.02") -> Path:
    if module is not None:
        path = root / "proc/driver/nvidia/version"
        path.parent.mkdir(parents=True)
        path.write_text(module)
    if bridge is not None:
        folder = root / FOLDER
        folder.mkdir(parents=True)
        (folder / f"libcuda.so.{bridge}").touch()
        (folder / "libcuda.so.1").symlink_to(f"libcuda.so.{bridge}")
    return root


@pytest.mark.parametrize("module", [PROPRIETARY, OPEN])
@pytest.mark.parametrize("driver", ["535.183.01", "550.163.01", "570.172.08", "580.95.05"])
def test_an_older_driver_is_bridged(tmp_path: Path, module: str, driver: str) -> None:
    root = host(tmp_path, module.format(driver))
    found = with_compatibility({"LD_LIBRARY_PATH": "/a:/b", "HOME": "/"}, root)
    assert found == {"LD_LIBRARY_PATH": f"{root / FOLDER}:/a:/b", "HOME": "/"}
    assert with_compatibility(found, root) is None  # or it would start itself for ever


@pytest.mark.parametrize("driver", ["580.173.02", "580.178.04", "590.44.01", "1000.1"])
def test_a_driver_as_new_is_left_alone(tmp_path: Path, driver: str) -> None:
    assert with_compatibility({}, host(tmp_path, OPEN.format(driver))) is None


def test_without_a_gpu_or_the_package_nothing_changes(tmp_path: Path) -> None:
    assert with_compatibility({}, host(tmp_path / "cpu", None)) is None
    assert with_compatibility({}, host(tmp_path / "bare", OPEN.format("535.1"), None)) is None


@needs.only_with("dpkg-deb", shutil.which("dpkg-deb") is not None, "it is not on the PATH")
def test_only_the_package_that_was_pinned_is_unpacked(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / FOLDER).mkdir(parents=True)
    (source / FOLDER / "libcuda.so.580.173.02").write_text("a library")
    (source / "DEBIAN").mkdir()
    (source / "DEBIAN/control").write_text(
        "Package: cuda-compat\nVersion: 1\nArchitecture: amd64\nMaintainer: us\nDescription: x\n"
    )
    package = tmp_path / "compat.deb"
    subprocess.run(["dpkg-deb", "--build", str(source), str(package)], check=True)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(ValueError, match="expected 0000"):
        fetch(package.as_uri(), "0" * 64, root)
    assert not list(root.iterdir())
    fetch(package.as_uri(), digest, root)
    assert (root / FOLDER / "libcuda.so.580.173.02").read_text() == "a library"
