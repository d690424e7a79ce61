"""The template repeats by YAML's anchors, which CloudFormation refuses: sam resolves them."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from samtranslator.yaml_helper import yaml_parse

# sam build and sam deploy write with this what they have read with it.
REWRITE = """\
import sys
from samcli.yamlhelper import parse_yaml_file, yaml_dump
print(yaml_dump(parse_yaml_file(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def sent(repo_root: Path) -> str:
    """The template as sam sends it to CloudFormation, apart from where code was uploaded to."""
    python = repo_root / ".local/venv/tools/bin/python"
    if not python.exists():
        pytest.skip(f"needs sam's environment: {python} (make venvs-tools)")
    run = subprocess.run(
        [python, "-c", REWRITE, repo_root / "template.yaml"],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout


def shared(text: str) -> list[str]:
    """The anchors, aliases and merge keys in a YAML document."""
    found = []
    for event in yaml.parse(text):
        if isinstance(event, yaml.ScalarEvent) and event.value == "<<":
            found.append("<<")
        if isinstance(event, yaml.NodeEvent) and event.anchor:
            found.append(event.anchor)
    return found


def test_what_sam_sends_holds_no_anchor_alias_or_merge(sent: str, repo_root: Path) -> None:
    assert shared((repo_root / "template.yaml").read_text("utf-8"))
    assert shared(sent) == []


def test_what_sam_sends_is_what_the_tests_read(sent: str, written: dict[str, Any]) -> None:
    assert yaml_parse(sent) == written
