"""Print a SAM template as the CloudFormation template that it deploys as, for the checkers.

    python tools/expand_template.py template.yaml > expanded.json

cfn-lint does not expand SAM: of the functions, event rules and roles that SAM writes it sees
nothing in the template itself. Parameters take their defaults, local code the place of an upload.
"""

import json
import sys
from pathlib import Path
from typing import Any

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

UPLOADED = "s3://bucket/code.zip"
CODE = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}


class NoManagedPolicies:
    """The template names managed policies by ARN, so that no account is asked for their names."""

    def load(self) -> dict[str, str]:
        """An empty map of policy names to ARNs."""
        return {}


def expand(template: dict[str, Any]) -> dict[str, Any]:
    """The CloudFormation template. Raises InvalidDocumentException with all that SAM refuses."""
    # As sam sends it: no two resources share a map, which the translator would change for both.
    template = json.loads(json.dumps(template))
    for resource in template["Resources"].values():
        if resource["Type"] in CODE:
            resource["Properties"][CODE[resource["Type"]]] = UPLOADED
    expanded: dict[str, Any] = transform(template, {}, NoManagedPolicies())
    return expanded


if __name__ == "__main__":
    json.dump(expand(yaml_parse(Path(sys.argv[1]).read_text())), sys.stdout, indent=2)
