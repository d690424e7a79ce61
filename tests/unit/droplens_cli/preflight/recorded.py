"""An account that answers over HTTP as AWS documents it: a server with recorded answers.

Each answer is checked against botocore's model of the operation before it is sent in the service's
own protocol, so that no test rests on a shape that AWS does not have.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from botocore.validate import validate_parameters
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model

REGION, ACCOUNT = "eu-west-1", "123456789012"
USER = f"arn:aws:iam::{ACCOUNT}:user/ann"
PAGE = 100

Answer = dict[str, Any] | Exception
Answers = dict[tuple[str, str], Callable[[dict[str, Any]], Answer] | Answer]


class RefusedError(Exception):
    """An error as the service sends it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def refused(code: str, message: str = "") -> RefusedError:
    """An error with the service's own code."""
    return RefusedError(code, message or f"recorded {code}")


def denied(action: str) -> RefusedError:
    """What IAM has a service say."""
    return refused("AccessDenied", f"User: {USER} is not authorized to perform: {action}")


class Recorded:
    """A server of recorded answers. answers: by service and operation; calls: what was asked."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.calls: list[tuple[str, str, dict[str, Any]]] = []

    def answer(self, service: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
        """The response to one request: status, headers and body."""
        self.calls.append((service, name, request))
        model: Any = _model(service)
        operation = model.operation_model(name)
        found = self.answers.get((service, name), denied(f"{service}:{name}"))
        if callable(found):
            found = found(request)
        if isinstance(found, dict):
            validate_parameters(found, operation.output_shape)
        serializer = get_serializer_class(service, model.metadata["protocol"])
        return dict(serializer(operation_model=operation).serialize(found))

    @contextmanager
    def served(self) -> Iterator[str]:
        """The address at which it answers."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()


@cache
def _model(service: str) -> Any:
    return get_service_model(service)


# The name under which a request is signed, where it is not the service's.
SIGNED_AS = {"servicequotas": "service-quotas"}
S3 = {("GET", True): "ListBuckets", ("HEAD", False): "HeadBucket"}


def _handler(recorded: Recorded) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: two wait for each other's acknowledgement

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            signed = re.search(
                r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", self.headers["Authorization"]
            )
            assert signed
            service = SIGNED_AS.get(signed[1], signed[1])
            path = urlsplit(self.path).path
            if target := self.headers.get("X-Amz-Target"):
                name, request = target.rpartition(".")[2], json.loads(body or "{}")
            elif service == "s3":
                name = S3[self.command, path == "/"]
                request = {"Bucket": path.strip("/")}
            else:
                request = dict(parse_qsl(body))
                name = request["Action"]
            response = recorded.answer(service, name, request)
            content = response["body"]
            content = content.encode() if isinstance(content, str) else content
            self.send_response(response["status_code"])
            for key, value in response["headers"].items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_HEAD = answer  # noqa: N815  http.server's names

        def log_message(self, *_: Any) -> None:
            """Nothing: pytest shows what failed."""

    return Handler


# --- Answers ---


def quota(service: str, code: str, name: str, value: float, **more: Any) -> dict[str, Any]:
    """One entry of Service Quotas."""
    return {
        "ServiceCode": service,
        "ServiceName": service,
        "QuotaArn": f"arn:aws:servicequotas:{REGION}:{ACCOUNT}:{service}/{code}",
        "QuotaCode": code,
        "QuotaName": name,
        "Value": value,
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
        **more,
    }


TOTAL = "Maximum total concurrency that can be allocated across all serverless endpoints"
# By code, what a new account has (issue 12; facts, aws-reality.md, finding 5).
NEW_ACCOUNT: dict[str, dict[str, Any]] = {
    "L-96300102": quota("sagemaker", "L-96300102", TOTAL, 10),
    "L-3032A538": quota("fargate", "L-3032A538", "Fargate On-Demand vCPU resource count", 6),
    "L-9D07B6EF": quota(
        "codebuild", "L-9D07B6EF", "Concurrently running builds for Linux/Small environment", 1
    ),
    "L-B99A9384": quota("lambda", "L-B99A9384", "Concurrent executions", 10),
    "L-F678F1CE": quota("vpc", "L-F678F1CE", "VPCs per Region", 5),
}


