"""The demo runs in a small environment of its own, without what only functions need."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_demo_needs_nothing_of_lambda_s(repo_root: Path) -> None:
    program = "import sys; sys.modules['aws_lambda_powertools'] = None; import demo.__main__"
    path = os.pathsep.join(map(str, (repo_root, repo_root / "layers" / "droplens")))
    imported = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert imported.returncode == 0, imported.stderr
