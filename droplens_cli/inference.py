"""Batch inference: the live model classifies objects of any bucket.

The user's own credentials list a prefix, or read an S3 Inventory, and submit the job; its
containers read the images by the stack's role. The list is kept on this machine until the cost is
confirmed.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from droplens.aws.s3 import Bucket
from droplens.domain import inference_job, layout
from droplens.domain.card import CardError, ModelCard
from droplens.domain.choices import DROPLENS
from droplens.domain.errors import ObjectMissing
from droplens.domain.inference_job import IMAGES_PER_PART, InferenceJob, from_lines, to_lines
from droplens.domain.naming import SEPARATOR
from droplens_cli import cost
from droplens_cli.errors import CommandError, ExitCode
from droplens_cli.inventory import Inventory, entries, opened
from droplens_cli.results import COLUMNS
from droplens_cli.stack import Stack
from droplens_cli.upload import THREADS

POLL_SECONDS = 5.0
# Storage classes whose objects have to be restored before they can be read; of INTELLIGENT_TIERING
# a listing does not say which are archived.
_ARCHIVED = ("GLACIER", "DEEP_ARCHIVE")
_ENDED = ("SUCCEEDED", "FAILED")


@dataclass(slots=True)
class Listing:
    """Objects of a bucket, listed into files of a folder, one for each part.

    images, bytes: of the objects that can be read; archived: of the others; requests: for pages of
    the bucket's listing.
    """

    folder: Path
    images: int = 0
    bytes: int = 0
    archived: int = 0
    requests: int = 0

    def list(
        self, client: Any, bucket: str, prefix: str, listed: Callable[[], None] = lambda: None
    ) -> None:
        """List everything below a prefix. listed: called after each object. Raises CommandError."""
        self._write(self._below(client, bucket, prefix), f"s3://{bucket}/{prefix}", listed)

    def read(
        self,
        inventory: Inventory,
        prefix: str,
        readable: tuple[str, ...],
        listed: Callable[[], None] = lambda: None,
    ) -> None:
        """List what an inventory has below a prefix. Raises CommandError.

        readable: the prefixes of the bucket that the stack may read; listed: as of `list`.
        """
        found = self._of_inventory(inventory, prefix, readable)
        self._write(found, f"s3://{inventory.bucket}/{prefix} in {inventory.address}", listed)

    def _write(
        self, found: Iterator[dict[str, Any]], place: str, listed: Callable[[], None]
    ) -> None:
        part = 0
        while lines := list(islice(found, IMAGES_PER_PART)):
            (self.folder / f"{part:05}").write_bytes(to_lines(lines))
            part += 1
            for line in lines:
                self.images += 1
                self.bytes += line["bytes"]
                listed()
            if self.images > inference_job.MOST_IMAGES:
                raise CommandError(
                    f"{place}: more than {inference_job.MOST_IMAGES:,} objects",
                    "classify it in several jobs, each with a longer prefix",
                    ExitCode.BAD_INPUT,
                )
        if not self.images:
            raise CommandError(
                f"there is no object to classify below {place}",
                f"{self.archived:,} are archived and have to be restored" if self.archived else "",
                ExitCode.BAD_INPUT,
            )

    def _below(self, client: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            self.requests += 1
            for one in page.get("Contents", []):
                if self._is_image(one["Key"], one.get("StorageClass")):
                    yield {"key": one["Key"], "bytes": one["Size"]}

    def _of_inventory(
        self, inventory: Inventory, prefix: str, readable: tuple[str, ...]
    ) -> Iterator[dict[str, Any]]:
        for one in entries(inventory, self.folder):
            if not one.key.startswith(prefix) or not self._is_image(one.key, one.storage_class):
                continue
            if not one.key.startswith(readable):
                raise CommandError(
                    f"the stack may not read s3://{inventory.bucket}/{one.key}, which is in "
                    f"{inventory.address}",
                    "name what it may read by --prefix beside --manifest, or deploy it with more "
                    "in the parameter InferenceSources",
                    ExitCode.NO_TARGET,
                )
            etag = {"etag": one.etag} if one.etag else {}
            yield {"key": one.key, "bytes": one.bytes, **etag}

    def _is_image(self, key: str, storage_class: str | None) -> bool:
        """Whether an object may be one; counts those that are archived."""
        if storage_class in _ARCHIVED:
            self.archived += 1
            return False
        return not key.endswith("/")


def located(url: str, option: str) -> tuple[str, str]:
    """Bucket and prefix, or key, of an option's s3:// address. Raises CommandError for another."""
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{2,62})(?:/(.*))?", url, re.DOTALL)
    if found is None:
        last = option.removeprefix("--")
        raise CommandError(
            f"{option} {url}: it has the form s3://bucket/{last}", "", ExitCode.USAGE
        )
    return found[1], found[2] or ""


