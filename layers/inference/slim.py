"""Removes what no function uses from the packages of the layer: two thirds of ONNX Runtime's files.

python slim.py FOLDER. It imports the standard library only, since sam build copies this folder and
calls the Makefile within. tests/e2e/test_without_endpoint.py runs a network with the rest.
"""

import shutil
import sys
from pathlib import Path

# Below onnxruntime: the same code as in its Python module once more, for programs in C; models,
# tools and their converters. Below numpy: tests, and compilers of extensions.
UNUSED = (
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/backend",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "numpy/**/tests",
    "numpy/**/*.pyi",
    "numpy/distutils",
    "numpy/f2py",
    "bin",
)


def slim(packages: Path) -> int:
    """Remove them below `packages`. Returns their size in bytes."""
    freed = 0
    for path in [path for pattern in UNUSED for path in packages.glob(pattern)]:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        freed += sum(file.stat().st_size for file in files)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return freed


if __name__ == "__main__":
    freed = slim(Path(sys.argv[1]))
    sys.stdout.write(f"removed {freed / 1e6:.1f} MB that no function uses\n")
