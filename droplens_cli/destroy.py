"""Removes a stack with all that its runs have created, which CloudFormation alone would keep.

What belongs to the stack is found through
its resources and its Runs table, by exact names: `droplens-dev-...` may be another stack's.

The tables are removed after all that is found through them, and the stack last, so that an
interrupted removal can be repeated. What AWS keeps as history (ended jobs) stays, and sam's own
bucket of uploaded code, which other stacks of the account share.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from botocore.exceptions import ClientError, WaiterError

from droplens.domain.naming import SEPARATOR, group_name, resource_name
from droplens_cli.errors import CommandError

ENDPOINT_IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack")
JOB_IN_PROGRESS = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"
ENDPOINT_LOGS = "/aws/sagemaker/Endpoints/"
POLL_SECONDS = 2
TIMEOUT_SECONDS = 600
# Object versions of a bucket that are counted for the confirmation: a thousand a request.
MOST_COUNTED = 200_000
# A custom resource waits for its image for up to an hour.
SETTLE_SECONDS = 4500


@dataclass(frozen=True, slots=True)
class Removal:
    """The removal of one resource. remove: does it; raises ClientError where AWS refuses."""

    kind: str
    name: str
    remove: Callable[[], Any]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Run:
    """A run: its classifier, and the names of the jobs, models and endpoints it may have made."""

    classifier: str
    names: frozenset[str]


class Account:
    """One stack's part of the account."""

    def __init__(self, session: Any, stack: str) -> None:
        self.stack = stack
        self.client: Callable[[str], Any] = session.client
        self.status = stack_status(session, stack)
        self.resources = self._resources()
        self.runs = self._runs()

    def removals(self) -> Iterator[Removal]:
        """Removals of what exists now, in order: first of what would create more."""
        yield from self._rules()
        yield from self._jobs()
        yield from self._trainings()
        yield from self._hosting()
        yield from self._registry()
        yield from self._logs()
        yield from self._bucket()

    def attached(self) -> list[str]:
        """The ARNs of the stack's managed policies that are attached to somebody: CloudFormation
        deletes none of these, and so not the stack."""
        iam = self.client("iam")
        found = []
        for arn in self._physical("AWS::IAM::ManagedPolicy"):
            try:
                policy = iam.get_policy(PolicyArn=arn)["Policy"]
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchEntity":
                    raise
                continue
            if policy["AttachmentCount"]:
                found.append(arn)
        return found

    def tables_and_stack(self) -> Iterator[Removal]:
        """Removals of the tables and the stack, through which all others are found."""
        for table in self._physical("AWS::DynamoDB::Table"):
            dynamodb = self.client("dynamodb")
            if _exists(partial(dynamodb.describe_table, TableName=table)):
                yield Removal("table", table, partial(self._delete_table, table))
        if self.status:
            yield Removal("stack", self.stack, self._delete_stack)

    def late_logs(self) -> Iterator[Removal]:
        """Removals of log groups that running functions created again after the stack's end."""
        logs = self.client("logs")
        for group in self._physical("AWS::Logs::LogGroup"):
            groups = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
            if any(entry["logGroupName"] == group for entry in groups):
                yield Removal("log", group, partial(logs.delete_log_group, logGroupName=group))

    def _resources(self) -> list[tuple[str, str, str]]:
        """(type, logical id, physical id) of each resource of the stack; none where there is no
        stack.

        Also of those in its events: after a creation that was rolled back, the retained bucket and
        tables may be no resources of the stack any more.
        """
        if not self.status:
            return []
        cloudformation = self.client("cloudformation")
        found: dict[tuple[str, str, str], None] = {}
        for listing, entries in (
            ("list_stack_resources", "StackResourceSummaries"),
            ("describe_stack_events", "StackEvents"),
        ):
            for page in cloudformation.get_paginator(listing).paginate(StackName=self.stack):
                for entry in page[entries]:
                    if physical := entry.get("PhysicalResourceId"):
                        logical = entry["LogicalResourceId"]
                        found[entry["ResourceType"], logical, physical] = None
        return list(found)

    def _physical(self, kind: str, logical: str | None = None) -> list[str]:
        return [
            name for found, own, name in self.resources if found == kind and logical in (None, own)
        ]

    def _runs(self) -> list[Run]:
        found = []
        for table in self._physical("AWS::DynamoDB::Table", "Runs"):
            dynamodb = self.client("dynamodb")
            if not _exists(partial(dynamodb.describe_table, TableName=table)):
                continue
            for page in dynamodb.get_paginator("scan").paginate(
                TableName=table, ConsistentRead=True
            ):
                for item in page["Items"]:
                    classifier, run_id = item["classifier"]["S"], item["run_id"]["S"]
                    known = {
                        item[fact]["S"] for fact in ("endpoint", "training_job") if fact in item
                    }
                    known.update(item.get("to_remove", {}).get("SS", []))
                    tries = max([1, *(_try_of(run_id, name) for name in known)])
                    names = {
                        resource_name(self.stack, classifier, f"{run_id}-{number}")
                        for number in range(2, tries)
                    }
                    name = resource_name(self.stack, classifier, run_id)
                    found.append(Run(classifier, frozenset({name, *names, *known})))
        return found

    @property
    def names(self) -> set[str]:
        """The names under which the runs' jobs, models and endpoints were made."""
        return {name for run in self.runs for name in run.names}

    def _rules(self) -> Iterator[Removal]:
        events = self.client("events")
        for rule in self._physical("AWS::Events::Rule"):
            name = rule.rsplit("/", 1)[-1]
            try:
                enabled = events.describe_rule(Name=name)["State"] == "ENABLED"
            except ClientError as error:
                if error.response["Error"]["Code"] != "ResourceNotFoundException":
                    raise
                continue
            if enabled:
                yield Removal("rule", name, partial(events.disable_rule, Name=name))

    def _jobs(self) -> Iterator[Removal]:
        batch = self.client("batch")
        for queue in self._physical("AWS::Batch::JobQueue"):
            if not batch.describe_job_queues(jobQueues=[queue])["jobQueues"]:
                continue  # it was removed with the stack
            for status in JOB_IN_PROGRESS:
                for page in batch.get_paginator("list_jobs").paginate(
                    jobQueue=queue, jobStatus=status
                ):
                    for job in page["jobSummaryList"]:
                        yield Removal(
                            "packing job",
                            job["jobId"],
                            partial(self._end_job, job["jobId"]),
                        )
        for definition in self._physical("AWS::Batch::JobDefinition"):
            name = definition.rsplit("/", 1)[-1].split(":")[0]
            for page in batch.get_paginator("describe_job_definitions").paginate(
                jobDefinitionName=name, status="ACTIVE"
            ):
                for revision in page["jobDefinitions"]:
                    arn = revision["jobDefinitionArn"]
                    yield Removal(
                        "job definition",
                        arn.rsplit("/", 1)[-1],
                        partial(batch.deregister_job_definition, jobDefinition=arn),
                    )

    def _trainings(self) -> Iterator[Removal]:
        for job in self._named("list_training_jobs", "TrainingJobSummaries", "TrainingJobName"):
            if job["TrainingJobStatus"] in ("InProgress", "Stopping"):
                name = job["TrainingJobName"]
                yield Removal("training", name, partial(self._stop_training, name))

    def _hosting(self) -> Iterator[Removal]:
        sagemaker = self.client("sagemaker")
        for kind, listing, member, key, remove in (
            ("endpoint", "list_endpoints", "Endpoints", "EndpointName", "delete_endpoint"),
            (
                "endpoint config",
                "list_endpoint_configs",
                "EndpointConfigs",
                "EndpointConfigName",
                "delete_endpoint_config",
            ),
            ("model", "list_models", "Models", "ModelName", "delete_model"),
        ):
            for entry in self._named(listing, member, key):
                request = {key: entry[key]}
                call = partial(getattr(sagemaker, remove), **request)
                if kind == "endpoint":
                    call = partial(self._delete_endpoint, entry[key])
                yield Removal(kind, entry[key], call)

    def _named(self, listing: str, member: str, key: str) -> list[dict[str, Any]]:
        """SageMaker's entries with the exact name of one of the runs."""
        pages = self.client("sagemaker").get_paginator(listing).paginate()
        names = self.names
        return [entry for page in pages for entry in page[member] if entry[key] in names]

    def _registry(self) -> Iterator[Removal]:
        sagemaker = self.client("sagemaker")
        for classifier in sorted({run.classifier for run in self.runs}):
            group = group_name(self.stack, classifier)
            if not _exists(
                partial(sagemaker.describe_model_package_group, ModelPackageGroupName=group)
            ):
                continue
            has_others = False
            for page in sagemaker.get_paginator("list_model_packages").paginate(
                ModelPackageGroupName=group
            ):
                for package in page["ModelPackageSummaryList"]:
                    arn = package["ModelPackageArn"]
                    described = sagemaker.describe_model_package(ModelPackageName=arn)
                    origin = described.get("CustomerMetadataProperties", {}).get("training-job")
                    if origin not in self.names:
                        has_others = True
                        continue
                    yield Removal(
                        "registered model",
                        arn.split("/", 1)[-1],
                        partial(sagemaker.delete_model_package, ModelPackageName=arn),
                    )
            if not has_others:
                yield Removal(
                    "registry group",
                    group,
                    partial(sagemaker.delete_model_package_group, ModelPackageGroupName=group),
                )

    def _logs(self) -> Iterator[Removal]:
        logs = self.client("logs")
        names = self.names
        for page in logs.get_paginator("describe_log_groups").paginate(
            logGroupNamePrefix=ENDPOINT_LOGS
        ):
            for entry in page["logGroups"]:
                group = entry["logGroupName"]
                if group.removeprefix(ENDPOINT_LOGS) in names:
                    yield Removal("log", group, partial(logs.delete_log_group, logGroupName=group))
        try:
            pages = list(
                logs.get_paginator("describe_log_streams").paginate(
                    logGroupName=TRAINING_LOGS, logStreamNamePrefix=self.stack + SEPARATOR
                )
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return  # no training in this account yet
        for page in pages:
            for entry in page["logStreams"]:
                stream = entry["logStreamName"]
                if stream.split("/")[0] in names:
                    yield Removal(
                        "training log",
                        stream,
                        partial(
                            logs.delete_log_stream, logGroupName=TRAINING_LOGS, logStreamName=stream
                        ),
                    )

    def _bucket(self) -> Iterator[Removal]:
        s3 = self.client("s3")
        for bucket in self._physical("AWS::S3::Bucket"):
            if _exists(partial(s3.head_bucket, Bucket=bucket)):
                yield Removal("bucket", bucket, partial(empty_and_delete, s3, bucket))

    def content(self, removal: Removal) -> str:
        """The content of a bucket: ", 1,234 object versions, 5.6 GB"; "" for all other kinds.

        Counts MOST_COUNTED versions at most, and then says "more than".
        """
        if removal.kind != "bucket":
            return ""
        versions = size = 0
        pages = (
            self.client("s3").get_paginator("list_object_versions").paginate(Bucket=removal.name)
        )
        for page in pages:
            found = page.get("Versions", [])
            versions += len(found)
            size += sum(version["Size"] for version in found)
            if versions >= MOST_COUNTED:
                break
        more = "more than " if versions >= MOST_COUNTED else ""
        what = "object version" if versions == 1 else "object versions"
        return f", {more}{versions:,} {what}, {more}{in_bytes(size)}"

    def _end_job(self, job: str) -> None:
        batch = self.client("batch")
        batch.terminate_job(jobId=job, reason="the stack is removed")

        def ended() -> bool:
            [described] = batch.describe_jobs(jobs=[job])["jobs"]
            return described["status"] not in JOB_IN_PROGRESS

        _wait_until(ended)

    def _stop_training(self, name: str) -> None:
        sagemaker = self.client("sagemaker")

        def status() -> str:
            described = sagemaker.describe_training_job(TrainingJobName=name)
            return str(described["TrainingJobStatus"])

        if status() == "InProgress":
            sagemaker.stop_training_job(TrainingJobName=name)
        _wait_until(lambda: status() not in ("InProgress", "Stopping"))

    def _delete_endpoint(self, name: str) -> None:
        """SageMaker deletes no endpoint that is in progress, which takes minutes."""
        sagemaker = self.client("sagemaker")

        def settled() -> bool:
            status: str = sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
            return status not in ENDPOINT_IN_PROGRESS

        _wait_until(settled)
        sagemaker.delete_endpoint(EndpointName=name)

    def _delete_table(self, table: str) -> None:
        dynamodb = self.client("dynamodb")
        dynamodb.delete_table(TableName=table)
        dynamodb.get_waiter("table_not_exists").wait(
            TableName=table, WaiterConfig={"Delay": POLL_SECONDS, "MaxAttempts": 150}
        )

    def _delete_stack(self) -> None:
        cloudformation = self.client("cloudformation")
        cloudformation.delete_stack(StackName=self.stack)
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=self.stack,
            WaiterConfig={"Delay": POLL_SECONDS, "MaxAttempts": 900},
        )


