"""Removes the tests that packages install, a tenth of the image's size.

The Dockerfile calls it in the layer that installs the packages. It imports the standard library
only. NumPy's tests stay: numpy.testing, which SciPy imports, imports from them.
"""

import shutil
import sys
import sysconfig
from pathlib import Path

_PACKAGES = ("onnx", "scipy")
_TESTS = ("test", "tests")


def remove_tests(packages: Path) -> int:
    """Remove the folders of tests of _PACKAGES below `packages`. Returns their size in bytes."""
    found = [
        path
        for package in _PACKAGES
        for name in _TESTS
        for path in (packages / package).rglob(name)
    ]
    freed = 0
    for folder in filter(Path.is_dir, found):  # lazily: one may be in another
        freed += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        shutil.rmtree(folder)
    return freed


if __name__ == "__main__":
    freed = remove_tests(Path(sysconfig.get_path("purelib")))
    sys.stdout.write(f"removed {freed / 1e6:.1f} MB of tests\n")
