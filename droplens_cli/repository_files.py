"""Files of the repository that the installed command brings along (pyproject.toml)."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def repository_file(name: str) -> Path:
    """The file at `name`, from the repository's top; where the command is installed, its copy."""
    installed = _HERE / "repository" / name
    return installed if installed.exists() else _HERE.parent / name
