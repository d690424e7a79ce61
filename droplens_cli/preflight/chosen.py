"""The parameters of a deployment: the template's defaults, overridden by saved and given ones."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from droplens_cli.repository_files import repository_file

TEMPLATE = repository_file("template.yaml")


@dataclass(frozen=True)
class Chosen:
    """template: as parsed; given: parameters without their default; stack: the stack's name."""

    template: Mapping[str, Any]
    given: Mapping[str, str]
    stack: str

    def __getitem__(self, parameter: str) -> str:
        """The value of a parameter for CloudFormation; "" for an unknown one."""
        known = self.template["Parameters"].get(parameter, {})
        return str(self.given.get(parameter, known.get("Default", "")))

    def number(self, parameter: str) -> int:
        """The value of a parameter that is a whole number."""
        return int(float(self[parameter]))

    def invalid(self) -> list[str]:
        """A sentence for each given parameter that CloudFormation would refuse."""
        found = []
        for name, value in self.given.items():
            known = self.template["Parameters"].get(name)
            if known is None:
                found.append(f"the template has no parameter {name}")
                continue
            allowed = [str(one) for one in known.get("AllowedValues", [value])]
            pattern = known.get("AllowedPattern")
            if value not in allowed:
                found.append(f"{name}={value} is not one of {', '.join(allowed)}")
            elif pattern and not re.fullmatch(pattern, value):
                found.append(f"{name}={value} is not {known.get('ConstraintDescription', pattern)}")
            elif known["Type"] == "Number" and not _within(value, known):
                bounds = f"{known.get('MinValue', '')} to {known.get('MaxValue', '')}"
                found.append(f"{name}={value} is not a number of {bounds}")
        return found

    @cached_property
    def resource_types(self) -> set[str]:
        """The types of the resources that these parameters create, as the template has them."""
        return {
            resource["Type"]
            for resource in self.template["Resources"].values()
            if "Condition" not in resource or self._holds({"Condition": resource["Condition"]})
        }

    def named(self, kind: str, property_name: str) -> list[str]:
        """The explicit names of the template's resources of one type."""
        pattern = re.compile(r"\$\{AWS::StackName\}")
        return [
            pattern.sub(self.stack, resource["Properties"][property_name]["Fn::Sub"])
            for resource in self.template["Resources"].values()
            if resource["Type"] == kind and property_name in resource["Properties"]
        ]

    def _holds(self, condition: Any) -> bool:
        """Whether a condition is true; supports the functions that the template uses."""
        ((function, argument),) = condition.items()
        if function == "Condition":
            return self._holds(self.template["Conditions"][argument])
        if function == "Fn::Not":
            return not self._holds(argument[0])
        if function == "Fn::And":
            return all(self._holds(one) for one in argument)
        if function == "Fn::Or":
            return any(self._holds(one) for one in argument)
        if function == "Fn::Equals":
            left, right = (self._value(one) for one in argument)
            # A value that is known only in the account: the resource counts as created.
            return left is None or right is None or left == right
        raise ValueError(f"preflight cannot evaluate {function} in the template's conditions")

    def _value(self, value: Any) -> str | None:
        if not isinstance(value, dict):
            return str(value)
        reference = value.get("Ref", "")
        return self[reference] if reference in self.template["Parameters"] else None


def chosen(given: Mapping[str, str], stack: str, template: Path = TEMPLATE) -> Chosen:
    """The parameters of a deployment of `template` as `stack`."""
    return Chosen(_parsed(template), given, stack)


@cache
def _parsed(template: Path) -> Mapping[str, Any]:
    return dict(yaml_parse(template.read_text("utf-8")))


def _within(value: str, known: Mapping[str, Any]) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    return bool(known.get("MinValue", number) <= number <= known.get("MaxValue", number))
