"""The two images, built once for all tests here from the zips that a deployment uploads."""

import re
import uuid
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from droplens.journey.container_images import collect, dockerfile_of
from tests.support import container_standin, needs
from tests.support.container_engine import Containers, Engine, find

IMAGES = ("batch-prep", "trainer")


@pytest.fixture(scope="session")
def cache(repo_root: Path) -> Path:
    """Where the stand-in and Podman's images lie."""
    folder = repo_root / ".local" / "containers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def engine(cache: Path) -> Engine:
    found = find(cache / "storage")
    if found is None:
        needs.skip("containers", "neither Docker nor, as root, Podman works")
    return found


@pytest.fixture(scope="session")
def containers(
    engine: Engine, cache: Path, repo_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containers]:
    work = tmp_path_factory.mktemp("images")
    base = _base(engine, cache, (repo_root / "trainer" / "Dockerfile").read_text("utf-8"))
    names = {image: f"localhost/droplens-{image}:{uuid.uuid4().hex[:12]}" for image in IMAGES}
    try:
        for image, name in names.items():
            context = _unpacked(repo_root, image, work)
            dockerfile = context / dockerfile_of(image)
            if base is not None:
                dockerfile = _on_another_base(dockerfile, base, work / f"{image}.Dockerfile")
            engine.build(context, dockerfile, name, work / "lent")
        yield Containers(engine, names)
    finally:
        engine.call("rmi", "--force", *names.values(), check=False)


def _unpacked(repo_root: Path, image: str, work: Path) -> Path:
    """CodeBuild's build context: the uploaded zip, unpacked with its file modes."""
    context = work / image
    with zipfile.ZipFile(BytesIO(collect(repo_root, image).zip())) as archive:
        for entry in archive.infolist():
            Path(archive.extract(entry, context)).chmod(entry.external_attr >> 16 & 0o777)
    return context


def _base(engine: Engine, cache: Path, dockerfile: str) -> str | None:
    """None where the real base is here or can be pulled, else the stand-in's name."""
    registry = re.search(r"^ARG BASE_REGISTRY=(\S+)$", dockerfile, re.MULTILINE)
    image = re.search(r"^FROM \$\{BASE_REGISTRY\}/(\S+)$", dockerfile, re.MULTILINE)
    assert registry is not None
    assert image is not None
    if engine.pull(f"{registry[1]}/{image[1]}"):
        return None
    tarball = cache / "python-3.13.tar"
    if not tarball.is_file():
        if reason := container_standin.why_not():
            needs.skip("containers", f"the base image cannot be pulled, and {reason}")
        container_standin.make(tarball)
    name = "localhost/droplens-standin:latest"
    settings = [word for line in container_standin.SETTINGS for word in ("--change", line)]
    engine.call("import", *settings, str(tarball), name)
    return name


def _on_another_base(dockerfile: Path, base: str, changed: Path) -> Path:
    """The same Dockerfile with one line changed, next to the context."""
    text, found = re.subn(r"(?m)^FROM .*$", f"FROM {base}", dockerfile.read_text("utf-8"))
    assert found == 1
    changed.write_text(text, "utf-8")
    return changed
