"""Finds images in the lists and rows of batch inference, and writes these anew without them.

A container reads its part's list again right before it stores the rows, and leaves out those of
images that are no longer listed; what it has stored until then is found by another look.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from droplens.aws.s3 import Bucket
from droplens.domain import inference_job, layout
from droplens.domain.errors import ObjectMissing
from droplens.domain.inference_job import InferenceJob, InvalidJob, from_lines, to_lines
from droplens_cli.errors import CommandError
from droplens_cli.forget import versions as stored
from droplens_cli.forget.versions import Version
from droplens_cli.session import CONNECTIONS

_FILE = re.compile(r"(images|rows)/[0-9]{5,}\.jsonl\.gz")


def find(bucket: Bucket, keys: Sequence[str]) -> list[Version]:
    """All versions of lists and rows that name one of these images of the bucket."""
    wanted = frozenset(keys)
    files = [
        version
        for place in _jobs(bucket, keys)
        for version in stored.versions(bucket, place)
        if _FILE.fullmatch(version.key.removeprefix(place)) and not version.is_marker
    ]
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        named = threads.map(
            lambda one: any(line["key"] in wanted for line in _lines(bucket, one)), files
        )
        return [one for one, names in zip(files, named, strict=True) if names]


def rewrite(bucket: Bucket, those: Sequence[Version], keys: Sequence[str]) -> bool:
    """Write the current ones of these versions anew without the images; `those` stay.

    One that has changed meanwhile is left as it is, for the next look. Returns whether a list is
    among them, which a container may have read before.
    """
    wanted = frozenset(keys)
    current = [one for one in those if one.is_latest]
    for one in current:
        kept = [line for line in _lines(bucket, one) if line["key"] not in wanted]
        bucket.replace(one.key, to_lines(kept), one.etag)
    return any("/images/" in one.key for one in current)


def _jobs(bucket: Bucket, keys: Sequence[str]) -> Iterator[str]:
    """The prefixes of jobs over the bucket's own objects, and of those that are not known."""
    for classifier in bucket.level(layout.INFERENCE):
        if not isinstance(classifier, str):
            continue
        for job_id in bucket.level(f"{layout.INFERENCE}{classifier}/"):
            if isinstance(job_id, str) and _may_name(bucket, classifier, job_id, keys):
                yield inference_job.prefix(classifier, job_id)


def _may_name(bucket: Bucket, classifier: str, job_id: str, keys: Sequence[str]) -> bool:
    try:
        text, _ = bucket.read(inference_job.job_key(classifier, job_id))
        job = InferenceJob.from_json(text)
    except (ObjectMissing, InvalidJob):
        return True
    return job.bucket == bucket.name and any(key.startswith(job.source) for key in keys)


def _lines(bucket: Bucket, version: Version) -> list[Any]:
    """The lines of a version; none if it is gone."""
    parts = stored.parts(bucket, version)
    try:
        return list(from_lines(b"".join(parts or (gzip.compress(b""),))))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise CommandError(
            f"{version.key}, version {version.version_id}, cannot be searched for the picture: "
            f"{error}",
            "remove it, if it is none of batch inference's, then run the same command",
        ) from None