def in_bytes(size: int) -> str:
    """A size in words, as S3 is billed and shown: 1 GB is 1000^3 bytes."""
    for unit, factor in (("GB", 1000**3), ("MB", 1000**2), ("kB", 1000)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} bytes"


def stack_status(session: Any, stack: str) -> str:
    """CloudFormation's status of the stack, or "" where there is none."""
    try:
        [found] = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return ""
    status: str = found["StackStatus"]
    return status


def settle(session: Any, stack: str) -> None:
    """Wait until no operation of CloudFormation on the stack is in progress, with a message.

    Resources that it is still creating would be missed.
    """

    def in_progress() -> bool:
        # A stack that has only a change set is in review until that is executed.
        status = stack_status(session, stack)
        return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"

    if in_progress():
        print(f"CloudFormation is at work on {stack}; its removal begins when that has ended")
        _wait_until(lambda: not in_progress(), SETTLE_SECONDS)


def _try_of(run_id: str, name: str) -> int:
    """The attempt of the run's stage in which the resource of this name was made, from 1."""
    found = re.search(rf"{re.escape(run_id)}-(\d+)$", name)
    return int(found[1]) if found else 1


def empty_and_delete(s3: Any, bucket: str) -> None:
    """Remove every version, delete marker and unfinished upload, then the bucket itself."""
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [
            {"Key": entry["Key"], "VersionId": entry["VersionId"]}
            for kind in ("Versions", "DeleteMarkers")
            for entry in page.get(kind, [])
        ]
        if found:
            # Errors for single objects show when the bucket is deleted: it is not empty.
            s3.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})
    s3.delete_bucket(Bucket=bucket)


