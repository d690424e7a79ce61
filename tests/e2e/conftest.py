"""A local cloud of the tests' own, with the real template deployed by the real sam."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from localcloud.ports import free_port
from tests.support.browser import chromium
from tests.support.console_in_browser import Seen, tab
from tests.support.deployed_cloud import CLASSES, ENOUGH_CORRECTIONS, KEY, READABLE, Cloud
from tests.support.drawn_images import drawing


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that name where clouds find what another one has built: what sam builds, and,
    for the processes of pytest-xdist in common, the images."""
    everywhere = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        everywhere = everywhere.parent
    return {
        "SAM_CACHE": str(tmp_path_factory.mktemp("sam-cache")),
        "DROPLENS_IMAGES": str(everywhere / "images"),
    }


@pytest.fixture(scope="session")
def clouds(
    tmp_path_factory: pytest.TempPathFactory, built_once: dict[str, str], repo_root: Path
) -> Iterator[Any]:
    """Start deployed local clouds, each with its own folder and port."""
    if not (repo_root / ".local/venv/cloud").is_dir():
        pytest.fail("make test makes the environments that the local cloud needs")
    with contextlib.ExitStack() as stack:

        def start(*, deployed: bool = True, **extra: str) -> Cloud:
            folder = tmp_path_factory.mktemp("local")
            port = free_port()
            kept = {
                name: value for name, value in os.environ.items() if not name.startswith("AWS_")
            }
            environment = {
                **kept,
                "DROPLENS_LOCAL": str(folder),
                "DROPLENS_PORT": str(port),
                "PYTHON": sys.executable,
                **built_once,
                "AWS_CONFIG_FILE": os.devnull,
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
                **extra,
            }
            cloud = Cloud(repo_root, environment, f"http://127.0.0.1:{port}")
            stack.callback(cloud.localcloud, "down")
            if deployed:
                # An established account's quotas, shared by all other tests.
                cloud.localcloud("quotas", "--published")
                cloud.deploy()
            else:
                cloud.make("up")
            return cloud

        # Session fixtures are set up before the one that hides a developer's account.
        credentials = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        patch = pytest.MonkeyPatch()
        stack.callback(patch.undo)
        for name, value in credentials.items():
            patch.setenv(name, value)
        yield start


@pytest.fixture(scope="session")
def cloud(clouds: Callable[..., Cloud]) -> Cloud:
    """A local cloud that delivers each event once, and evaluates every function's own role."""
    parameters = f"InferenceSources={READABLE} RetrainAfterCorrections={ENOUGH_CORRECTIONS}"
    return clouds(DROPLENS_AUTH="true", PARAMETERS=parameters)


@pytest.fixture(scope="session")
def rough_cloud(clouds: Callable[..., Cloud]) -> Cloud:
    """A local cloud that delivers every event up to three times, late, and in any order.

    Datasets of more than 30 pictures are packed in shards there, and it has a key of the user's.
    """
    return clouds(
        DROPLENS_DELIVERY="rough",
        DROPLENS_AUTH="true",
        PARAMETERS=f"PicturesPerPackingJob=30 UseSpot=true KmsKeyArn={KEY}",
    )


@pytest.fixture(scope="session")
def live_patterns(cloud: Cloud) -> dict[str, Any]:
    """The run of a classifier "patterns" that is live, with two images uploaded before it was."""
    for label in CLASSES[:2]:
        cloud.put(f"input/patterns/early {label}+%2B.jpg", drawing(label, 900))
    cloud.upload_dataset("patterns")
    run = cloud.ended_run("patterns")
    assert run["status"] == "live", run
    return run


@pytest.fixture(scope="session")
def account(clouds: Callable[..., Cloud], tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    """A new account: an empty local cloud, configured by AWS's own variables only."""
    cloud = clouds(deployed=False)
    answers = tmp_path_factory.mktemp("saved answers") / "account.toml"
    cloud.environment |= cloud.keys | {"ACCOUNT_CONFIG": str(answers)}
    return cloud


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def seen(browser: Browser, address: str) -> Iterator[Seen]:
    """A tab of the console at the module's own fixture `address`."""
    with tab(browser, address) as found:
        yield found
