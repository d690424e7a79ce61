"""The template as it would be deployed: with values, and rules and policies to evaluate."""

import dataclasses
import functools
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from samtranslator.translator.arn_generator import ArnGenerator
from samtranslator.yaml_helper import yaml_parse

from tools.expand_template import expand

REGION, ACCOUNT, STACK = "us-east-1", "123456789012", "droplens"
BUCKET = "droplens-bucket-8k3mwq2ra1xz"  # that of the recorded events
# What Ref gives, where it is not a name.
ARN_BY_REF = {
    "AWS::Batch::JobQueue": "arn:{partition}:batch:{region}:{account}:job-queue/{name}",
    "AWS::Batch::JobDefinition": "arn:{partition}:batch:{region}:{account}:job-definition/{name}:1",
    "AWS::SNS::Topic": "arn:{partition}:sns:{region}:{account}:{name}",
    "AWS::SQS::Queue": "https://sqs.{region}.{suffix}/{account}/{name}",
}
ARN = {
    "AWS::S3::Bucket": "arn:{partition}:s3:::{name}",
    "AWS::SQS::Queue": "arn:{partition}:sqs:{region}:{account}:{name}",
    "AWS::DynamoDB::Table": "arn:{partition}:dynamodb:{region}:{account}:table/{name}",
    "AWS::IAM::Role": "arn:{partition}:iam::{account}:role/{name}",
    "AWS::Lambda::Function": "arn:{partition}:lambda:{region}:{account}:function:{name}",
    "AWS::Logs::LogGroup": "arn:{partition}:logs:{region}:{account}:log-group:{name}:*",
    "AWS::ECR::Repository": "arn:{partition}:ecr:{region}:{account}:repository/{name}",
    "AWS::Events::Rule": "arn:{partition}:events:{region}:{account}:rule/{name}",
    "AWS::CodeBuild::Project": "arn:{partition}:codebuild:{region}:{account}:project/{name}",
}
# The property that names a resource; one without it is named by CloudFormation, uniquely.
OWN_NAME = (
    "FunctionName",
    "LogGroupName",
    "RepositoryName",
    "JobQueueName",
    "JobDefinitionName",
    "LayerName",
    "AlarmName",
    "DashboardName",
    "Name",
)
NO_VALUE = object()


