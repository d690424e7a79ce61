"""Only folders of tests leave the image."""

from pathlib import Path

from trainer.slim import remove_tests


def test_tests_go_and_nothing_else(tmp_path: Path) -> None:
    kept = ("numpy/testing/utils.py", "numpy/_core/tests/_natype.py", "onnx/test.py")
    gone = ("scipy/tests/a.py", "scipy/linalg/tests/data/b.npz", "onnx/test/tests/c.py")
    for name in (*kept, *gone):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("12")
    assert remove_tests(tmp_path) == 2 * len(gone)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert left == set(kept)
