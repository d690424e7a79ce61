"""From a completed dataset to the Batch jobs that pack it.

A small dataset is packed by one job. A large one is packed in shards by the children of an array
job, and a job that waits for all of them joins what they made.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from droplens.aws.events import ObjectCreated
from droplens.aws.s3 import Bucket
from droplens.domain import layout, naming
from droplens.domain.errors import ObjectMissing, UserError
from droplens.domain.run import RunKey, Stage
from droplens.journey.failures import Failures
from droplens.runtime.settings import PackingSettings
from droplens.runtime.telemetry import follow, logger
from droplens.state.runs import Runs

if TYPE_CHECKING:
    from types_boto3_batch.client import BatchClient
    from types_boto3_batch.type_defs import JobSummaryTypeDef

# batch_prep's --step.
WHOLE = "all"
SHARD = "pack"
JOIN = "join"
# Its --shards where one job packs everything: as many, one after the other, as memory asks for.
AS_NEEDED = "auto"

# S3 lists some 7,000 objects a second, so this counts 200,000, and leaves the function's other
# 90 seconds to whatever is slow on a bad day.
COUNTING_SECONDS = 30.0
LARGEST_ARRAY = 10_000


def packed_side(image_size: int) -> int:
    """The shorter side to pack for a model that sees `image_size`, in pixels.

    The usual 8/7 (256 for 224) leaves a margin for crops.
    """
    return round(image_size * 8 / 7)


def start_packing(
    completed: ObjectCreated,
    bucket: Bucket,
    runs: Runs,
    batch: "BatchClient",
    failures: Failures,
    settings: PackingSettings,
) -> RunKey | None:
    """Open the run of a completed dataset and submit its jobs; None if there is nothing to do."""
    source = layout.dataset_source(completed.key)
    if source is None:
        return _refuse_near_miss(completed, bucket, runs, failures)
    try:
        info = bucket.head(completed.key, completed.version_id)
    except ObjectMissing:
        logger.warning("dataset was deleted before it could be packed", key=completed.key)
        return None
    run = RunKey(
        source.classifier,
        naming.run_id(info.stored_at, f"{completed.key}\n{completed.version}"),
    )
    follow(run)
    dataset = {"key": source.key, "version": completed.version, "etag": info.etag}
    opened = runs.open(run, dataset)
    with failures.recorded(run, Stage.PACK):
        if not layout.is_classifier_name(source.classifier):
            raise UserError(
                "classifier.name",
                f"{completed.key}: {source.classifier!r} cannot be a classifier's name: use "
                "lower-case letters, digits and '-', at most 31 characters, directly below "
                f"{layout.DATASETS}",
            )
        if info.bytes > settings.max_dataset_gib * 2**30:
            raise _too_large(f"{completed.key} alone has {info.bytes:,} bytes", settings)
        name = naming.resource_name(settings.stack, run.classifier, run.run_id)
        if not runs.claim(run, Stage.PACK):
            logger.info("dataset is being packed already")
            return run
        jobs = _Jobs(batch, settings, name, _parameters(bucket, source, run, settings))
        facts = jobs.submit(lambda: count_shards(bucket, source, settings), new=opened)
        runs.finish(run, Stage.PACK, **facts)
        logger.info("packing submitted", extra=facts)
    return run


def _refuse_near_miss(
    completed: ObjectCreated, bucket: Bucket, runs: Runs, failures: Failures
) -> RunKey | None:
    """Say what an object that completes no dataset was probably meant to be, if anything.

    Where it names a classifier, that is a run which fails at once: so it is told once, however
    often its event comes.
    """
    missed = layout.near_miss(completed.key)
    if missed is None:
        logger.info("object completes no dataset", key=completed.key)
        return None
    told = f"{completed.key} completes no dataset, so nothing is packed: {missed.advice}."
    logger.warning("object nearly completes a dataset", key=completed.key, advice=missed.advice)
    if not missed.classifier:
        failures.publish("Droplens: a dataset without a name", told)
        return None
    try:
        info = bucket.head(completed.key, completed.version_id)
    except ObjectMissing:
        return None  # taken back already
    run = RunKey(
        missed.classifier,
        naming.run_id(info.stored_at, f"{completed.key}\n{completed.version}"),
    )
    runs.open(run, {"key": completed.key, "version": completed.version, "etag": info.etag})
    failures.fail(run, Stage.PACK, "dataset.incomplete", told)
    return run


def count_shards(
    bucket: Bucket,
    source: layout.DatasetSource,
    settings: PackingSettings,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """In how many shards to pack the dataset: one for each full or begun job's worth of pictures.

    Never more than can be packed at once, which is also where counting stops: at what fills the
    largest array, or after COUNTING_SECONDS, when the dataset is taken to fill it. What lies beside
    the pictures is counted with them. An archive has to be read from its front by one job.
    Raises UserError where so much was counted that the dataset is refused; the job itself refuses
    what was not counted.
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
    """The jobs of one run. name: of the job whose end is the packing's end."""

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
        """Have the dataset packed, once; what the run keeps of its jobs.

        count: in how many shards; new: nothing was submitted before. Batch takes a second job of
        the same name, so after a crash both jobs are looked for.
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
        answer = self._batch.list_jobs(
            jobQueue=self._settings.job_queue, filters=[{"name": "JOB_NAME", "values": [name]}]
        )
        jobs = answer["jobSummaryList"]
        return jobs[0] if jobs else None

    def _submit(self, name: str, step: str, shards: int | None = None, **more: Any) -> str:
        answer = self._batch.submit_job(
            jobName=name,
            jobQueue=self._settings.job_queue,
            jobDefinition=self._settings.job_definition,
            parameters={**self._parameters, "step": step, "shards": str(shards or AS_NEEDED)},
            **more,
        )
        return answer["jobId"]


def _parameters(
    bucket: Bucket, source: layout.DatasetSource, run: RunKey, settings: PackingSettings
) -> dict[str, str]:
    return {
        "classifier": run.classifier,
        "run_id": run.run_id,
        "source": f"s3://{bucket.name}/{source.key}",
        "destination": f"s3://{bucket.name}/{layout.packed_prefix(run.classifier, run.run_id)}",
        "shorter_side": str(packed_side(settings.image_size)),
    }
