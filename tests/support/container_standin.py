"""A stand-in for the images' base where its registry is out of reach: Debian's own Python 3.13.

Laid out like the official python:3.13-slim: Debian trixie, `python` and pip in /usr/local/bin. It
shows what modes, users, a read-only root, libraries, signals and memory do to our images; not the
official image's paths below /usr/local/lib, its patch level, nor that it can be pulled.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_SUITE, _PYTHON = "trixie", "python3.13"
_PACKAGES = ("ca-certificates", "netbase", "tzdata", _PYTHON, f"{_PYTHON}-venv")
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
SETTINGS = (f"ENV PATH={_PATH}", 'CMD ["python3"]')
"""What the image says of itself, beside its files."""

# What the official image leaves out too, or no container needs.
_LEFT_OUT = (
    "debootstrap", "etc/hostname", "etc/resolv.conf", "usr/share/doc", "usr/share/info",
    "usr/share/locale", "usr/share/man", "usr/share/python-wheels", "var/cache/apt",
    "var/lib/apt/lists", "var/log",
)  # fmt: skip


def why_not() -> str | None:
    """What this machine lacks to make one; None where it lacks nothing."""
    if os.geteuid() != 0:
        return "debootstrap needs root"
    if shutil.which("debootstrap") is None:
        return "debootstrap is not installed"
    if _mirror() is None:
        return "apt knows of no mirror of Debian"
    return None


def make(tarball: Path) -> None:
    """Write the root file system to `tarball`, from the mirror that apt takes its packages from."""
    root = tarball.with_name("standin")
    shutil.rmtree(root, ignore_errors=True)
    mirror = _mirror()
    assert mirror is not None
    install = ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
    _run([*install, _SUITE, str(root), mirror])
    [wheel] = (root / "usr/share/python-wheels").glob("pip-*.whl")
    inside = f"/{wheel.relative_to(root)}"
    (root / f"usr/lib/{_PYTHON}/EXTERNALLY-MANAGED").unlink()
    pip = [_PYTHON, f"{inside}/pip", "install", "--no-index", "--no-compile", "--quiet"]
    _run(["chroot", str(root), "/usr/bin/env", "-i", f"PATH={_PATH}", *pip, inside])
    for name in ("python", "python3", _PYTHON):
        (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{_PYTHON}")
    for name in _LEFT_OUT:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for folder in [*root.glob("usr/**/__pycache__")]:
        shutil.rmtree(folder)
    half = tarball.with_suffix(".half")
    devices = ("./dev/*", "./proc/*", "./sys/*")
    left_out = [f"--exclude={pattern}" for pattern in devices]
    _run(["tar", "--numeric-owner", *left_out, "-C", str(root), "-cf", str(half), "."])
    half.rename(tarball)
    shutil.rmtree(root)


def _mirror() -> str | None:
    """Where apt takes Debian's main packages from."""
    if shutil.which("apt-get") is None:
        return None
    form = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    found = re.findall(r"^Debian main \w+(?:-updates)? (\S+)$", listed, re.MULTILINE)
    return found[0] if found else None


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
