"""The account's service quotas.

An account begins with a new account's quotas, which AWS does not publish; `new` below is what new
accounts were observed to have. `published` is AWS's default, which accounts grow into. A type of
instance that is missing here has a quota of 0, as new types do.

Sources: General Reference, "Amazon SageMaker AI endpoints and quotas", "AWS Fargate service
quotas", "AWS CodeBuild endpoints and quotas", "Lambda quotas"; serverless concurrency of 10:
re:Post "total concurrency for serverless inference is not 200 only 10"; instances of 0: GitHub
gabehollombe-aws/jupyter-notebooks 1, awsdocs/amazon-sagemaker-developer-guide 70 (which also has
the 4 instances across all training jobs), zenml-io/zenml 847.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from localcloud.settings import LocalCloudError

_USAGE = re.compile(
    r"ml\.[a-z0-9-]+\.[a-z0-9]+ for (spot training job|training job|endpoint) usage"
)


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota. code: AWS's, or "" where it is not known here."""

    service: str
    code: str
    name: str
    new: float
    published: float
    unit: str = "None"


ACROSS_TRAINING = "Number of instances across all training jobs"
ACROSS_SPOT_TRAINING = "Number of instances across all spot training jobs"
LONGEST_TRAINING = "Longest run time for a training job"
TRAINING_VOLUME = "Size of EBS volume for a training job instance"
SERVERLESS_ENDPOINTS = "Maximum number of serverless endpoints"
SMALL_BUILDS = "Concurrently running builds for Linux/Small environment"
SERVERLESS_CONCURRENCY = (
    "Maximum total concurrency that can be allocated across all serverless endpoints"
)
FARGATE_VCPUS = "Fargate On-Demand vCPU resource count"
FARGATE_SPOT_VCPUS = "Fargate Spot vCPU resource count"

_NEW_INSTANCES = 4
"""Of a type without a GPU, on demand. Many new accounts have none of these either; with none,
no training could run."""

# (type, training: code, published; spot training: code, published; endpoint: code, published)
_INSTANCES = (
    ("ml.m5.large", "L-611FA074", 30, "L-29688C85", 20, "L-614B09FD", 16),
    ("ml.m5.xlarge", "L-CCE2AFA6", 30, "L-4CEE6BA6", 20, "L-2F737F8D", 16),
    ("ml.m5.2xlarge", "L-AD0A282D", 30, "L-4A823FAB", 20, "L-C88C8F13", 8),
    ("ml.m5.4xlarge", "L-AFB011B4", 30, "L-2A6ACFF7", 10, "L-E2649D46", 4),
    ("ml.m5.12xlarge", "L-6F6C8949", 5, "L-29B03627", 3, "L-A9F2A8B3", 2),
    ("ml.m5.24xlarge", "L-56C564CA", 3, "L-D0EA3DC8", 2, "L-329751EB", 1),
    ("ml.m6i.large", "L-514B50A3", 30, "L-7E503C5F", 20, "", 0),
    ("ml.m6i.xlarge", "L-3A218EBD", 30, "L-3597CD5B", 20, "", 0),
    ("ml.m6i.2xlarge", "L-AE3447AD", 30, "L-39DC8B41", 20, "", 0),
    ("ml.c5.large", "", 0, "", 0, "L-4D27DFDD", 16),
    ("ml.c5.xlarge", "L-E2BB44FE", 30, "L-6FA0D387", 20, "L-E9EE5599", 8),
    ("ml.c5.2xlarge", "L-49679826", 30, "L-4581C083", 20, "L-E091038E", 4),
    ("ml.c5.4xlarge", "L-E7898792", 8, "L-36C5FA8E", 5, "L-FEF755D6", 4),
    ("ml.c6i.large", "", 0, "", 0, "L-3C2EBC55", 16),
    ("ml.c6i.xlarge", "L-D526E050", 30, "L-6074B0D4", 20, "L-28FF72CA", 8),
    ("ml.c6i.2xlarge", "L-536D2DD2", 30, "L-8BB74069", 20, "L-4FDB33AC", 4),
    ("ml.t2.medium", "", 0, "", 0, "L-29C181D7", 30),
    ("ml.t2.large", "", 0, "", 0, "L-1410387A", 30),
    ("ml.g4dn.xlarge", "L-3F53BF0F", 1, "L-944F78BB", 1, "L-B67CFA0C", 4),
    ("ml.g4dn.2xlarge", "L-C2495BC4", 1, "L-0496610F", 1, "L-EA346344", 2),
    ("ml.g5.xlarge", "L-B6D80D9C", 1, "L-DE07CBDF", 1, "L-1928E07B", 4),
    ("ml.g5.2xlarge", "L-2D6DEB3C", 1, "L-CAEE7DB7", 1, "L-9614C779", 2),
    ("ml.g5.4xlarge", "L-FE869B40", 1, "L-DB4D51CF", 1, "L-C1B9A48D", 2),
    ("ml.g6.xlarge", "L-56AE9D73", 0, "L-A886A53A", 0, "", 0),
    ("ml.p3.2xlarge", "L-D438008E", 1, "L-2D4C6493", 1, "L-1623D0BE", 2),
    ("ml.p4d.24xlarge", "L-09B4A649", 0, "L-09D56C4F", 0, "L-09F79647", 0),
)


