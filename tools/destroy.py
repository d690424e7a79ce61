"""Remove a stack and everything that its journey made: what CloudFormation alone would leave.

    python -m tools.destroy                      # in the cloud that the environment names
    python -m tools.destroy --config CONFIG      # in the account whose answers sam saved there

The stack's name has to be typed again, unless --yes. What belongs to the stack is found through
its resources and its Runs table, by exact names: `droplens-dev-...` may be another stack's.

The table goes after all that it leads to, and the stack last, so that an interrupted removal is
ended by another. Left are what AWS keeps as history (ended jobs) and sam's own bucket of uploaded
code, which other stacks of the account share.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError, WaiterError

from droplens.domain.naming import SEPARATOR, group_name, resource_name
from tools.account import Saved
from tools.stack import LOCAL_STACK, in_words

AT_WORK = ("Creating", "Updating", "SystemUpdating", "RollingBack")
UNENDED = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"
ENDPOINT_LOGS = "/aws/sagemaker/Endpoints/"
ASK_AGAIN_SECONDS = 2
PATIENCE_SECONDS = 600
# Of a bucket's object versions before it is asked whether they may go: a thousand a request.
MOST_COUNTED = 200_000
# A custom resource waits up to an hour for its image.
SETTLE_SECONDS = 4500


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing to remove. remove: does it, and raises ClientError where AWS refuses."""

    kind: str
    name: str
    remove: Callable[[], Any]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Run:
    """What one item of the Runs table leads to."""

    classifier: str
    names: frozenset[str]


