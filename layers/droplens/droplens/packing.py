"""From a completed dataset to a Batch job that packs it."""

from typing import TYPE_CHECKING

from droplens import layout, naming
from droplens.errors import UserError
from droplens.events import ObjectCreated
from droplens.failures import Failures
from droplens.runs import RunKey, Runs, Stage
from droplens.settings import PackingSettings
from droplens.storage import Bucket, ObjectMissing
from droplens.telemetry import follow, logger

if TYPE_CHECKING:
    from types_boto3_batch.client import BatchClient


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
    """Open the run of a completed dataset and submit its job; None if there is nothing to do."""
    source = layout.dataset_source(completed.key)
    if source is None:
        logger.info("object completes no dataset", key=completed.key)
        if completed.key == f"{layout.DATASETS}{layout.READY_MARKER}":
            failures.publish(
                "Droplens: a dataset without a name",
                f"{completed.key} was dropped, but nothing is packed: put the class folders and "
                f"{layout.READY_MARKER} into a folder that names the classifier, for example "
                f"{layout.DATASETS}cars/{layout.READY_MARKER}.",
            )
        return None
    try:
        info = bucket.head(completed.key, completed.version_id)
    except ObjectMissing:
        logger.warning("dataset was withdrawn before it could be packed", key=completed.key)
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
        job_name = naming.resource_name(settings.stack, run.classifier, run.run_id)
        if not runs.claim(run, Stage.PACK):
            logger.info("dataset is being packed already")
            return run
        # Batch takes a second job of the same name: after a crash, look for the first.
        job_id = None if opened else _submitted(batch, settings.job_queue, job_name)
        if job_id is None:
            job_id = _submit(batch, bucket, source, run, job_name, settings)
        runs.finish(run, Stage.PACK, batch_job_id=job_id)
        logger.info("packing job submitted", job_id=job_id)
    return run


def _submitted(batch: "BatchClient", queue: str, job_name: str) -> str | None:
    answer = batch.list_jobs(jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [job_name]}])
    jobs = answer["jobSummaryList"]
    return jobs[0]["jobId"] if jobs else None


def _submit(
    batch: "BatchClient",
    bucket: Bucket,
    source: layout.DatasetSource,
    run: RunKey,
    job_name: str,
    settings: PackingSettings,
) -> str:
    answer = batch.submit_job(
        jobName=job_name,
        jobQueue=settings.job_queue,
        jobDefinition=settings.job_definition,
        parameters={
            "classifier": run.classifier,
            "run_id": run.run_id,
            "source": f"s3://{bucket.name}/{source.key}",
            "destination": f"s3://{bucket.name}/{layout.packed_prefix(run.classifier, run.run_id)}",
            "shorter_side": str(packed_side(settings.image_size)),
        },
    )
    return answer["jobId"]