def instances(**values: float) -> dict[str, dict[str, Any]]:
    """SageMaker's quotas of instances: by `spot`, `demand` or `endpoint`, two underscores and the
    type with underscores for its dots: spot__ml_g5_xlarge=1."""
    uses = {
        "spot": "{} for spot training job usage",
        "demand": "{} for training job usage",
        "endpoint": "{} for endpoint usage",
    }
    found = {}
    for number, (key, value) in enumerate(values.items()):
        use, _, kind = key.partition("__")
        code = f"L-{number:08X}"
        found[code] = quota("sagemaker", code, uses[use].format(kind.replace("_", ".")), value)
    return found


def service_quotas(
    applied: Mapping[str, dict[str, Any]], defaults: Mapping[str, dict[str, Any]] | None = None
) -> Answers:
    """Service Quotas with these values, by code. defaults: of quotas without an applied value."""

    def one(found: Mapping[str, dict[str, Any]]) -> Callable[[dict[str, Any]], Answer]:
        def answer(request: dict[str, Any]) -> Answer:
            entry = found.get(request["QuotaCode"])
            if entry is None or entry["ServiceCode"] != request["ServiceCode"]:
                return refused("NoSuchResourceException")
            return {"Quota": entry}

        return answer

    def listed(found: Mapping[str, dict[str, Any]]) -> Callable[[dict[str, Any]], Answer]:
        def answer(request: dict[str, Any]) -> Answer:
            entries = [e for e in found.values() if e["ServiceCode"] == request["ServiceCode"]]
            start = int(request.get("NextToken", 0))
            page: dict[str, Any] = {"Quotas": entries[start : start + PAGE]}
            if start + PAGE < len(entries):
                page["NextToken"] = str(start + PAGE)
            return page

        return answer

    defaults = defaults or {}
    return {
        ("service-quotas", "GetServiceQuota"): one(applied),
        ("service-quotas", "GetAWSDefaultServiceQuota"): one(defaults),
        ("service-quotas", "ListServiceQuotas"): listed(applied),
        ("service-quotas", "ListAWSDefaultServiceQuotas"): listed(defaults),
    }


def simulated(denied_actions: Mapping[str, dict[str, Any]] | None = None) -> Answers:
    """IAM's simulation, which allows all but these. denied_actions: with what to add."""
    denied_actions = denied_actions or {}

    def answer(request: dict[str, Any]) -> Answer:
        actions = [value for key, value in request.items() if key.startswith("ActionNames.")]
        return {
            "IsTruncated": False,
            "EvaluationResults": [
                {
                    "EvalActionName": action,
                    "EvalResourceName": request["ResourceArns.member.1"],
                    "EvalDecision": "allowed",
                    "MatchedStatements": [],
                    "MissingContextValues": [],
                    **denied_actions.get(action, {}),
                }
                for action in actions
            ],
        }

    return {("iam", "SimulatePrincipalPolicy"): answer}


def empty_account(quotas: Mapping[str, dict[str, Any]] | None = None, arn: str = USER) -> Answers:
    """An account with nothing in it, where everything is allowed."""
    missing = refused("ValidationError", "Stack with id droplens does not exist")
    return {
        ("sts", "GetCallerIdentity"): {"UserId": "AIDA", "Account": ACCOUNT, "Arn": arn},
        ("cloudformation", "DescribeStacks"): missing,
        ("logs", "DescribeLogGroups"): {"logGroups": []},
        ("ecr", "DescribeRepositories"): refused("RepositoryNotFoundException"),
        ("s3", "ListBuckets"): {"Buckets": []},
        ("dynamodb", "ListTables"): {"TableNames": []},
        ("ec2", "DescribeVpcs"): {"Vpcs": [{"VpcId": "vpc-1", "IsDefault": True}]},
        ("sagemaker", "ListEndpoints"): {"Endpoints": []},
        **service_quotas(quotas or NEW_ACCOUNT),
        **simulated(),
    }
