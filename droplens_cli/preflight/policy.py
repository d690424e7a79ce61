"""Prints the minimal IAM policy of a deploying identity, from actions.json.

python -m droplens_cli.preflight.policy > docs/deployer-policy.json
"""

import json
import re
import sys
from typing import Any

from droplens_cli.preflight.permissions import table

# Stack droplens, and others whose names begin so.
STACK = "droplens*"
PARTITION = "aws"


def policy(stack: str = STACK, partition: str = PARTITION) -> dict[str, Any]:
    """An IAM policy document: one statement for each resource, its actions in order."""
    rows = table()
    entries = [*rows["always"], *(row for kind in rows["types"].values() for row in kind)]
    values = {"Partition": partition, "Region": "*", "Account": "*", "Stack": stack}
    merged: dict[tuple[str, tuple[tuple[str, str], ...]], set[str]] = {}
    for entry in [*entries, *rows["preflight"]]:
        resource = re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], entry["resource"])
        resource = re.sub(r"\*+", "*", resource).replace("*-*", "*")
        key = (resource, tuple(sorted(entry.get("context", {}).items())))
        merged.setdefault(key, set()).update(entry["actions"])
    by_actions: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], list[str]] = {}
    for (resource, context), actions in merged.items():
        by_actions.setdefault((tuple(sorted(actions)), context), []).append(resource)
    statements: list[dict[str, Any]] = []
    for (names, context), resources in sorted(by_actions.items()):
        statement: dict[str, Any] = {
            "Effect": "Allow",
            "Action": list(names),
            "Resource": sorted(resources) if len(resources) > 1 else resources[0],
        }
        if context:
            statement["Condition"] = {"StringEquals": dict(context)}
        statements.append(statement)
    return {"Version": "2012-10-17", "Statement": statements}


if __name__ == "__main__":
    json.dump(policy(), sys.stdout, indent=1)
    print()