class Account:
    """The account as far as one stack reaches."""

    def __init__(self, session: Any, stack: str) -> None:
        self.stack = stack
        self.client: Callable[[str], Any] = session.client
        self.status = stack_status(session, stack)
        self.resources = self._resources()
        self.runs = self._runs()

    def things(self) -> Iterator[Thing]:
        """What is there now, in the order of removal: first what would make more."""
        yield from self._rules()
        yield from self._jobs()
        yield from self._trainings()
        yield from self._hosting()
        yield from self._registry()
        yield from self._logs()
        yield from self._bucket()

    def table_and_stack(self) -> Iterator[Thing]:
        """What leads to all the rest."""
        for table in self._physical("AWS::DynamoDB::Table"):
            dynamodb = self.client("dynamodb")
            if _exists(partial(dynamodb.describe_table, TableName=table)):
                yield Thing("table", table, partial(self._delete_table, table))
        if self.status:
            yield Thing("stack", self.stack, self._delete_stack)

    def late_logs(self) -> Iterator[Thing]:
        """Logs of the stack that functions still running made anew after it had gone."""
        logs = self.client("logs")
        for group in self._physical("AWS::Logs::LogGroup"):
            told = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
            if any(entry["logGroupName"] == group for entry in told):
                yield Thing("log", group, partial(logs.delete_log_group, logGroupName=group))

    def _resources(self) -> list[tuple[str, str]]:
        """(type, physical id) of each resource that the stack has; none where it is gone.

        Also of those that its events name: what a creation that was rolled back has kept, the
        bucket and the table, may be no resource of the stack any more.
        """
        if not self.status:
            return []
        cloudformation = self.client("cloudformation")
        found: dict[tuple[str, str], None] = {}
        for listing, entries in (
            ("list_stack_resources", "StackResourceSummaries"),
            ("describe_stack_events", "StackEvents"),
        ):
            for page in cloudformation.get_paginator(listing).paginate(StackName=self.stack):
                for entry in page[entries]:
                    if entry.get("PhysicalResourceId"):
                        found[entry["ResourceType"], entry["PhysicalResourceId"]] = None
        return list(found)

    def _physical(self, kind: str) -> list[str]:
        return [name for found, name in self.resources if found == kind]

    def _runs(self) -> list[Run]:
        found = []
        for table in self._physical("AWS::DynamoDB::Table"):
            dynamodb = self.client("dynamodb")
            if not _exists(partial(dynamodb.describe_table, TableName=table)):
                continue
            for page in dynamodb.get_paginator("scan").paginate(
                TableName=table, ConsistentRead=True
            ):
                for item in page["Items"]:
                    classifier, run_id = item["classifier"]["S"], item["run_id"]["S"]
                    told = {
                        item[fact]["S"] for fact in ("endpoint", "training_job") if fact in item
                    }
                    told.update(item.get("to_remove", {}).get("SS", []))
                    tries = max([1, *(_try_of(run_id, name) for name in told)])
                    names = {
                        resource_name(self.stack, classifier, f"{run_id}-{number}")
                        for number in range(2, tries)
                    }
                    name = resource_name(self.stack, classifier, run_id)
                    found.append(Run(classifier, frozenset({name, *names, *told})))
        return found

    @property
    def names(self) -> set[str]:
        """The names under which the runs' jobs, models and endpoints were made."""
        return {name for run in self.runs for name in run.names}

    def _rules(self) -> Iterator[Thing]:
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
                yield Thing("rule", name, partial(events.disable_rule, Name=name))

    def _jobs(self) -> Iterator[Thing]:
        batch = self.client("batch")
        for queue in self._physical("AWS::Batch::JobQueue"):
            if not batch.describe_job_queues(jobQueues=[queue])["jobQueues"]:
                continue  # it went with the stack
            for status in UNENDED:
                for page in batch.get_paginator("list_jobs").paginate(
                    jobQueue=queue, jobStatus=status
                ):
                    for job in page["jobSummaryList"]:
                        yield Thing(
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
                    yield Thing(
                        "job definition",
                        arn.rsplit("/", 1)[-1],
                        partial(batch.deregister_job_definition, jobDefinition=arn),
                    )

    def _trainings(self) -> Iterator[Thing]:
        for job in self._named("list_training_jobs", "TrainingJobSummaries", "TrainingJobName"):
            if job["TrainingJobStatus"] in ("InProgress", "Stopping"):
                name = job["TrainingJobName"]
                yield Thing("training", name, partial(self._stop_training, name))

    def _hosting(self) -> Iterator[Thing]:
        sagemaker = self.client("sagemaker")
        for kind, listing, answer, key, remove in (
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
            for entry in self._named(listing, answer, key):
                request = {key: entry[key]}
                call = partial(getattr(sagemaker, remove), **request)
                if kind == "endpoint":
                    call = partial(self._delete_endpoint, entry[key])
                yield Thing(kind, entry[key], call)

    def _named(self, listing: str, answer: str, key: str) -> list[dict[str, Any]]:
        """SageMaker's entries that bear the exact name of one of the runs."""
        pages = self.client("sagemaker").get_paginator(listing).paginate()
        names = self.names
        return [entry for page in pages for entry in page[answer] if entry[key] in names]

    def _registry(self) -> Iterator[Thing]:
        sagemaker = self.client("sagemaker")
        for classifier in sorted({run.classifier for run in self.runs}):
            group = group_name(self.stack, classifier)
            if not _exists(
                partial(sagemaker.describe_model_package_group, ModelPackageGroupName=group)
            ):
                continue
            strange = False
            for page in sagemaker.get_paginator("list_model_packages").paginate(
                ModelPackageGroupName=group
            ):
                for package in page["ModelPackageSummaryList"]:
                    arn = package["ModelPackageArn"]
                    told = sagemaker.describe_model_package(ModelPackageName=arn)
                    origin = told.get("CustomerMetadataProperties", {}).get("training-job")
                    if origin not in self.names:
                        strange = True
                        continue
                    yield Thing(
                        "registered model",
                        arn.split("/", 1)[-1],
                        partial(sagemaker.delete_model_package, ModelPackageName=arn),
                    )
            if not strange:
                yield Thing(
                    "registry group",
                    group,
                    partial(sagemaker.delete_model_package_group, ModelPackageGroupName=group),
                )

    def _logs(self) -> Iterator[Thing]:
        logs = self.client("logs")
        names = self.names
        for page in logs.get_paginator("describe_log_groups").paginate(
            logGroupNamePrefix=ENDPOINT_LOGS
        ):
            for entry in page["logGroups"]:
                group = entry["logGroupName"]
                if group.removeprefix(ENDPOINT_LOGS) in names:
                    yield Thing("log", group, partial(logs.delete_log_group, logGroupName=group))
        try:
            pages = list(
                logs.get_paginator("describe_log_streams").paginate(
                    logGroupName=TRAINING_LOGS, logStreamNamePrefix=self.stack + SEPARATOR
                )
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return  # nobody in this account has trained yet
        for page in pages:
            for entry in page["logStreams"]:
                stream = entry["logStreamName"]
                if stream.split("/")[0] in names:
                    yield Thing(
                        "training log",
                        stream,
                        partial(
                            logs.delete_log_stream, logGroupName=TRAINING_LOGS, logStreamName=stream
                        ),
                    )

    def _bucket(self) -> Iterator[Thing]:
        s3 = self.client("s3")
        for bucket in self._physical("AWS::S3::Bucket"):
            if _exists(partial(s3.head_bucket, Bucket=bucket)):
                yield Thing("bucket", bucket, partial(empty_and_delete, s3, bucket))

    def content(self, thing: Thing) -> str:
        """Of a bucket, how much is in it: ", 1,234 object versions, 5.6 GB"; of all else "".

        Of more than MOST_COUNTED versions it says so, and counts no further.
        """
        if thing.kind != "bucket":
            return ""
        versions = size = 0
        pages = self.client("s3").get_paginator("list_object_versions").paginate(Bucket=thing.name)
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
            [told] = batch.describe_jobs(jobs=[job])["jobs"]
            return told["status"] not in UNENDED

        _await(ended)

    def _stop_training(self, name: str) -> None:
        sagemaker = self.client("sagemaker")

        def status() -> str:
            told: str = sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]
            return told

        if status() == "InProgress":
            sagemaker.stop_training_job(TrainingJobName=name)
        _await(lambda: status() not in ("InProgress", "Stopping"))

    def _delete_endpoint(self, name: str) -> None:
        """SageMaker deletes no endpoint that it is at work on, which takes minutes."""
        sagemaker = self.client("sagemaker")

        def settled() -> bool:
            status: str = sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
            return status not in AT_WORK

        _await(settled)
        sagemaker.delete_endpoint(EndpointName=name)

    def _delete_table(self, table: str) -> None:
        dynamodb = self.client("dynamodb")
        dynamodb.delete_table(TableName=table)
        dynamodb.get_waiter("table_not_exists").wait(
            TableName=table, WaiterConfig={"Delay": ASK_AGAIN_SECONDS, "MaxAttempts": 150}
        )

    def _delete_stack(self) -> None:
        cloudformation = self.client("cloudformation")
        cloudformation.delete_stack(StackName=self.stack)
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=self.stack,
            WaiterConfig={"Delay": ASK_AGAIN_SECONDS, "MaxAttempts": 900},
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
    """Wait until CloudFormation is no longer at work on the stack, and say so.

    What it is still creating would not be among what is listed and removed.
    """

    def busy() -> bool:
        # A stack of nothing but a change set is in review until somebody executes it.
        status = stack_status(session, stack)
        return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"

    if busy():
        print(f"CloudFormation is at work on {stack}; its removal begins when that has ended")
        _await(lambda: not busy(), SETTLE_SECONDS)


def _try_of(run_id: str, name: str) -> int:
    """How often the run had tried its stage when it made what bears this name."""
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
            # Errors of single objects show in that the bucket then is not empty.
            s3.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})
    s3.delete_bucket(Bucket=bucket)


