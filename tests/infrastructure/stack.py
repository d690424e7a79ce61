"""The template as it would be deployed: values filled in, rules and policies that can be asked."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

REGION, ACCOUNT, STACK = "us-east-1", "123456789012", "droplens"
BUCKET = "droplens-bucket-8k3mwq2ra1xz"  # that of the recorded events
NO_VALUE = object()
PSEUDO = {
    "AWS::NoValue": NO_VALUE,
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::StackName": STACK,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
# What Ref gives, where it is not a name.
ARN_BY_REF = {
    "AWS::Batch::JobQueue": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{STACK}-packing",
    "AWS::Batch::JobDefinition": (
        f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/{STACK}-batch-prep:1"
    ),
    "AWS::SNS::Topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:{{name}}",
    "AWS::SQS::Queue": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{{name}}",
}
ARN = {
    "AWS::S3::Bucket": f"arn:aws:s3:::{BUCKET}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{name}}",
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{{name}}",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{name}}",
    "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{name}}",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{name}}:*",
    "AWS::ECR::Repository": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{{name}}",
    "AWS::Events::Rule": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{{name}}",
}


@dataclass(frozen=True)
class Stack:
    """A CloudFormation template, deployed with the defaults of its parameters."""

    template: dict[str, Any]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The filled-in properties of every resource of this type, by logical id."""
        return {
            name: self.properties(name)
            for name, resource in self.template["Resources"].items()
            if resource["Type"] == kind
        }

    def properties(self, name: str) -> dict[str, Any]:
        return dict(self.resolve(self.template["Resources"][name].get("Properties", {})))

    def resolve(self, value: Any) -> Any:
        """`value` with its intrinsic functions worked out."""
        if isinstance(value, list):
            resolved = [self.resolve(entry) for entry in value]
            return [entry for entry in resolved if entry is not NO_VALUE]
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
            if function == "Fn::If":
                name, then, otherwise = argument
                return self.resolve(then if self.holds({"Condition": name}) else otherwise)
        return {key: self.resolve(entry) for key, entry in value.items()}

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

    def holds(self, condition: dict[str, Any]) -> bool:
        """Whether a condition is met by the parameters' defaults."""
        [(function, argument)] = condition.items()
        if function == "Condition":
            return self.holds(self.template["Conditions"][argument])
        if function == "Fn::Not":
            return not self.holds(argument[0])
        if function == "Fn::Equals":
            left, right = self.resolve(argument)
            return str(left) == str(right)
        raise NotImplementedError(function)

    def named(self, name: str) -> str:
        resource, dot, attribute = name.partition(".")
        return self.attribute(resource, attribute) if dot else str(self.ref(name))

    def ref(self, name: str) -> Any:
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.template["Parameters"]:
            return self.template["Parameters"][name]["Default"]
        kind = self.template["Resources"][name]["Type"]
        return ARN_BY_REF.get(kind, "{name}").format(name=self.physical_name(name))

    def attribute(self, name: str, attribute: str) -> str:
        kind = self.template["Resources"][name]["Type"]
        if attribute != "Arn":
            return f"{name}.{attribute}"
        return ARN[kind].format(name=self.physical_name(name))

    def physical_name(self, name: str) -> str:
        resource = self.template["Resources"][name]
        if resource["Type"] == "AWS::S3::Bucket":
            return BUCKET
        own = ("FunctionName", "LogGroupName", "RepositoryName")
        given = [resource.get("Properties", {}).get(key) for key in own]
        return next((str(self.resolve(one)) for one in given if one), f"{STACK}-{name}")

    def statements(self, role: str) -> list[dict[str, Any]]:
        """What the role's own policies say; managed ones are not looked into."""
        properties = self.properties(role)
        return [
            statement
            for policy in properties.get("Policies", [])
            for statement in policy["PolicyDocument"]["Statement"]
        ]

    def allows(self, role: str, action: str, resource: str, **context: str) -> bool:
        """Whether the role may do it, as IAM decides: a condition needs its key in `context`."""
        decision = False
        for statement in self.statements(role):
            if (
                any(fnmatchcase(action.lower(), one.lower()) for one in listed(statement["Action"]))
                and any(fnmatchcase(resource, one) for one in listed(statement["Resource"]))
                and conditions_hold(statement.get("Condition", {}), context)
            ):
                if statement["Effect"] == "Deny":
                    return False
                decision = True
        return decision


def listed(value: Any) -> list[Any]:
    """IAM writes one of a kind without a list around it."""
    return value if isinstance(value, list) else [value]


def conditions_hold(conditions: dict[str, Any], context: dict[str, str]) -> bool:
    """Whether the context, with "_" for ":" in its keys, meets every condition."""
    for operator, wanted in conditions.items():
        if operator not in ("StringEquals", "StringLike"):
            raise NotImplementedError(operator)
        for key, patterns in wanted.items():
            found = context.get(key.replace(":", "_"))
            if found is None or not any(fnmatchcase(found, one) for one in listed(patterns)):
                return False
    return True


def matches(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether EventBridge would let the event through: the kinds of filter that the template has.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
    """
    for name, wanted in pattern.items():
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
    if operator == "prefix":
        return found.startswith(text)
    if operator == "wildcard":
        return (
            re.fullmatch(".*".join(map(re.escape, text.split("*"))), found, re.DOTALL) is not None
        )
    raise NotImplementedError(operator)