def readable(stack: Stack, bucket: str) -> tuple[str, ...]:
    """The prefixes of keys of a bucket that the stack's containers may read."""
    parts = [arn.split(":::", 1)[-1].partition("/") for arn in _sources(stack)]
    return tuple(keys.removesuffix("*") for name, slash, keys in parts if name == bucket and slash)


def _sources(stack: Stack) -> list[str]:
    return [one for one in stack.parameters.get("InferenceSources", "").split(",") if one]


def check_offered(stack: Stack, bucket: str, prefix: str) -> None:
    """Raise CommandError where the stack has no batch inference, or may not read there."""
    if prefix.startswith(readable(stack, bucket)):
        return
    wanted = f"{bucket}/{prefix}"
    raise CommandError(
        f"stack {stack.name} may not read s3://{wanted}",
        "deploy it with the parameter InferenceSources="
        + ",".join([*_sources(stack), f"arn:aws:s3:::{wanted.rpartition('/')[0]}/*"]),
        ExitCode.NO_TARGET,
    )


def inventory_of(stack: Stack, manifest: str, bucket: str) -> Inventory:
    """The inventory of a manifest's address. Raises CommandError.

    bucket: of --prefix, which it has to be of too; "" for any.
    """
    place, key = located(manifest, "--manifest")
    found = opened(Bucket(stack.client("s3"), place), key)
    if bucket not in ("", found.bucket):
        raise CommandError(
            f"{manifest} lists bucket {found.bucket}, and --prefix names {bucket}",
            code=ExitCode.USAGE,
        )
    return found


def check_region(stack: Stack, bucket: str) -> None:
    """Raise CommandError where the bucket is in another region, from which reading costs more."""
    try:
        found: Any = stack.client("s3").head_bucket(Bucket=bucket)
    except ClientError as error:
        # The region is named to those, too, who may not list the bucket.
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
        found = error.response
        if found["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.FORBIDDEN:
            raise
    region = found["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    own = stack.session.region_name
    if region and own and region != own:
        raise CommandError(
            f"bucket {bucket} is in {region}, stack {stack.name} in {own}: every picture would be "
            "sent from region to region, at a price",
            f"deploy a stack in {region} too, or replicate the bucket",
            ExitCode.BAD_INPUT,
        )


def new_job(
    stack: Stack, classifier: str, bucket: str, prefix: str, images: int, manifest: str = ""
) -> InferenceJob:
    """A job of the classifier's live model. Raises CommandError where that cannot be used."""
    try:
        text, _ = stack.bucket.read(layout.live_card_key(classifier))
        card = ModelCard.from_json(text)
    except CardError as error:
        raise CommandError(f"{classifier}: {error}") from None
    if card.trainer != DROPLENS:
        raise CommandError(
            f"the live model of {classifier} is of SageMaker's built-in algorithm, which only its "
            "own image can run",
            "train it anew with TrainerImage=droplens",
        )
    run = stack.runs_table.get_item(Key={"classifier": classifier, "run_id": card.run_id})
    archive = run.get("Item", {}).get("model_data", "")
    start = f"s3://{stack.bucket.name}/{layout.training_prefix(classifier, card.run_id)}"
    if not archive.startswith(start):
        raise CommandError(f"run {card.run_id} names no model archive of its own")
    now = datetime.now(UTC)
    return InferenceJob(
        classifier=classifier,
        job_id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        model=archive.removeprefix(f"s3://{stack.bucket.name}/"),
        card=json.loads(text),
        bucket=bucket,
        source=prefix,
        images=images,
        manifest=manifest,
    )


def prepare(bucket: Bucket, job: InferenceJob, folder: Path, stored: Callable[[], None]) -> None:
    """Store the lists of the folder, and then the job. stored: called after each list."""
    client: Any = bucket.client

    def put(part: int) -> None:
        body = (folder / f"{part:05}").read_bytes()
        client.put_object(Bucket=bucket.name, Key=job.images_key(part), Body=body)
        stored()

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(put, range(job.parts)))
    key = inference_job.job_key(job.classifier, job.job_id)
    client.put_object(Bucket=bucket.name, Key=key, Body=job.to_json())


def stored_job(bucket: Bucket, name: str) -> InferenceJob:
    """The job <classifier>/<id>. Raises CommandError where there is none."""
    classifier, _, job_id = name.partition("/")
    if not (layout.is_classifier_name(classifier) and inference_job.is_job_id(job_id)):
        raise CommandError(
            f"--resume {name}: it has the form classifier/job, as the job's start printed it",
            code=ExitCode.USAGE,
        )
    try:
        return InferenceJob.from_json(bucket.read(inference_job.job_key(classifier, job_id))[0])
    except ObjectMissing:
        raise CommandError(f"there is no job {name}", code=ExitCode.BAD_INPUT) from None
    except inference_job.InvalidJob as error:
        raise CommandError(f"job {name}: {error}") from None


def start(stack: Stack, job: InferenceJob) -> str:
    """Submit the job to AWS Batch, unless it is there and has not ended. Returns Batch's id."""
    batch, queue = stack.client("batch"), stack.output("InferenceQueueArn")
    name = f"{stack.name}{SEPARATOR}{job.classifier}-{job.job_id}"
    known = batch.list_jobs(jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [name]}])
    for found in known["jobSummaryList"]:
        if found["status"] not in _ENDED:
            return str(found["jobId"])
    key = inference_job.job_key(job.classifier, job.job_id)
    # An array has at least two jobs.
    array = {"arrayProperties": {"size": job.children}} if job.children > 1 else {}
    submitted = batch.submit_job(
        jobName=name,
        jobQueue=queue,
        jobDefinition=stack.output("InferenceDefinitionArn"),
        parameters={"job": f"s3://{stack.bucket.name}/{key}"},
        **array,
    )
    return str(submitted["jobId"])


