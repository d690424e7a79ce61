"""No file costs more than 3 s of a core or 1 GiB above the idle process, in any place."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from droplens.imaging.prepare import Preprocessing, decode, prepare
from tests.support import hostile_images, needs
from tests.support.image_costs import PLACES

pytestmark = needs.only_with("linux", sys.platform == "linux", "the sandbox's limits are Linux's")

MOST_SECONDS, MOST_MIB = 3.0, 1024


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("costly")
    for name, data, _ in hostile_images.costly():
        assert len(data) <= 25 * 2**20, name
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_no_file_costs_more_than_is_promised(place: str, files: Path, repo_root: Path) -> None:
    path = os.pathsep.join(map(str, (repo_root, repo_root / "layers" / "droplens")))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.support.image_costs", str(files), place],
        env={**os.environ, "PYTHONPATH": path},
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, Any]] = {
        cost["name"]: cost for cost in map(json.loads, done.stdout.splitlines())
    }
    assert {name: cost["verdict"] for name, cost in found.items()} == {
        name: verdict for name, _, verdict in hostile_images.costly()
    }
    dear = {
        name: (cost["seconds"], cost["mib"])
        for name, cost in found.items()
        if cost["seconds"] > MOST_SECONDS or cost["mib"] > MOST_MIB
    }
    assert not dear


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    ("name", "data"), [pytest.param(*x, id=x[0]) for x in hostile_images.troubled()]
)
def test_damaged_metadata_around_a_sound_picture_is_let_be(name: str, data: bytes) -> None:
    picture, _ = decode(data)
    assert picture.size in ((64, 48), (48, 64)), name
    assert prepare(data, Preprocessing(32))[0].startswith(b"\xff\xd8")