def training_quota(instance_type: str, *, spot: bool) -> str:
    """The name of the quota of training instances of one type."""
    return f"{instance_type} for {'spot ' if spot else ''}training job usage"


def endpoint_quota(instance_type: str) -> str:
    """The name of the quota of endpoint instances of one type."""
    return f"{instance_type} for endpoint usage"


def _of_instances() -> Iterator[Quota]:
    for kind, training, on_demand, spot_training, spot, endpoint, serving in _INSTANCES:
        new = 0 if re.match(r"ml\.[gp]\d", kind) else _NEW_INSTANCES
        for code, name, first, published in (
            (training, training_quota(kind, spot=False), new, on_demand),
            (spot_training, training_quota(kind, spot=True), 0, spot),
            (endpoint, endpoint_quota(kind), new, serving),
        ):
            if code:
                yield Quota("sagemaker", code, name, min(first, published), published)


QUOTAS = (
    *_of_instances(),
    Quota("sagemaker", "L-00C91CB5", ACROSS_TRAINING, 4, 30),
    Quota("sagemaker", "L-93958082", ACROSS_SPOT_TRAINING, 4, 20),
    Quota("sagemaker", "L-99AD19BF", SERVERLESS_ENDPOINTS, 5, 50),
    Quota("sagemaker", "L-96300102", SERVERLESS_CONCURRENCY, 10, 200),
    Quota("sagemaker", "L-33A961FD", LONGEST_TRAINING, 432000, 432000, "Second"),
    Quota("sagemaker", "L-C5A266EB", TRAINING_VOLUME, 1024, 1024, "Gigabytes"),
    Quota("fargate", "L-3032A538", FARGATE_VCPUS, 6, 6),
    Quota("fargate", "L-36FBB829", FARGATE_SPOT_VCPUS, 6, 6),
    Quota(
        "codebuild",
        "L-9D07B6EF",
        SMALL_BUILDS,
        1,
        60,
    ),
    Quota(
        "codebuild",
        "L-2DC20C30",
        "Concurrently running builds for Linux/Medium environment",
        1,
        60,
    ),
    Quota("lambda", "L-B99A9384", "Concurrent executions", 10, 1000),
    Quota("vpc", "L-F678F1CE", "VPCs per Region", 5, 5),
)
_BY_NAME = {quota.name: quota for quota in QUOTAS}
_BY_CODE = {quota.code: quota for quota in QUOTAS}


class Quotas:
    """The account's quotas. The changed ones are in a JSON file, by quota name."""

    def __init__(self, file: Path):
        self._file = file

    def value(self, name: str) -> float:
        """The current value of a quota; 0 for an unknown one."""
        quota = _BY_NAME.get(name)
        return self._changed().get(name, quota.new if quota else 0.0)

    def change(self, wanted: Mapping[str, float]) -> None:
        """Set quotas, by their codes or names. Raises LocalCloudError for an unknown one."""
        named = {}
        for reference, value in wanted.items():
            quota = _BY_CODE.get(reference) or _BY_NAME.get(reference)
            if quota is None and not _USAGE.fullmatch(reference):
                raise LocalCloudError(
                    f"no quota is known by {reference!r}; python -m localcloud quotas lists them"
                )
            if value < 0:
                raise LocalCloudError(f"{reference} must not be negative")
            named[quota.name if quota else reference] = value
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps({**self._changed(), **named}), encoding="utf-8")
        temporary.replace(self._file)

    def apply_published_defaults(self) -> None:
        """Set every quota to AWS's published default."""
        self.change({quota.name: quota.published for quota in QUOTAS})

    def reset(self) -> None:
        """Set every quota to that of a new account."""
        self._file.unlink(missing_ok=True)

    def _changed(self) -> dict[str, float]:
        try:
            changed: dict[str, float] = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return changed


def limit_exceeded(quota: str, limit: float, used: float, more: float, unit: str) -> str:
    """The message of SageMaker's ResourceLimitExceeded; `unit` is Instances or None."""
    return (
        f"The account-level service limit '{quota}' is {limit:g} {unit}, with current utilization "
        f"of {used:g} {unit} and a request delta of {more:g} {unit}. Please use AWS Service Quotas "
        "to request an increase for this quota. If AWS Service Quotas is not available, contact "
        "AWS support to request an increase for this quota."
    )
