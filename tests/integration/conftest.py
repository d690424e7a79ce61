"""Fixtures of the tests that run a local cloud of their own beside a developer's."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.localcloud_support import CLOUD_PYTHON, JOB, MODEL, Cloud, write_container


@pytest.fixture(scope="session")
def new_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Cloud]]:
    """Makes clouds that are not up yet, each with two tiny containers; takes all of them down."""
    if not CLOUD_PYTHON.is_file():
        pytest.skip(f"needs the local cloud's environment: {CLOUD_PYTHON} (make venvs-cloud)")
    made: list[Cloud] = []
    images: Path = tmp_path_factory.mktemp("images")

    def make() -> Cloud:
        folder = tmp_path_factory.mktemp("cloud")
        write_container(folder / "context", "tiny_job", JOB)
        write_container(folder / "context", "tiny_model", MODEL)
        made.append(Cloud(folder, images))
        return made[-1]

    yield make
    for cloud in made:
        cloud.cli("down")


@pytest.fixture(scope="session")
def cloud(new_cloud: Callable[[], Cloud]) -> Cloud:
    """One cloud that is up, for tests that only add to it under names of their own."""
    shared = new_cloud()
    shared.up()
    return shared