def _await(ended: Callable[[], bool], patience: float | None = None) -> None:
    """Return once it has ended, or is given up: the listing of what is left will tell."""
    until = time.monotonic() + (PATIENCE_SECONDS if patience is None else patience)
    while not ended() and time.monotonic() < until:
        time.sleep(ASK_AGAIN_SECONDS)


def _exists(describe: Callable[[], Any]) -> bool:
    """Whether the described thing is there; raises where AWS says anything but that it is not."""
    absent = ("ResourceNotFoundException", "ValidationException", "NoSuchBucket", "404")
    try:
        describe()
    except ClientError as error:
        if error.response["Error"]["Code"] not in absent:
            raise
        return False
    return True


def _remove(things: list[Thing]) -> None:
    """Remove each; say what AWS refuses, and go on with the others."""
    for thing in things:
        try:
            thing.remove()
        except (ClientError, WaiterError) as error:
            print(f"  {thing} stays: {error}", file=sys.stderr)
        else:
            print(f"  {thing} is gone")


def destroy(session: Any, stack: str, *, agreed: Callable[[str], bool]) -> list[str]:
    """Remove the stack and what it made; returns what is left, with nothing removed unless agreed.

    agreed: asked once, with the stack's name, after all that will go has been listed.
    """
    settle(session, stack)
    account = Account(session, stack)
    wanted = [*account.things(), *account.table_and_stack()]
    if not wanted:
        print(f"there is no stack {stack}")
        return []
    print(f"These go, with all they hold, from the stack {stack}:")
    for thing in wanted:
        print(f"  {thing}{account.content(thing)}")
    if not agreed(stack):
        raise SystemExit("nothing was removed; run it again to be asked again")
    # Twice: an endpoint that ends says its last words to a log that is gone, and makes it anew.
    _remove(list(account.things()))
    _remove(list(account.things()))
    left = list(account.things())
    if not left:
        _remove(list(account.table_and_stack()))
        again = Account(session, stack)
        if not again.status:
            _remove(list(account.late_logs()))
        left = [*account.things(), *again.table_and_stack()]
    return [str(thing) for thing in left]


def type_it_again(stack: str) -> bool:
    """Whether a person types the stack's name."""
    try:
        return input(f"Type the stack's name to remove it ({stack}): ").strip() == stack
    except EOFError:
        return False


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and remove the stack; exit code 1 where something is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--stack", help="another stack than the saved one")
    parser.add_argument("--yes", action="store_true", help="ask nobody")
    options = parser.parse_args(arguments)
    saved = Saved(options.config) if options.config else None
    stack = options.stack or (saved.stack if saved else LOCAL_STACK)
    if stack is None:
        raise SystemExit(f"{options.config} names no stack: make destroy STACK=...")
    with in_words("it can be run again"):
        session = boto3.Session(**(saved.session_options if saved else {}))
        left = destroy(session, stack, agreed=(lambda _: True) if options.yes else type_it_again)
    if left:
        raise SystemExit("\n  ".join(["left, run it again:", *left]))
    print(f"nothing is left of {stack}")


if __name__ == "__main__":
    main()
