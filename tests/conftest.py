"""Fixtures of all tests: no AWS account, and the real photographs."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from xdist.scheduler import LoadScopeScheduling

pytest.register_assert_rewrite("tests.support")  # before any module of it is imported
from tests.support import needs  # noqa: E402
from tests.support.photographs import draw  # noqa: E402
from tests.support.repository import ROOT  # noqa: E402

_END_TO_END = "tests/e2e/"
# Files of one process, which makes once what they share: an account's local cloud, one with rough
# delivery, PyTorch in memory. All other end-to-end tests share one more deployed cloud.
_TOGETHER = {
    f"tests/{name}.py": scope
    for scope, names in {
        "an account": ("e2e/test_account_demo", "e2e/test_deploy_command"),
        "rough delivery": ("e2e/test_chaos", "e2e/test_rough_delivery"),
        "PyTorch": tuple(
            f"integration/test_trainer_{name}"
            for name in ("finetune", "network", "timm", "together")
        ),
    }.items()
    for name in names
}
# The longest, which start first: of the others, one of a minute could be the last that runs.
_FIRST = (
    _END_TO_END,
    "tests/containers/",
    *(file for file, scope in _TOGETHER.items() if scope == "PyTorch"),
    "tests/integration/",
)


def pytest_configure(config: pytest.Config) -> None:
    """Hide a developer's own AWS account, profile and endpoint from every test.

    The plugin `needs` handles what tests need beyond that, and which may be skipped.
    """
    config.pluginmanager.register(needs)
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


class Files(LoadScopeScheduling):
    """Distributes tests to processes by file, since a file's tests share their fixtures.

    Files that share more than that stay together too (_TOGETHER). The longest start first.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _TOGETHER.get(file, _END_TO_END if file.startswith(_END_TO_END) else file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Files:
    """Called by pytest-xdist."""
    return Files(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests as `Files` does."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: [not item.nodeid.startswith(first) for first in _FIRST])


@pytest.fixture(scope="session", autouse=True)
def _keys_are_made_once() -> Iterator[None]:
    """moto makes a key of RSA for each account that notifies, and has no use for another one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rsa, "generate_private_key", functools.cache(rsa.generate_private_key))
        yield


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The repository's top folder."""
    return ROOT


@pytest.fixture(scope="session", params=["drawn", "cars24"])
def photographs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of photographs, one per class: those that we draw, and, where they are, real ones."""
    if request.param == "drawn":
        return draw(tmp_path_factory.mktemp("photographs"))
    real: Path = request.getfixturevalue("cars24")
    return real


@pytest.fixture(scope="session")
def cars24() -> Path:
    """24 folders of car photographs, one per model, which are not part of the repository.

    Read from the folder named by DROPLENS_CARS24, else from shared/ next to the repository.
    """
    named = os.environ.get("DROPLENS_CARS24")
    folder = Path(named or ROOT.parent / "shared" / "data" / "cars" / "cars24")
    if not folder.is_dir():
        needs.skip("cars24", f"there is no folder {folder.name}")
    return folder
