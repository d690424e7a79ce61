"""Unpacks model archives. `TarFile.extractall(filter=...)` does not exist before Python 3.11.4.

Debian 12's Python is 3.11.2 (https://docs.python.org/3.11/library/tarfile.html, "Extraction
filters": "Changed in version 3.11.4").
"""

import shutil
import tarfile
from pathlib import Path


def extract(archive: Path, target: Path) -> None:
    """Put the archive's files and folders below the folder `target`, which exists.

    Owners, times and permissions in the archive are ignored. Raises tarfile.TarError for a member
    that is neither a file nor a folder, so that no link can lead out of `target`, and for a name
    that leads out of it; OSError and EOFError for damaged archives.
    """
    home = target.resolve()
    with tarfile.open(archive) as members:
        for member in members:
            path = (home / member.name.lstrip("/")).resolve()
            if not path.is_relative_to(home):
                raise tarfile.TarError(f"{member.name!r} leads out of the model's folder")
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            content = members.extractfile(member) if member.isfile() else None
            if content is None:
                raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            with content, path.open("wb") as file:
                shutil.copyfileobj(content, file)
