"""Model archives: files and folders come out below their folder, and nothing else does."""

import io
import tarfile
from pathlib import Path

import pytest

from localcloud.sagemaker.unpacking import extract


def archive(path: Path, *members: tarfile.TarInfo) -> Path:
    """A model.tar.gz of these members, each file holding its own name."""
    with tarfile.open(path / "model.tar.gz", "w:gz") as tar:
        for member in members:
            content = member.name.encode() if member.isreg() else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path / "model.tar.gz"


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o777
    return info


def test_files_and_folders_come_out(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    members = (
        member("./model.onnx"),
        member("code", tarfile.DIRTYPE),
        member("code/serve.py"),
        member("deep/without/a/folder.json"),
        member("/from-the-root.txt"),
    )
    extract(archive(tmp_path, *members), target)
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert found == {
        "model.onnx",
        "code/serve.py",
        "deep/without/a/folder.json",
        "from-the-root.txt",
    }
    assert (target / "code/serve.py").read_text() == "code/serve.py"


@pytest.mark.parametrize(
    "hostile",
    [
        member("../outside"),
        member("code/../../outside"),
        member("link", tarfile.SYMTYPE, "../.."),
        member("link", tarfile.LNKTYPE, "../../outside"),
        member("pipe", tarfile.FIFOTYPE),
        member("device", tarfile.CHRTYPE),
    ],
    ids=lambda info: f"{info.name}-{info.type!r}",
)
def test_what_could_lead_out_is_refused(tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    target = tmp_path / "model"
    target.mkdir()
    with pytest.raises(tarfile.TarError, match=r"leads out|neither a file nor a folder"):
        extract(archive(tmp_path, hostile), target)
    assert not (tmp_path / "outside").exists()
    assert not list(target.iterdir())


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    path = archive(tmp_path, member("model.onnx"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises((tarfile.TarError, EOFError, OSError)):
        extract(path, tmp_path)