@dataclass(frozen=True)
class Stack:
    """A CloudFormation template, deployed with the defaults of its parameters but for some."""

    template: dict[str, Any]
    name: str = STACK
    region: str = REGION
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def pseudo(self) -> dict[str, str]:
        """What CloudFormation calls pseudo parameters."""
        china, government = self.region.startswith("cn-"), self.region.startswith("us-gov-")
        return {
            "AWS::Region": self.region,
            "AWS::AccountId": ACCOUNT,
            "AWS::StackName": self.name,
            "AWS::Partition": "aws-cn" if china else "aws-us-gov" if government else "aws",
            "AWS::URLSuffix": "amazonaws.com.cn" if china else "amazonaws.com",
        }

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The filled-in properties of every resource of this type, by logical id."""
        return {
            name: self.properties(name)
            for name, resource in self.template["Resources"].items()
            if resource["Type"] == kind and self.holds_for(resource)
        }

    def patterns(self) -> dict[str, dict[str, Any]]:
        """The pattern of every rule that waits for events, not for the clock, by logical id."""
        rules = self.of_type("AWS::Events::Rule")
        return {
            name: rule["EventPattern"] for name, rule in rules.items() if "EventPattern" in rule
        }

    def holds_for(self, resource: dict[str, Any]) -> bool:
        """Whether the resource is made at all."""
        return "Condition" not in resource or self.holds(resource["Condition"])

    def properties(self, name: str) -> dict[str, Any]:
        return dict(self.resolve(self.template["Resources"][name].get("Properties", {})))

    def resolve(self, value: Any) -> Any:
        """`value` with its intrinsic functions worked out."""
        if isinstance(value, list):
            return [one for one in map(self.resolve, value) if one is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(function, argument)] = value.items()
            if function == "Ref":
                return self.ref(argument)
            if function == "Fn::GetAtt":
                return self.attribute(*argument)
            if function == "Fn::Sub":
                return self.substituted(argument)
            if function == "Fn::Join":
                between, parts = argument
                return str(between).join(map(str, self.resolve(parts)))
            if function == "Fn::Split":
                between, text = argument
                return str(self.resolve(text)).split(between)
            if function == "Fn::GetAZs":
                return [f"{self.region}{zone}" for zone in "abc"]
            if function == "Fn::Select":
                index, entries = argument
                return self.resolve(entries)[int(index)]
            if function == "Fn::If":
                condition, then, otherwise = argument
                return self.resolve(then if self.holds(condition) else otherwise)
        found = {key: self.resolve(entry) for key, entry in value.items()}
        return {key: entry for key, entry in found.items() if entry is not NO_VALUE}

    def holds(self, condition: Any) -> bool:
        """Whether a condition of the template, by name or written out, is met."""
        if isinstance(condition, str):
            return self.holds(self.template["Conditions"][condition])
        [(function, argument)] = condition.items()
        if function == "Fn::Not":
            return not self.holds(*argument)
        if function == "Fn::And":
            return all(map(self.holds, argument))
        if function == "Fn::Or":
            return any(map(self.holds, argument))
        if function == "Fn::Equals":
            one, other = self.resolve(argument)
            return str(one) == str(other)
        if function == "Condition":
            return self.holds(argument)
        raise NotImplementedError(function)

    def substituted(self, argument: Any) -> str:
        """Fn::Sub of a text, or of a text and what its own variables stand for."""
        text, own = argument if isinstance(argument, list) else (argument, {})
        return re.sub(
            r"\$\{([^}]+)\}",
            lambda found: (
                str(self.resolve(own[found[1]])) if found[1] in own else self.named(found[1])
            ),
            text,
        )

    def named(self, name: str) -> str:
        resource, dot, attribute = name.partition(".")
        return self.attribute(resource, attribute) if dot else str(self.ref(name))

    def ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self.pseudo:
            return self.pseudo[name]
        if name in self.template["Parameters"]:
            return self.parameters.get(name, self.template["Parameters"][name]["Default"])
        kind = self.template["Resources"][name]["Type"]
        if kind == "Custom::ContainerImage":
            made = self.properties(name)
            return f"{made['RepositoryUri']}:{made.get('Variant', made['Image'])}-1a2b3c"
        return self.filled(ARN_BY_REF.get(kind, "{name}"), name)

    def attribute(self, name: str, attribute: str) -> str:
        kind = self.template["Resources"][name]["Type"]
        if attribute == "RepositoryUri":
            return self.filled("{account}.dkr.ecr.{region}.{suffix}/{name}", name)
        if attribute != "Arn":
            return f"{name}.{attribute}"
        return self.filled(ARN[kind], name)

    def filled(self, pattern: str, name: str) -> str:
        pseudo = self.pseudo
        return pattern.format(
            partition=pseudo["AWS::Partition"],
            region=self.region,
            account=ACCOUNT,
            suffix=pseudo["AWS::URLSuffix"],
            name=self.physical_name(name),
        )

    def physical_name(self, name: str) -> str:
        resource = self.template["Resources"][name]
        if resource["Type"] == "AWS::S3::Bucket":
            return BUCKET.replace(STACK, self.name)
        given = [resource.get("Properties", {}).get(key) for key in OWN_NAME]
        return next((str(self.resolve(one)) for one in given if one), f"{self.name}-{name}")

    def statements(self, role: str) -> list[dict[str, Any]]:
        """What the role's own policies say, managed ones are not looked into; or what a managed
        policy of the stack says."""
        properties = self.properties(role)
        if self.template["Resources"][role]["Type"] == "AWS::IAM::ManagedPolicy":
            return list(properties["PolicyDocument"]["Statement"])
        policies = [
            *properties.get("Policies", []),
            *(
                policy
                for kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy")
                for policy in self.of_type(kind).values()
                if self.ref(role) in policy.get("Roles", [])
            ),
        ]
        return [
            statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]
        ]

    def allows(self, role: str, action: str, resource: str, **context: str) -> bool:
        """Whether the role may do it, as IAM decides: a condition needs its key in `context`."""
        decision = False
        for statement in self.statements(role):
            if applies(statement, action, resource, context):
                if statement["Effect"] == "Deny":
                    return False
                decision = True
        return decision


@functools.cache
def expanded_in(region: str, repo_root: Path) -> Stack:
    """template.yaml as SAM expands it in this region: SAM's own ARNs are those of its partition."""
    template = yaml_parse((repo_root / "template.yaml").read_text("utf-8"))
    with pytest.MonkeyPatch.context() as patch:
        # As CloudFormation runs it in the region; it asks the environment but once.
        patch.setattr(ArnGenerator, "BOTO_SESSION_REGION_NAME", region)
        return Stack(expand(template), region=region)


