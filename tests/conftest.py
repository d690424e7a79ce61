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
