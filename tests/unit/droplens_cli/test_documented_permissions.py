"""docs/cli.md says of every command which policy it needs."""

import re
from pathlib import Path

from typer.main import get_command

from droplens_cli.app import app

POLICIES = ("`ReviewerPolicyArn`", "`OperatorPolicyArn`", "[whoever deploys]", "none")


def test_every_command_has_a_row_in_the_table_of_policies(repo_root: Path) -> None:
    text = (repo_root / "docs/cli.md").read_text("utf-8").partition("## Permissions")[2]
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `droplens")]
    assert all(any(policy in needed for policy in POLICIES) for _, needed in rows)
    named = {name for commands, _ in rows for name in re.findall(r"`droplens ([a-z]+)`", commands)}
    assert named == set(get_command(app).commands)  # type: ignore[attr-defined]