def listed(value: Any) -> list[Any]:
    """IAM writes one of a kind without a list around it."""
    return value if isinstance(value, list) else [value]


def applies(statement: dict[str, Any], action: str, resource: str, context: dict[str, str]) -> bool:
    """Whether a policy's statement is about this call."""
    return (
        any(fnmatchcase(action.lower(), one.lower()) for one in listed(statement["Action"]))
        and any(fnmatchcase(resource, one) for one in listed(statement["Resource"]))
        and conditions_hold(statement.get("Condition", {}), context)
    )


def conditions_hold(conditions: dict[str, Any], context: dict[str, str]) -> bool:
    """Whether the context, with "_" for ":" in its keys, meets every condition."""
    for operator, wanted in conditions.items():
        for key, patterns in wanted.items():
            found = context.get(key.replace(":", "_"))
            if not _condition_holds(operator, found, listed(patterns)):
                return False
    return True


def _condition_holds(operator: str, found: str | None, patterns: list[str]) -> bool:
    """Whether a request's value meets a condition; one of several values has them by words.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    if operator == "Null":
        return (found is None) == (patterns == ["true"])
    if operator == "ForAllValues:StringEquals":
        return found is None or set(found.split()) <= set(patterns)
    if operator == "StringEqualsIfExists":
        return found is None or found in patterns
    if operator not in ("StringEquals", "StringLike", "Bool"):
        raise NotImplementedError(operator)
    like = fnmatchcase if operator == "StringLike" else str.__eq__
    return found is not None and any(like(found, one) for one in patterns)


def matches(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether EventBridge would let the event through: the kinds of filter that the template has.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
    """
    for name, wanted in pattern.items():
        if name == "$or":
            if not any(matches(one, event) for one in wanted):
                return False
            continue
        found = event.get(name)
        if isinstance(wanted, dict):
            if not isinstance(found, dict) or not matches(wanted, found):
                return False
        elif not any(_passes(one, found) for one in wanted):
            return False
    return True


def _passes(wanted: Any, found: Any) -> bool:
    if not isinstance(wanted, dict):
        return bool(wanted == found)
    [(operator, text)] = wanted.items()
    if not isinstance(found, str):
        return False
    if isinstance(text, dict):
        [(ignoring, text)] = text.items()
        if ignoring != "equals-ignore-case":
            raise NotImplementedError(ignoring)
        text, found = text.lower(), found.lower()
    if operator == "prefix":
        return found.startswith(text)
    if operator == "suffix":
        return found.endswith(text)
    if operator == "wildcard":
        return (
            re.fullmatch(".*".join(map(re.escape, text.split("*"))), found, re.DOTALL) is not None
        )
    raise NotImplementedError(operator)


def with_parameters(stack: Stack, **values: str) -> Stack:
    """The stack as it is deployed with these parameters."""
    parameters = {
        name: {**entry, "Default": values.get(name, entry["Default"])}
        for name, entry in stack.template["Parameters"].items()
    }
    return dataclasses.replace(stack, template={**stack.template, "Parameters": parameters})