def _wait_until(ended: Callable[[], bool], timeout: float | None = None) -> None:
    """Wait until ended(), or until the timeout: the final listing shows what is left."""
    until = time.monotonic() + (TIMEOUT_SECONDS if timeout is None else timeout)
    while not ended() and time.monotonic() < until:
        time.sleep(POLL_SECONDS)


def _exists(describe: Callable[[], Any]) -> bool:
    """Whether the described resource exists. Raises ClientError for all other errors."""
    absent = ("ResourceNotFoundException", "ValidationException", "NoSuchBucket", "404")
    try:
        describe()
    except ClientError as error:
        if error.response["Error"]["Code"] not in absent:
            raise
        return False
    return True


def _remove(removals: list[Removal]) -> None:
    """Remove each; print what AWS refuses, and continue with the others."""
    for removal in removals:
        try:
            removal.remove()
        except (ClientError, WaiterError) as error:
            print(f"  {removal} stays: {error}", file=sys.stderr)
        else:
            print(f"  {removal} is gone")


def destroy(session: Any, stack: str, *, confirmed: Callable[[str], bool]) -> list[str]:
    """Remove the stack and what it has created; returns what is left.

    confirmed: called once with the stack's name, after the removals are listed. Raises CommandError
    where it returns False; nothing is removed then.
    """
    settle(session, stack)
    account = Account(session, stack)
    wanted = [*account.removals(), *account.tables_and_stack()]
    if not wanted:
        print(f"there is no stack {stack}")
        return []
    if attached := account.attached():
        raise CommandError(
            f"{attached[0]} is attached to users, groups or roles, and is not deleted while it is",
            "`aws iam list-entities-for-policy` lists them; detach it, then run the same command",
        )
    print(f"These go, with all they hold, from the stack {stack}:")
    for removal in wanted:
        print(f"  {removal}{account.content(removal)}")
    if not confirmed(stack):
        raise CommandError("nothing was removed", "run it again to be asked again")
    # Twice: an endpoint that ends writes to its log group, and so creates a removed one again.
    _remove(list(account.removals()))
    _remove(list(account.removals()))
    left = list(account.removals())
    if not left:
        _remove(list(account.tables_and_stack()))
        again = Account(session, stack)
        if not again.status:
            _remove(list(account.late_logs()))
        left = [*account.removals(), *again.tables_and_stack()]
    return [str(removal) for removal in left]


def confirmed_by_name(stack: str) -> bool:
    """Whether the user types the stack's name."""
    try:
        return input(f"Type the stack's name to remove it ({stack}): ").strip() == stack
    except EOFError:
        return False
