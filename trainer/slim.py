"""Removes what packages install for their own developers alone: tests, a tenth of the image.

Called by the Dockerfile in the layer that installs them. Runs on the standard library. NumPy keeps
its own: numpy.testing, which SciPy imports, imports from them.
"""

import shutil
import sys
import sysconfig
from pathlib import Path

_PACKAGES = ("onnx", "scipy")
_TESTS = ("test", "tests")


def remove_tests(packages: Path) -> int:
    """Remove the folders of tests of _PACKAGES below `packages`; how many bytes their files had."""
    found = [
        path
        for package in _PACKAGES
        for name in _TESTS
        for path in (packages / package).rglob(name)
    ]
    freed = 0
    for folder in filter(Path.is_dir, found):  # asked when it is due: one may lie in another
        freed += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        shutil.rmtree(folder)
    return freed


if __name__ == "__main__":
    freed = remove_tests(Path(sysconfig.get_path("purelib")))
    sys.stdout.write(f"removed {freed / 1e6:.1f} MB of tests\n")
