"""A check that is silenced says why: in the comment above it, or in one that names the check."""

import re
from pathlib import Path

import pytest

SILENCED = re.compile(r"ignore_checks|--ignore-checks|^ *- CKV")
CHECK = re.compile(r"\b[EWI]S?\d{4}\b|\bCKV2?_AWS_\d+\b")


@pytest.mark.parametrize("name", ["template.yaml", "Makefile", ".checkov.yaml"])
def test_every_silenced_check_of_the_template_has_its_reason(repo_root: Path, name: str) -> None:
    lines = (repo_root / name).read_text("utf-8").splitlines()
    comments = [line.strip() for line in lines if line.lstrip().startswith("# ")]
    places = [number for number, line in enumerate(lines) if SILENCED.search(line)]
    assert places
    for number in places:
        silenced = CHECK.findall(lines[number])
        assert silenced, lines[number]
        above = lines[number - 1].lstrip().startswith("# ")
        named = all(any(check in comment for comment in comments) for check in silenced)
        assert above or named, f"{name}:{number + 1} says no reason for {silenced}"
