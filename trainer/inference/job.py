"""Classify a container's parts of a batch inference job.

    python -m trainer classify --job s3://bucket/inference/cars/20261127-120000-1a2b3c/job.json

Exit code 0: the rows of all its parts are written. 1: another attempt would end in the same way.
75: it may not, S3 was at fault. Each part's rows are one object, written once all of its images are
classified; parts that an earlier attempt completed are left out.
"""

import io
import json
import logging
import os
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from droplens.domain.card import CardError, ModelCard
from droplens.domain.inference_job import (
    Image,
    InferenceJob,
    InvalidJob,
    from_lines,
    to_lines,
)
from droplens.domain.stored_object import ObjectInfo
from droplens.imaging.prepare import ImageError
from droplens.inference.cores import cores
from trainer.inference.objects import (
    READERS,
    Objects,
    StorageError,
    Unreadable,
    check_size,
)
from trainer.inference.rows import Row, classified, rejected
from trainer.serving.app import Model

log = logging.getLogger(__name__)

FAILED, TEMPORARY = 1, 75
# Of the children of an array job.
# https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html
INDEX = "AWS_BATCH_JOB_ARRAY_INDEX"
# An artefact of ours has 8 files; of the largest networks, 0.5 GB.
MAX_FILES, MAX_MODEL_BYTES = 100, 4 * 1024**3


class JobError(Exception):
    """The job cannot be done, however often it is tried."""


def main(job_url: str, environment: Mapping[str, str] = os.environ) -> int:
    """Classify this container's parts. Returns the exit code."""
    try:
        _run(job_url, int(environment.get(INDEX, "0")), Objects.connected())
    except (JobError, InvalidJob, CardError) as error:
        log.error("%s", error)  # noqa: TRY400  the sentence says it all
        return FAILED
    except StorageError as error:
        log.error("%s", error)  # noqa: TRY400
        return TEMPORARY
    return 0


def _run(job_url: str, child: int, objects: Objects) -> None:
    bucket, _, key = job_url.removeprefix("s3://").partition("/")
    job = InferenceJob.from_json(objects.read(bucket, key))
    parts = job.parts_of(child)
    with tempfile.TemporaryDirectory() as folder:
        _unpack(objects.read(bucket, job.model), Path(folder))
        try:
            # An image is a run of one thread: so many run at once as there are cores.
            model = Model.load(Path(folder), threads=1)
        except (OSError, ValueError) as error:
            raise JobError(f"s3://{bucket}/{job.model} is no model: {error}") from error
        card = ModelCard.from_json(json.dumps(job.card).encode())
        if tuple(model.classes) != card.classes:
            raise JobError(f"s3://{bucket}/{job.model} has other classes than its model card")
        classifier = Classifier(objects, job, model, card)
        for part in parts:
            if objects.exists(bucket, job.rows_key(part)):
                log.info("part=%d of=%d done by an earlier attempt", part, job.parts)
                continue
            begun = time.monotonic()
            images = _listed_in(objects, bucket, job.images_key(part))
            rows = classifier.rows(images)
            # `droplens forget` takes an image out of the list, then out of rows that are there.
            still = {image.key for image in _listed_in(objects, bucket, job.images_key(part))}
            rows = [row for row in rows if row["key"] in still]
            objects.write(bucket, job.rows_key(part), to_lines(rows))
            refused = sum(row["status"] == "rejected" for row in rows)
            seconds = time.monotonic() - begun
            log.info(
                "part=%d of=%d images=%d rejected=%d seconds=%.1f",
                *(part, job.parts, len(rows), refused, seconds),
            )


def _listed_in(objects: Objects, bucket: str, key: str) -> list[Image]:
    return [Image(**one) for one in from_lines(objects.read(bucket, key))]


def _unpack(archive: bytes, folder: Path) -> None:
    """Extract a model archive. Raises JobError."""
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
            for number, member in enumerate(opened):
                total += member.size
                if number == MAX_FILES or total > MAX_MODEL_BYTES:
                    raise JobError("the model archive is larger than any of ours")
                opened.extract(member, folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise JobError(f"the model archive cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Classifier:
    """A model, for images of one bucket."""

    objects: Objects
    job: InferenceJob
    model: Model
    card: ModelCard

    def rows(self, images: list[Image]) -> list[Row]:
        """A row for each image, in their order.

        Raises StorageError; JobError where not one of the images may be read.
        """
        computing = threading.BoundedSemaphore(cores())

        def row(image: Image) -> tuple[Row, bool]:
            try:
                check_size(image.bytes)
                data, found = self.objects.image(self.job.bucket, image)
            except ImageError as error:
                return rejected(_listed(image), error, self.card), False
            except Unreadable as error:
                problem = ImageError(error.code, f"{error}")
                return rejected(_listed(image), problem, self.card), error.denied
            with computing:
                try:
                    prediction = self.model.predict(data)
                except ImageError as error:
                    return rejected(found, error, self.card), False
            return classified(self.job.bucket, found, prediction, self.card), False

        with ThreadPoolExecutor(READERS, "images") as readers:
            found = list(readers.map(row, images))
        denied = sum(is_denied for _, is_denied in found)
        if images and denied == len(images):
            raise JobError(
                f"the stack may read no image of s3://{self.job.bucket}, the first "
                f"{images[0].key}: name the bucket in the stack's parameter InferenceSources"
            )
        return [one for one, _ in found]


def _listed(image: Image) -> ObjectInfo:
    """What the list says of an image that was not read."""
    return ObjectInfo(image.key, "", image.version_id, image.bytes, datetime.now(UTC), {})
