"""What every kind of test shares: no AWS account, and where the real photographs are."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Keep a developer's own AWS account, profile and endpoint out of every test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the tests (pytest-xdist): what is set up for many stays with one.

    That is a file, and all that a deployed cloud serves; which takes longest, so it begins.
    """

    def is_end_to_end(item: pytest.Item) -> bool:
        return item.path.is_relative_to(ROOT / "tests" / "e2e")

    for item in items:
        group = "e2e" if is_end_to_end(item) else item.path.relative_to(ROOT).as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not is_end_to_end(item))


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The repository's top folder."""
    return ROOT


@pytest.fixture(scope="session")
def cars24() -> Path:
    """24 folders of car photographs, one per model, which are not part of the repository.

    Read from the folder named by DROPLENS_CARS24, else from shared/ beside the repository.
    """
    folder = Path(
        os.environ.get("DROPLENS_CARS24", ROOT.parent / "shared" / "data" / "cars" / "cars24")
    )
    if not folder.is_dir():
        pytest.skip("needs the cars24 photographs: name their folder in DROPLENS_CARS24")
    return folder
