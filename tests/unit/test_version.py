"""One version: that of the layer's package, which all else that carries it repeats."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws
from samtranslator.yaml_helper import yaml_parse

from droplens import __version__
from droplens.state.runs import Runs
from tests.support.builders import RUN
from tests.support.deployed_stack import Deployed


def test_the_template_carries_it(repo_root: Path) -> None:
    template: dict[str, Any] = yaml_parse((repo_root / "template.yaml").read_text("utf-8"))
    assert template["Metadata"]["Droplens"] == {"Version": __version__}


@pytest.mark.parametrize("name", ["batch_prep/Dockerfile", "trainer/Dockerfile"])
def test_an_image_carries_it_as_its_label(repo_root: Path, name: str) -> None:
    """trainer/finetune.Dockerfile starts from the trainer's image, and has its labels."""
    text = (repo_root / name).read_text("utf-8")
    assert re.findall(r"^LABEL org\.opencontainers\.image\.version=(.*)$", text, re.MULTILINE) == [
        __version__
    ]


def test_the_command_that_users_install_carries_it(repo_root: Path) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text("utf-8"))
    path = project["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{__version__}"' in (repo_root / path).read_text("utf-8")


def test_it_is_the_newest_of_the_changelog(repo_root: Path) -> None:
    text = (repo_root / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert released[0] == __version__


def test_a_run_says_which_version_began_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with mock_aws():
        runs: Runs = Deployed(monkeypatch).runs
        runs.open(RUN, {"version": "v"})
        run = runs.get(RUN)
    assert run is not None
    assert run.record["droplens_version"] == __version__
