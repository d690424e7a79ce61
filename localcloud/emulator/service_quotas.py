"""The API of Service Quotas.

A request for an increase is granted at once, where AWS takes minutes to days.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any

from localcloud.containers.runtime import Runtime
from localcloud.emulator.authorization import Permission
from localcloud.emulator.quotas import QUOTAS, Quota
from localcloud.emulator.service import Parameters, Request, Response, ServiceError, ServiceFront
from localcloud.settings import ACCOUNT, REGION

_PAGE = 100
_SERVICES = {
    "sagemaker": "Amazon SageMaker",
    "fargate": "AWS Fargate",
    "codebuild": "AWS CodeBuild",
    "lambda": "AWS Lambda",
    "vpc": "Amazon Virtual Private Cloud (Amazon VPC)",
}


def _needed(operation: str, _request: dict[str, Any]) -> Iterator[Permission]:
    yield Permission(f"servicequotas:{operation}", "*")


class ServiceQuotas:
    """The service. Operations are methods from request to response parameters."""

    def __init__(self, runtime: Runtime):
        self._quotas = runtime.quotas
        self._front = ServiceFront(
            "service-quotas",
            {
                "ListServices": self._list_services,
                "ListServiceQuotas": self._list,
                "ListAWSDefaultServiceQuotas": self._list_defaults,
                "GetServiceQuota": self._get,
                "GetAWSDefaultServiceQuota": self._get_default,
                "RequestServiceQuotaIncrease": self._request_increase,
            },
            validation_error="IllegalArgumentException",
            authorize=runtime.authorizer(_needed),
        )

    def handle(self, request: Request) -> Response:
        """One HTTP request (JSON 1.1)."""
        operation = request.headers.get("x-amz-target", "").rpartition(".")[2]
        try:
            parameters = json.loads(request.body) if request.body.strip() else {}
        except ValueError as error:
            return ServiceError("SerializationException", f"not JSON: {error}").response()
        return self._front.call(operation, parameters, request)

    def _list_services(self, _request: Parameters) -> Parameters:
        services = [{"ServiceCode": code, "ServiceName": name} for code, name in _SERVICES.items()]
        return {"Services": services}

    def _list(self, request: Parameters) -> Parameters:
        return _page(request, [self._shown(quota) for quota in _of_service(request)])

    def _list_defaults(self, request: Parameters) -> Parameters:
        return _page(request, [_described(q, q.published) for q in _of_service(request)])

    def _get(self, request: Parameters) -> Parameters:
        return {"Quota": self._shown(_one(request))}

    def _get_default(self, request: Parameters) -> Parameters:
        quota = _one(request)
        return {"Quota": _described(quota, quota.published)}

    def _request_increase(self, request: Parameters) -> Parameters:
        quota, wanted = _one(request), request["DesiredValue"]
        if wanted <= self._quotas.value(quota.name):
            raise ServiceError(
                "IllegalArgumentException",
                "You must provide a quota value that is greater than the current quota value.",
            )
        self._quotas.change({quota.name: wanted})
        requested = {
            "Id": uuid.uuid4().hex,
            "DesiredValue": wanted,
            "Status": "PENDING",
            **_described(quota, wanted),
        }
        return {"RequestedQuota": requested}

    def _shown(self, quota: Quota) -> Parameters:
        return _described(quota, self._quotas.value(quota.name))


def _described(quota: Quota, value: float) -> Parameters:
    return {
        "ServiceCode": quota.service,
        "ServiceName": _SERVICES[quota.service],
        "QuotaArn": f"arn:aws:servicequotas:{REGION}:{ACCOUNT}:{quota.service}/{quota.code}",
        "QuotaCode": quota.code,
        "QuotaName": quota.name,
        "Value": float(value),
        "Unit": quota.unit,
        "Adjustable": True,
        "GlobalQuota": False,
        "QuotaAppliedAtLevel": "ACCOUNT",
    }


def _of_service(request: Parameters) -> list[Quota]:
    service = request["ServiceCode"]
    if service not in _SERVICES:
        raise ServiceError(
            "NoSuchResourceException", f"The request failed because service {service} is unknown."
        )
    wanted = request.get("QuotaCode")
    return [q for q in QUOTAS if q.service == service and wanted in (None, q.code)]


def _one(request: Parameters) -> Quota:
    found = _of_service(request)
    if not found:
        raise ServiceError(
            "NoSuchResourceException",
            "The request failed because the specified service quota does not exist.",
        )
    return found[0]


def _page(request: Parameters, found: list[Parameters]) -> Parameters:
    start = int(request.get("NextToken") or 0)
    end = start + request.get("MaxResults", _PAGE)
    more = {"NextToken": str(end)} if end < len(found) else {}
    return {"Quotas": found[start:end], **more}
