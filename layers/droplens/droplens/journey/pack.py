"""From a completed dataset to the Batch jobs that pack it.

A small dataset is packed by one job. A large one is packed in shards by the children of an array
job, whose output another job merges once all of them have succeeded.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

from droplens.aws.events import ObjectCreated
from droplens.aws.s3 import Bucket
from droplens.domain import choices, layout, naming
from droplens.domain.errors import ObjectMissing, UserError
from droplens.domain.run import RunKey, Stage
from droplens.journey import corrections
from droplens.journey.invocation import Invocation
from droplens.journey.retrain import Retraining
from droplens.runtime.settings import PackingSettings
from droplens.runtime.telemetry import follow, logger

if TYPE_CHECKING:
    from types_boto3_batch.client import BatchClient
    from types_boto3_batch.type_defs import JobSummaryTypeDef

# batch_prep's --step.
WHOLE = "all"
SHARD = "pack"
JOIN = "join"
# Its --corrections where there are none.
NO_CORRECTIONS = "none"
# Its --shards where one job packs everything: as many, one after the other, as its memory needs.
AS_NEEDED = "auto"

# S3 lists some 7,000 objects a second, so this counts 200,000, and leaves 90 of the function's 120
# seconds for slow calls.
COUNTING_SECONDS = 30.0
LARGEST_ARRAY = 10_000


def packed_side(settings: PackingSettings) -> int:
    """The shorter side to pack, in pixels.

    For an input of a given size that with a margin. Where training chooses, the side of the largest
    square that it may choose, without a margin: 388 for three times the pixels of 224 x 224.
    """
    size = choices.image_size(settings.image_size, settings.trainer_image)
    if size == choices.CHOSEN_BY_TRAINING:
        return round(choices.PRETRAINED_IMAGE_SIZE * sqrt(settings.max_serving_time))
    return with_margin(size)


def with_margin(image_size: int) -> int:
    """The usual 8/7 of an input's side (256 for 224), so that training can crop."""
    return round(image_size * 8 / 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Opens the run of a completed dataset and submits the Batch jobs that pack it."""

    bucket: Bucket
    batch: "BatchClient"
    settings: PackingSettings

    def start(self, completed: ObjectCreated, invocation: Invocation) -> RunKey | None:
        """The run of the dataset that `completed` completes, or that a correction makes due.

        None if there is nothing to do.
        """
        if completed.key.startswith(layout.CORRECTIONS):
            return self._retrain(completed.key, invocation)
        source = layout.dataset_source(completed.key)
        if source is None:
            return self._refuse_near_miss(completed, invocation)
        try:
            info = self.bucket.head(completed.key, completed.version_id)
        except ObjectMissing:
            logger.warning("dataset was deleted before it could be packed", key=completed.key)
            return None
        run = RunKey(
            source.classifier,
            naming.run_id(info.stored_at, f"{completed.key}\n{completed.version}"),
        )
        follow(run)
        settings = self.settings
        dataset = {"key": source.key, "version": completed.version, "etag": info.etag}
        opened = invocation.runs.open(run, dataset)
        with invocation.failures.recorded(run, Stage.PACK):
            if not layout.is_classifier_name(source.classifier):
                raise UserError(
                    "classifier.name",
                    f"{completed.key}: {source.classifier!r} cannot be a classifier's name: use "
                    "lower-case letters, digits and '-', at most 31 characters, directly below "
                    f"{layout.DATASETS}",
                )
            if info.bytes > settings.max_dataset_gib * 2**30:
                raise _too_large(f"{completed.key} alone has {info.bytes:,} bytes", settings)
            self._submit(run, source, invocation, new=opened)
        return run

    def _submit(
        self, run: RunKey, source: layout.DatasetSource, invocation: Invocation, *, new: bool
    ) -> None:
        """Submit the packing of an open run, unless it was. new: the run was opened just now."""
        settings, runs = self.settings, invocation.runs
        name = naming.resource_name(settings.stack, run.classifier, run.run_id)
        if not runs.claim(run, Stage.PACK):
            logger.info("dataset is being packed already")
            return
        corrected = corrections.keep_list(self.bucket, run)
        parameters = _parameters(self.bucket, source, run, settings, corrected=corrected)
        jobs = _Jobs(self.batch, settings, name, parameters)
        facts = jobs.submit(lambda: count_shards(self.bucket, source, settings), new=new)
        runs.finish(run, Stage.PACK, **facts)
        logger.info("packing submitted", extra=facts)

    def _retrain(self, key: str, invocation: Invocation) -> RunKey | None:
        """Start a run on the newest run's dataset where corrections make it due."""
        classifier, runs = layout.corrected_classifier(key), invocation.runs
        newest = classifier and runs.newest(classifier, consistent=True)
        enough = self.settings.retrain_after_corrections
        if not enough or not newest:
            logger.info("correction starts no run", key=key)
            return None
        follow(newest.key)
        run = Retraining(bucket=self.bucket, enough=enough).due(newest, invocation)
        if run is None:
            return None
        follow(run)
        dataset = dict(newest.dataset)
        if run != newest.key:
            dataset["after"] = newest.key.run_id
        opened = runs.open(run, dataset)
        with invocation.failures.recorded(run, Stage.PACK):
            source = layout.DatasetSource(run.classifier, dataset["key"])
            self._submit(run, source, invocation, new=opened)
        return run

    def _refuse_near_miss(self, completed: ObjectCreated, invocation: Invocation) -> RunKey | None:
        """Report what an object that completes no dataset was probably meant to be, if anything.

        Where its key names a classifier, a run is opened and fails at once, so that the reason is
        sent once, however often the event comes.
        """
        missed = layout.near_miss(completed.key)
        if missed is None:
            logger.info("object completes no dataset", key=completed.key)
            return None
        reason = f"{completed.key} completes no dataset, so nothing is packed: {missed.advice}."
        logger.warning("object nearly completes a dataset", key=completed.key, advice=missed.advice)
        if not missed.classifier:
            invocation.failures.publish("Droplens: a dataset without a name", reason)
            return None
        try:
            info = self.bucket.head(completed.key, completed.version_id)
        except ObjectMissing:
            return None  # deleted since
        run = RunKey(
            missed.classifier,
            naming.run_id(info.stored_at, f"{completed.key}\n{completed.version}"),
        )
        dataset = {"key": completed.key, "version": completed.version, "etag": info.etag}
        invocation.runs.open(run, dataset)
        invocation.failures.fail(run, Stage.PACK, "dataset.incomplete", reason)
        return run


def count_shards(
    bucket: Bucket,
    source: layout.DatasetSource,
    settings: PackingSettings,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """The number of shards to pack the dataset in: its images by pictures_per_packing_job, rounded
    up, and at most as many as can be packed at the same time.

    Counting stops at the largest number, or after COUNTING_SECONDS, when the largest is returned.
    Objects that are no images are counted too. An archive is one shard: it is read sequentially.
    Raises UserError for a dataset that is found to be too large; the job refuses what was not
    counted.
    """
    most = min(settings.packing_max_vcpus // settings.packing_vcpus, LARGEST_ARRAY)
    if source.folder is None or most < 2:
        return 1
    per_job, until = settings.pictures_per_packing_job, clock() + COUNTING_SECONDS
    shards, size = 1, 0
    for count, listed in enumerate(bucket.entries(source.folder), start=1):
        size += listed.bytes
        if size > settings.max_dataset_gib * 2**30:
            raise _too_large(f"{source.folder} has more", settings)
        shards = 1 + (count - 1) // per_job
        if shards == most or clock() > until:
            return most
    return shards


def _too_large(found: str, settings: PackingSettings) -> UserError:
    return UserError(
        "dataset.too_large",
        f"{found}: at most {settings.max_dataset_gib:,} GiB are packed; deploy with a larger "
        "MaxDatasetGiB",
    )


class _Jobs:
    """The Batch jobs of one run. name: of the last one, with which the packing ends."""

    def __init__(
        self,
        batch: "BatchClient",
        settings: PackingSettings,
        name: str,
        parameters: dict[str, str],
    ) -> None:
        self._batch = batch
        self._settings = settings
        self._name = name
        self._array_name = f"{name}-shards"
        self._parameters = parameters

    def submit(self, count: Callable[[], int], *, new: bool) -> dict[str, Any]:
        """Submit the jobs unless they were submitted before; returns their facts for the record.

        count: the number of shards; new: nothing was submitted before. Batch accepts a second job
        of the same name, so after a crash both jobs are looked up.
        """
        array = None if new else self._find(self._array_name)
        last = None if new else self._find(self._name)
        if array is not None:
            shards = array["arrayProperties"]["size"]
        else:
            shards = 1 if last is not None else count()
        if shards == 1:
            return {"batch_job_id": last["jobId"] if last else self._submit(self._name, WHOLE)}
        array_id = (
            array["jobId"]
            if array
            else self._submit(self._array_name, SHARD, shards, arrayProperties={"size": shards})
        )
        last_id = (
            last["jobId"]
            if last
            else self._submit(self._name, JOIN, shards, dependsOn=[{"jobId": array_id}])
        )
        return {"batch_job_id": last_id, "batch_array_id": array_id, "packing_shards": shards}

    def _find(self, name: str) -> "JobSummaryTypeDef | None":
        found = self._batch.list_jobs(
            jobQueue=self._settings.job_queue, filters=[{"name": "JOB_NAME", "values": [name]}]
        )
        jobs = found["jobSummaryList"]
        return jobs[0] if jobs else None

    def _submit(self, name: str, step: str, shards: int | None = None, **more: Any) -> str:
        submitted = self._batch.submit_job(
            jobName=name,
            jobQueue=self._settings.job_queue,
            jobDefinition=self._settings.job_definition,
            parameters={**self._parameters, "step": step, "shards": str(shards or AS_NEEDED)},
            **more,
        )
        return submitted["jobId"]


def _parameters(
    bucket: Bucket,
    source: layout.DatasetSource,
    run: RunKey,
    settings: PackingSettings,
    *,
    corrected: bool,
) -> dict[str, str]:
    """corrected: whether the run takes corrections."""
    folder = f"s3://{bucket.name}/{layout.corrections_prefix(run.classifier)}"
    return {
        "classifier": run.classifier,
        "run_id": run.run_id,
        "source": f"s3://{bucket.name}/{source.key}",
        "destination": f"s3://{bucket.name}/{layout.packed_prefix(run.classifier, run.run_id)}",
        "shorter_side": str(packed_side(settings)),
        "corrections": folder if corrected else NO_CORRECTIONS,
    }