def done_parts(bucket: Bucket, job: InferenceJob) -> list[str]:
    """The keys of the rows that are there."""
    place = inference_job.rows_prefix(job.classifier, job.job_id)
    return [one.key for one in bucket.entries(place)]


def work(stack: Stack, job: InferenceJob) -> Iterator[int]:
    """Have the parts done that have no rows; yields the number of complete ones now and then."""
    done = len(done_parts(stack.bucket, job))
    yield done
    if done < job.parts:
        yield from follow(stack, job, start(stack, job))


def follow(stack: Stack, job: InferenceJob, batch_id: str) -> Iterator[int]:
    """The number of complete parts, now and then, until all are. Raises CommandError if the job
    ends without."""
    batch, bucket = stack.client("batch"), stack.bucket
    while True:
        [found] = batch.describe_jobs(jobs=[batch_id])["jobs"]
        # After the state: the job writes its last part before it ends.
        done = len(done_parts(bucket, job))
        yield done
        if done == job.parts:
            return
        if found["status"] in _ENDED:
            raise CommandError(
                f"{done:,} of {job.parts:,} parts are done, then the job ended: "
                f"{_reason(batch, found)}",
                f"`droplens classify --resume {job.classifier}/{job.job_id}` does the rest; log "
                f"group /aws/batch/{stack.name}-inference",
            )
        time.sleep(POLL_SECONDS)


def _reason(batch: Any, job: dict[str, Any]) -> str:
    """Why a job failed; of an array, its first child that did."""
    if "arrayProperties" in job:
        failed = batch.list_jobs(arrayJobId=job["jobId"], jobStatus="FAILED")["jobSummaryList"]
        if failed:
            [job] = batch.describe_jobs(jobs=[failed[0]["jobId"]])["jobs"]
    container = job.get("container", {})
    code = container.get("exitCode")
    reason = container.get("reason") or job.get("statusReason") or "without a reason"
    return f"{reason}" + (f" (exit code {code})" if code is not None else "")


def rows_place(bucket: Bucket, job: InferenceJob) -> str:
    """The address below which the rows are."""
    return f"s3://{bucket.name}/{inference_job.rows_prefix(job.classifier, job.job_id)}"


def rows(bucket: Bucket, job: InferenceJob) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each row as `results.write` takes it, its columns and the whole, in the listing's order."""
    with ThreadPoolExecutor(THREADS) as threads:
        keys = map(job.rows_key, range(job.parts))
        while some := list(islice(keys, THREADS)):
            for body in threads.map(lambda key: bucket.read(key)[0], some):
                for row in from_lines(body):
                    yield {name: row[name] for name in COLUMNS}, row


def cost_of(job: InferenceJob, parameters: dict[str, str], requests: int) -> list[cost.Line]:
    """What the job costs. requests: that its listing took."""
    return list(
        cost.inference(
            images=job.images,
            parts=job.parts,
            children=job.children,
            vcpus=int(parameters.get("PackingVcpus", "2")),
            gb=int(parameters.get("PackingMemoryMiB", "4096")) / 1024,
            requests=requests,
        )
    )
