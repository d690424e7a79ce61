"""What only a deployed stack in an account can show: measured and checked through AWS's own APIs.

A check whose request fails is "unknown", with AWS's message; it never counts as kept.
"""

import io
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from PIL import Image, ImageOps

from demo.account_report import Record
from demo.dataset import Picture
from demo.journey import Clients, Journey
from droplens_cli.training_log import GROUP

SINGLE_PICTURES = 10
TIMED_CALLS = 20
METRICS_POLL = 10.0  # seconds
LEFT_WITHIN = 90.0  # seconds: SQS lists a deleted queue for up to a minute
LEFT_POLL = 5.0
CALL_SIDE = 224  # pixels; our own container resizes what it is sent
SAM_STACK = "aws-sam-cli-managed-default"  # sam's own: its bucket holds all stacks' code
_INIT = re.compile(r'Init Duration: ([0-9.]+) ms|"initDurationMs": ?([0-9.]+)')


def share(values: Sequence[float], percent: int) -> float:
    """The percentile, by the nearest rank: one of the values."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def first_failure(clients: Clients, stack: str) -> str:
    """The first resource that could not be created, with the reason; "" if there is none.

    What failed only because another one had is named "cancelled" by CloudFormation.
    """
    formation = clients.client("cloudformation")
    try:
        pages = formation.get_paginator("describe_stack_events").paginate(StackName=stack)
        events = [event for page in pages for event in page["StackEvents"]]
    except ClientError:
        return ""
    for event in reversed(events):  # they come newest first
        reason = event.get("ResourceStatusReason", "")
        if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in reason.lower():
            return f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}"
    return ""


def image_builds(clients: Clients, stack: str) -> Iterator[tuple[str, float]]:
    """Each container image with the seconds that the deployment waited for it."""
    formation = clients.client("cloudformation")
    began: dict[str, datetime] = {}
    pages = formation.get_paginator("describe_stack_events").paginate(StackName=stack)
    events = [event for page in pages for event in page["StackEvents"]]
    for event in reversed(events):
        if event["ResourceType"] == "Custom::ContainerImage":
            name = event["LogicalResourceId"]
            if event["ResourceStatus"] == "CREATE_IN_PROGRESS":
                began.setdefault(name, event["Timestamp"])
            elif event["ResourceStatus"] == "CREATE_COMPLETE" and name in began:
                yield name, (event["Timestamp"] - began[name]).total_seconds()


class Examination:
    """Checks one stack after its journey, and adds the outcomes to `record`.

    metrics_wait: seconds to wait for the stack's metrics in CloudWatch.
    """

    def __init__(
        self, clients: Clients, stack: str, record: Record, metrics_wait: float = 300.0
    ) -> None:
        self._clients, self._stack, self._record = clients, stack, record
        self._metrics_wait = metrics_wait

    def run(
        self,
        journey: Journey,
        folder: str,
        run_id: str,
        picture: Picture,
        watch: Callable[[str], None],
    ) -> None:
        """All checks, one after the other; a refused request does not stop the next.

        folder: of the held-out images; picture: uploaded and sent to the endpoint alone, timed.
        """
        looks: dict[str, Callable[[], None]] = {
            "a run begins when its dataset is complete": lambda: self._begins(journey, run_id),
            "the packing job's times": lambda: self._packing(journey, run_id),
            "the training job's times": lambda: self._training(journey, run_id),
            "each picture is answered once": lambda: self._answers(journey, folder),
            "single pictures are answered": lambda: self._single(journey, folder, picture),
            "the endpoint's warm answers": lambda: self._calls(journey, picture),
            "classify_image's cold start": self._cold_function,
            "dead-letter queues are empty": self._queues,
            "metrics and alarms": self._alarms,
            "the endpoint's cold start": lambda: self._cold_endpoint(journey),
        }
        for what, look in looks.items():
            watch(what)
            try:
                look()
            except (BotoCoreError, ClientError, KeyError, ValueError) as error:
                self._record.check(what, None, f"{type(error).__name__}: {error}")

    def _begins(self, journey: Journey, run_id: str) -> None:
        marker = journey.ready_uri.removeprefix(f"s3://{journey.bucket}/")
        completed = journey.written(marker)[marker]
        created = datetime.fromisoformat(str(journey.run(run_id)["created_at"]))
        delay = (created - completed).total_seconds()
        note = "S3's LastModified of _READY to the run's created_at; S3 gives whole seconds"
        self._record.measure("event delay, dataset to run", max(0.0, delay), "s", note)
        self._record.check("a run begins when its dataset is complete", True, f"{delay:.1f} s")

    def _packing(self, journey: Journey, run_id: str) -> None:
        job_id = str(journey.run(run_id)["batch_job_id"])
        [job] = self._clients.client("batch").describe_jobs(jobs=[job_id])["jobs"]
        waited = (job["startedAt"] - job["createdAt"]) / 1000
        worked = (job["stoppedAt"] - job["startedAt"]) / 1000
        self._record.measure("packing job, until Fargate ran it", waited, "s", "AWS Batch's times")
        self._record.measure("packing job, running", worked, "s", "AWS Batch's times")
        self._record.check("AWS Batch packed it", job["status"] == "SUCCEEDED", job["status"])

    def _training(self, journey: Journey, run_id: str) -> None:
        name = str(journey.run(run_id)["training_job"])
        job = self._clients.client("sagemaker").describe_training_job(TrainingJobName=name)
        began, ended = job["TrainingStartTime"], job["TrainingEndTime"]
        for what, seconds in {
            "training job, until its instance ran": began - job["CreationTime"],
            "training job, running": ended - began,
        }.items():
            self._record.measure(what, seconds.total_seconds(), "s", "SageMaker's times")
        if "BillableTimeInSeconds" in job:
            billed = float(job["BillableTimeInSeconds"])
            self._record.measure("training job, billed", billed, "s", "SageMaker's times")
        status = job["TrainingJobStatus"]
        self._record.check("SageMaker trained it", status == "Completed", status)

    def _answers(self, journey: Journey, folder: str) -> None:
        dropped = journey.written(journey.input_key(folder, ""))
        prefix = journey.results_uri(folder).removeprefix(f"s3://{journey.bucket}/")
        written = journey.written(prefix)
        results = {
            key.removeprefix(prefix).removesuffix(".json"): at for key, at in written.items()
        }
        inputs = {key.rsplit("/", 1)[-1]: at for key, at in dropped.items()}
        delays = [
            (results[name] - at).total_seconds() for name, at in inputs.items() if name in results
        ]
        note = f"LastModified of {len(delays)} pictures and results, dropped together"
        for percent in (50, 95, 100):
            what = f"event delay, picture to result, p{percent}"
            self._record.measure(what, share(delays, percent), "s", note)
        first = (min(results.values()) - min(inputs.values())).total_seconds()
        self._record.measure("first answer", first, "s", "first picture dropped to first result")
        s3 = self._clients.client("s3")
        pages = s3.get_paginator("list_object_versions").paginate(
            Bucket=journey.bucket, Prefix=prefix
        )
        versions = [one["Key"] for page in pages for one in page.get("Versions", [])]
        once = len(versions) == len(set(versions)) == len(inputs)
        said = f"{len(inputs)} pictures, {len(set(versions))} results, {len(versions)} versions"
        self._record.check("each picture is answered once", once, said)

    def _single(self, journey: Journey, folder: str, picture: Picture) -> None:
        alone = f"{folder}-alone"
        taken = []
        patience, journey.patience = journey.patience, replace(journey.patience, poll=0.1)
        try:
            for number in range(SINGLE_PICTURES):
                name = f"{number:02}{picture.path.suffix.lower()}"
                began = time.monotonic()
                list(journey.ask(alone, {name: picture}))
                if not list(journey.answers(alone, [name])):
                    self._record.check("single pictures are answered", False, f"no. {number + 1}")
                    return
                taken.append(time.monotonic() - began)
        finally:
            journey.patience = patience
        note = f"{len(taken)} pictures one after the other, seen from here by listing every 0.1 s"
        for percent in (50, 95):
            what = f"picture to result, warm, p{percent}"
            self._record.measure(what, share(taken, percent), "s", note)
        said = f"{len(taken)} of {SINGLE_PICTURES}, median {statistics.median(taken):.2f} s"
        self._record.check("single pictures are answered", True, said)

    def _calls(self, journey: Journey, picture: Picture) -> None:
        if journey.live_card().get("model"):
            self._record.check("the endpoint answers", None, "EndpointMode=lambda has none")
            return
        endpoint = str(journey.live_card()["endpoint"])
        sagemaker = self._clients.client("sagemaker")
        described = sagemaker.describe_endpoint(EndpointName=endpoint)
        config = sagemaker.describe_endpoint_config(
            EndpointConfigName=described["EndpointConfigName"]
        )
        serverless = "ServerlessConfig" in config["ProductionVariants"][0]
        mode = "serverless" if serverless else "realtime"
        body = _jpeg(picture)
        runtime = self._clients.client("sagemaker-runtime")
        taken = []
        for _ in range(TIMED_CALLS):
            began = time.monotonic()
            answer = runtime.invoke_endpoint(
                EndpointName=endpoint,
                Body=body,
                ContentType="image/jpeg",
                Accept="application/json",
            )
            answer["Body"].read()
            taken.append((time.monotonic() - began) * 1000)
        note = f"{len(taken)} calls of the {mode} endpoint one after the other, from here"
        for percent in (50, 95):
            what = f"{mode} answer, warm, p{percent}"
            self._record.measure(what, share(taken, percent), "ms", note)
        said = f"{mode}, median {statistics.median(taken):.0f} ms from here"
        self._record.check("the endpoint answers", True, said)

    def _cold_function(self) -> None:
        logs = self._clients.client("logs")
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{self._stack}-classify-image"
        )
        starts = [
            float(found[1] or found[2])
            for page in pages
            for event in page["events"]
            for found in _INIT.finditer(event["message"])
        ]
        what = "classify_image's cold start is in its log"
        if not starts:
            self._record.check(what, None, "no REPORT line with an Init Duration")
            return
        note = f"Init Duration, the longest of {len(starts)}"
        self._record.measure("cold start of classify_image", max(starts), "ms", note)
        self._record.check(what, True, f"{max(starts):.0f} ms at most, {len(starts)} starts")

    def _cold_endpoint(self, journey: Journey) -> None:
        what = "the endpoint's cold start is in CloudWatch"
        if journey.live_card().get("model"):
            self._record.check(what, None, "EndpointMode=lambda has no endpoint")
            return
        endpoint = str(journey.live_card()["endpoint"])
        # Microseconds, of serverless endpoints only.
        # https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
        dimensions = [
            {"Name": "EndpointName", "Value": endpoint},
            {"Name": "VariantName", "Value": self._variant(endpoint)},
        ]
        points = self._points("AWS/SageMaker", "ModelSetupTime", dimensions, "Maximum")
        if not points:
            self._record.check(what, None, "CloudWatch has no ModelSetupTime of it (yet)")
            return
        seconds = max(points) / 1e6
        self._record.measure("cold start of the endpoint", seconds, "s", "ModelSetupTime, maximum")
        self._record.check(what, True, f"{seconds:.1f} s at most")

    def _variant(self, endpoint: str) -> str:
        sagemaker = self._clients.client("sagemaker")
        config = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
        described = sagemaker.describe_endpoint_config(EndpointConfigName=config)
        return str(described["ProductionVariants"][0]["VariantName"])

    def _queues(self) -> None:
        formation, sqs = self._clients.client("cloudformation"), self._clients.client("sqs")
        [stack] = formation.describe_stacks(StackName=self._stack)["Stacks"]
        outputs = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
        waiting = {}
        for output in ("PictureDlqUrl", "EventDlqUrl"):
            told = sqs.get_queue_attributes(
                QueueUrl=outputs[output], AttributeNames=["ApproximateNumberOfMessages"]
            )
            waiting[output] = int(told["Attributes"]["ApproximateNumberOfMessages"])
        said = ", ".join(f"{name.removesuffix('Url')}: {count}" for name, count in waiting.items())
        self._record.check("dead-letter queues are empty", not any(waiting.values()), said)

    def _alarms(self) -> None:
        cloudwatch = self._clients.client("cloudwatch")
        pages = cloudwatch.get_paginator("describe_alarms").paginate(
            AlarmNamePrefix=f"{self._stack}--"
        )
        alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]
        calls = [{"Name": "FunctionName", "Value": f"{self._stack}-classify-image"}]
        until = time.monotonic() + self._metrics_wait
        seen: set[str] = set()
        while True:
            counted = self._points("AWS/Lambda", "Invocations", calls, "Sum")
            seen |= {
                alarm["AlarmName"]
                for alarm in alarms
                if alarm["AlarmName"] not in seen
                and self._points(*_metric_of(alarm), "SampleCount")
            }
            if len(seen) == len(alarms) or time.monotonic() >= until:
                break
            time.sleep(METRICS_POLL)
        if not counted:
            said = "CloudWatch shows no metric of this stack yet, not even classify_image's calls"
            self._record.check(f"CloudWatch has the metrics of {len(alarms)} alarms", None, said)
            self._record.check(f"none of {len(alarms)} alarms was raised", None, said)
            return
        for alarm in alarms:
            name = alarm["AlarmName"].removeprefix(f"{self._stack}--")
            metric = " ".join(_metric_of(alarm)[:2])
            self._record.check(
                f"CloudWatch has the metric of the alarm {name}",
                True if alarm["AlarmName"] in seen else False if metric in ALWAYS else None,
                metric if alarm["AlarmName"] in seen else f"{metric}: {_why(metric)}",
            )
        rung = [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"]
        what = f"none of {len(alarms)} alarms was raised"
        self._record.check(what, bool(alarms) and not rung, ", ".join(rung) or "none")

    def _points(
        self, namespace: str, metric: str, dimensions: list[dict[str, str]], statistic: str
    ) -> list[float]:
        now = datetime.now(UTC)
        answer = self._clients.client("cloudwatch").get_metric_statistics(
            Namespace=namespace,
            MetricName=metric,
            Dimensions=dimensions,
            StartTime=self._record.began - timedelta(minutes=5),
            EndTime=now + timedelta(minutes=5),
            Period=300,
            Statistics=[statistic],
        )
        return [float(point[statistic]) for point in answer["Datapoints"]]


# What classify_image and deploy_endpoint write whenever a picture is answered and a training ends.
ALWAYS = {
    "Droplens EndpointError",
    "Droplens EndpointLatency",
    "Droplens PictureRejected",
    "Droplens TrainingTimeUsed",
}


def _metric_of(alarm: Mapping[str, Any]) -> tuple[str, str, list[dict[str, str]]]:
    """Namespace, name and dimensions of an alarm's metric, of an expression's first one."""
    metric = alarm
    if "MetricName" not in alarm:
        metric = next(
            one["MetricStat"]["Metric"] for one in alarm["Metrics"] if "MetricStat" in one
        )
    return metric["Namespace"], metric["MetricName"], metric["Dimensions"]


def _why(metric: str) -> str:
    if metric in ALWAYS:
        return "no data point, though it is written in every journey"
    return "no data point; it is written where such a thing happens, or up to 15 minutes late"


def _jpeg(picture: Picture) -> bytes:
    with Image.open(picture.path) as opened:
        small = ImageOps.exif_transpose(opened).convert("RGB").resize((CALL_SIDE, CALL_SIDE))
    written = io.BytesIO()
    small.save(written, "JPEG", quality=90)
    return written.getvalue()


# ------------------------------------------------------------------ what is left afterwards

# Kind, service, listing, key of its entries, and key of an entry's name ("": it is the name).
LISTINGS = (
    ("buckets", "s3", "list_buckets", "Buckets", "Name"),
    ("tables", "dynamodb", "list_tables", "TableNames", ""),
    ("endpoints", "sagemaker", "list_endpoints", "Endpoints", "EndpointName"),
    (
        "endpoint configurations",
        "sagemaker",
        "list_endpoint_configs",
        "EndpointConfigs",
        "EndpointConfigName",
    ),
    ("models", "sagemaker", "list_models", "Models", "ModelName"),
    (
        "model package groups",
        "sagemaker",
        "list_model_package_groups",
        "ModelPackageGroupSummaryList",
        "ModelPackageGroupName",
    ),
    ("image repositories", "ecr", "describe_repositories", "repositories", "repositoryName"),
    ("log groups", "logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("functions", "lambda", "list_functions", "Functions", "FunctionName"),
    ("queues", "sqs", "list_queues", "QueueUrls", ""),
    ("topics", "sns", "list_topics", "Topics", "TopicArn"),
    ("event rules", "events", "list_rules", "Rules", "Name"),
    ("alarms", "cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("dashboards", "cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
    ("job queues", "batch", "describe_job_queues", "jobQueues", "jobQueueName"),
    (
        "compute environments",
        "batch",
        "describe_compute_environments",
        "computeEnvironments",
        "computeEnvironmentName",
    ),
    ("build projects", "codebuild", "list_projects", "projects", ""),
    ("roles", "iam", "list_roles", "Roles", "RoleName"),
)


def verify_removal(
    clients: Clients, stack: str, record: Record, watch: Callable[[str], None]
) -> list[str]:
    """List resources with the stack's name; notes a check for each kind, returns what is left.

    The name ends at random, so that every resource with that name is the stack's.
    """
    looks: dict[str, Callable[[], list[str]]] = {
        "stacks": lambda: _stacks(clients, stack),
        **{
            kind: partial(_listed, clients, stack, service, listing, entries, name)
            for kind, service, listing, entries, name in LISTINGS
        },
        "training logs": lambda: _training_logs(clients, stack),
        "networks": lambda: _networks(clients, stack),
        "code in sam's bucket": lambda: [key for key, _ in _artefacts(clients, stack)],
        "tagged resources": lambda: _tagged(clients, stack),
    }
    left: list[str] = []
    until = time.monotonic() + LEFT_WITHIN
    for kind, look in looks.items():
        what = f"after removal: {kind}"
        watch(f"looking for {kind}")
        try:
            found = look()
            while found and time.monotonic() < until:
                time.sleep(LEFT_POLL)
                found = look()
        except (BotoCoreError, ClientError, KeyError) as error:
            record.check(what, None, f"{type(error).__name__}: {error}")
            continue
        if found and kind == "tagged resources":
            said = f"the tagging API, which lists what is gone for a while, has {', '.join(found)}"
            record.check(what, None, said)
            continue
        record.check(what, not found, ", ".join(found) or "none")
        left += [f"{kind}: {name}" for name in found]
    return left


def _listed(
    clients: Clients,
    stack: str,
    service: str,
    listing: str,
    entries: str,
    key: str,
) -> list[str]:
    client = clients.client(service)
    pages = (
        client.get_paginator(listing).paginate()
        if client.can_paginate(listing)
        else [getattr(client, listing)()]
    )
    # Batch lists queues and environments that are gone, as such, for a while.
    # https://docs.aws.amazon.com/batch/latest/APIReference/API_JobQueueDetail.html
    names = (
        entry[key] if key else entry
        for page in pages
        for entry in page.get(entries, [])
        if not key or entry.get("status") != "DELETED"
    )
    return [str(name) for name in names if stack in name]


def _stacks(clients: Clients, stack: str) -> list[str]:
    try:
        found = clients.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return []
    return [one["StackName"] for one in found if one["StackStatus"] != "DELETE_COMPLETE"]


def _training_logs(clients: Clients, stack: str) -> list[str]:
    try:
        pages = list(
            clients.client("logs")
            .get_paginator("describe_log_streams")
            .paginate(logGroupName=GROUP, logStreamNamePrefix=f"{stack}--")
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return []
    return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]


def _networks(clients: Clients, stack: str) -> list[str]:
    pages = (
        clients.client("ec2")
        .get_paginator("describe_vpcs")
        .paginate(Filters=[{"Name": "tag:aws:cloudformation:stack-name", "Values": [stack]}])
    )
    return [vpc["VpcId"] for page in pages for vpc in page["Vpcs"]]


def _tagged(clients: Clients, stack: str) -> list[str]:
    pages = (
        clients.client("resourcegroupstaggingapi")
        .get_paginator("get_resources")
        .paginate(TagFilters=[{"Key": "aws:cloudformation:stack-name", "Values": [stack]}])
    )
    return [one["ResourceARN"] for page in pages for one in page["ResourceTagMappingList"]]


def _sam_bucket(clients: Clients) -> str | None:
    try:
        found = clients.client("cloudformation").describe_stacks(StackName=SAM_STACK)["Stacks"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return None
    outputs = {one["OutputKey"]: one["OutputValue"] for one in found[0].get("Outputs", [])}
    return outputs.get("SourceBucket")


def _artefacts(clients: Clients, stack: str) -> Iterator[tuple[str, str]]:
    """(key, version) of each object that sam uploaded for the stack."""
    if (bucket := _sam_bucket(clients)) is None:
        return
    pages = (
        clients.client("s3")
        .get_paginator("list_object_versions")
        .paginate(Bucket=bucket, Prefix=f"{stack}/")
    )
    for page in pages:
        for kind in ("Versions", "DeleteMarkers"):
            for one in page.get(kind, []):
                yield one["Key"], one["VersionId"]


def remove_artefacts(clients: Clients, stack: str) -> int:
    """Delete what sam uploaded for the stack from its bucket; returns how many versions."""
    found = list(_artefacts(clients, stack))
    bucket = _sam_bucket(clients)
    for start in range(0, len(found), 1000):  # DeleteObjects' limit
        objects = [
            {"Key": key, "VersionId": version} for key, version in found[start : start + 1000]
        ]
        clients.client("s3").delete_objects(
            Bucket=bucket, Delete={"Objects": objects, "Quiet": True}
        )
    return len(found)
