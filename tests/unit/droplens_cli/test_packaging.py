"""What `pipx install .` installs is complete, and as small as the command needs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from droplens_cli.repository_files import repository_file

# Of the layer's requirements, which are not the command's.
NOT_INSTALLED = ("aws_lambda_powertools", "aws_xray_sdk", "localcloud", "tools", "demo", "trainer")


def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))


def test_it_pins_what_its_lock_is_made_from(repo_root: Path) -> None:
    lines = (repo_root / "droplens_cli/requirements.in").read_text("utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert project(repo_root)["project"]["dependencies"] == pinned
    assert all("==" in line for line in pinned)


def test_its_files_exist_and_are_found_in_place(repo_root: Path) -> None:
    included = project(repo_root)["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for source, place in included.items():
        assert (repo_root / source).exists()
        if place.startswith("droplens_cli/repository/"):
            assert place == f"droplens_cli/repository/{source}"
            assert repository_file(source) == repo_root / source


def test_every_module_imports_without_what_is_not_installed(repo_root: Path) -> None:
    modules = [
        ".".join(path.relative_to(repo_root).with_suffix("").parts)
        for folder in ("droplens_cli", "droplens_console")
        for path in sorted((repo_root / folder).rglob("*.py"))
        if path.name not in ("__main__.py", "__init__.py")
    ]
    program = f"""
import importlib, sys
sys.modules |= dict.fromkeys({NOT_INSTALLED!r})
for name in {modules!r}:
    importlib.import_module(name)
"""
    environment = {"PYTHONPATH": f"{repo_root}:{repo_root / 'layers/droplens'}"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_its_commands(repo_root: Path, shell: str) -> None:
    words = {"bash": {"COMP_WORDS": "droplens re", "COMP_CWORD": "1"}}.get(
        shell, {"_TYPER_COMPLETE_ARGS": "droplens re"}
    )
    done = subprocess.run(
        [sys.executable, "-c", "from droplens_cli.app import main; main()"],
        env={
            "PYTHONPATH": f"{repo_root}:{repo_root / 'layers/droplens'}",
            "_DROPLENS_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            **words,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    for command in ("results", "resume", "redrive"):
        assert command in done.stdout, (done.stdout, done.stderr)
    assert "upload" not in done.stdout
