"""docs/local-cloud.md lists exactly the rules that the code enforces, each with AWS's source."""

import re
from pathlib import Path

import pytest

_NAMES = re.compile(r"RULE:\s+([a-z0-9-]+(?:,\s+[a-z0-9-]+)*)")
_ROW = re.compile(r"^\| `([a-z0-9-]+)` \| (.+) \| (.+) \|$", re.MULTILINE)


@pytest.fixture
def listed(repo_root: Path) -> list[tuple[str, str, str]]:
    """(rule, what is refused, source) of each row."""
    text = (repo_root / "docs/local-cloud.md").read_text(encoding="utf-8")
    return _ROW.findall(text.partition("## What is enforced")[2])


def test_the_list_has_exactly_the_rules_of_the_code(
    listed: list[tuple[str, str, str]], repo_root: Path
) -> None:
    enforced = {
        name
        for file in (repo_root / "localcloud").rglob("*.py")
        for names in _NAMES.findall(file.read_text(encoding="utf-8"))
        for name in re.split(r",\s+", names)
    }
    names = [rule for rule, _, _ in listed]
    assert set(names) == enforced
    assert len(names) == len(enforced) > 20


def test_every_rule_has_a_source(listed: list[tuple[str, str, str]]) -> None:
    without = [rule for rule, _, source in listed if not re.search(r'"[^"]+"|\d', source)]
    assert without == []
