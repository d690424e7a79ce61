"""Reads the account's quotas.

Service Quotas lists a quota once a value is applied to the account, else its default: both are
read (API reference, ListServiceQuotas and ListAWSDefaultServiceQuotas). Codes are the same in
every account and region; those below are in the AWS General Reference's console links and in public
listings of `aws service-quotas list-service-quotas`. SageMaker has one quota for each instance type
and use, found by its exact name.
"""

from dataclasses import dataclass
from typing import Any

from droplens_cli.preflight.account import Account, UnavailableError

SERVERLESS = (
    "sagemaker",
    "L-96300102",
)  # Maximum total concurrency ... across all serverless endpoints
FARGATE = ("fargate", "L-3032A538")  # Fargate On-Demand vCPU resource count
BUILDS = ("codebuild", "L-9D07B6EF")  # Concurrently running builds for Linux/Small environment
LAMBDA = ("lambda", "L-B99A9384")  # Concurrent executions
VPCS = ("vpc", "L-F678F1CE")  # VPCs per Region


@dataclass(frozen=True, slots=True)
class Quota:
    """service, code: those of Service Quotas; value: the account's."""

    service: str
    code: str
    name: str
    value: float
    adjustable: bool


class Quotas:
    """The quotas of one account and region; each list is read once."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._lists: dict[str, dict[str, Quota]] = {}

    def by_code(self, service: str, code: str) -> Quota:
        """Raises UnavailableError where there is neither an applied nor a default value."""
        request = {"ServiceCode": service, "QuotaCode": code}
        for operation in ("get_service_quota", "get_aws_default_service_quota"):
            response = self._account.call(
                "service-quotas", operation, absent=("NoSuchResourceException",), **request
            )
            if response is not None and "Value" in response["Quota"]:
                return _quota(response["Quota"])
        raise UnavailableError(f"Service Quotas has no {service} quota {code} in this region")

    def by_name(self, service: str, name: str) -> Quota | None:
        """The quota of exactly this name; None where the region has none."""
        return self.all(service).get(name)

    def all(self, service: str) -> dict[str, Quota]:
        """All quotas of a service by name. Raises UnavailableError where there are none."""
        if service not in self._lists:
            found: dict[str, Quota] = {}
            for operation in ("list_aws_default_service_quotas", "list_service_quotas"):
                listed = self._account.pages(
                    "service-quotas", operation, "Quotas", ServiceCode=service
                )
                # The applied values come last and replace the defaults.
                found |= {entry["QuotaName"]: _quota(entry) for entry in listed if "Value" in entry}
            if not found:
                raise UnavailableError(f"Service Quotas lists none of {service} in this region")
            self._lists[service] = found
        return self._lists[service]


def _quota(entry: dict[str, Any]) -> Quota:
    return Quota(
        service=entry["ServiceCode"],
        code=entry["QuotaCode"],
        name=entry["QuotaName"],
        value=entry["Value"],
        adjustable=entry.get("Adjustable", True),
    )
