"""Expands a SAM template to the CloudFormation template that is deployed, for the checkers.

    python tools/expand_template.py template.yaml > expanded.json

cfn-lint does not expand SAM: in the template itself it does not see the roles and event rules that
SAM generates. Parameters have their defaults; local code has the URI of an upload.
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
    """The template names managed policies by ARN, so that their names need not be looked up."""

    def load(self) -> dict[str, str]:
        """An empty map of policy names to ARNs."""
        return {}


def expand(template: dict[str, Any]) -> dict[str, Any]:
    """The CloudFormation template. Raises InvalidDocumentException with SAM's errors."""
    # A copy without shared maps, as sam sends it: the translator would change such a map for both.
    template = json.loads(json.dumps(template))
    for resource in template["Resources"].values():
        if resource["Type"] in CODE:
            resource["Properties"][CODE[resource["Type"]]] = UPLOADED
    expanded: dict[str, Any] = transform(template, {}, NoManagedPolicies())
    return expanded


if __name__ == "__main__":
    json.dump(expand(yaml_parse(Path(sys.argv[1]).read_text())), sys.stdout, indent=2)
