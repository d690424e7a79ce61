"""Prints the interface of template.yaml, its parameters and outputs, which a test holds frozen.

python tools/template_interface.py > tests/infrastructure/interface.json
"""

import json
import sys
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

TEMPLATE = Path(__file__).resolve().parent.parent / "template.yaml"


def interface(template: dict[str, Any]) -> dict[str, Any]:
    """Each parameter without its description, and the names of the outputs."""
    return {
        "Parameters": {
            name: {key: value for key, value in parameter.items() if key != "Description"}
            for name, parameter in sorted(template["Parameters"].items())
        },
        "Outputs": sorted(template["Outputs"]),
    }


if __name__ == "__main__":
    json.dump(interface(yaml_parse(TEMPLATE.read_text("utf-8"))), sys.stdout, indent=2)
    print()
