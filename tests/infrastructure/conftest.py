"""The template as it is written, and as SAM expands it for CloudFormation."""

import json
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.support.deployed_functions import classify_image, deployed, load  # noqa: F401  fixtures
from tests.support.expanded_template import REGION, Stack, expanded_in


@pytest.fixture(scope="session")
def written(repo_root: Path) -> dict[str, Any]:
    """template.yaml."""
    return dict(yaml_parse((repo_root / "template.yaml").read_text("utf-8")))


@pytest.fixture(scope="session")
def stack(repo_root: Path) -> Stack:
    """What CloudFormation would be given."""
    return expanded_in(REGION, repo_root)


@pytest.fixture
def events(repo_root: Path) -> dict[str, dict[str, Any]]:
    """The recorded events, by name."""
    return {
        path.stem: json.loads(path.read_text("utf-8"))
        for path in sorted((repo_root / "events").glob("*.json"))
    }
