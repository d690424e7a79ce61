"""A batch inference job: one model classifies objects of a bucket, which stay where they are.

inference/<classifier>/<job>/job.json            the job, written last before it is submitted
inference/<classifier>/<job>/images/00000.jsonl.gz   its images, a part of them: a line for each
inference/<classifier>/<job>/rows/00000.jsonl.gz     their rows, written once the part is complete

A part whose rows are there is done, so a job is resumed by submitting it again.
"""

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from droplens.domain.layout import INFERENCE, is_classifier_name

SCHEMA = "droplens.inference-job.v1"
# Images of a part: a minute's work of one core at most, which an interruption costs.
IMAGES_PER_PART = 1000
# Of a container: it starts within a minute, and works for some ten.
PARTS_PER_CHILD = 25
# Of one job, whose containers are 4,000 then: an array has 10,000 at most.
# https://docs.aws.amazon.com/batch/latest/userguide/array_jobs.html
MOST_IMAGES = 100_000_000

_JOB_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")


class InvalidJob(Exception):
    """A stored job that this version cannot read."""


@dataclass(frozen=True, slots=True)
class Image:
    """An object to classify.

    version_id: None for the newest at the time when it is read; etag: without quotes, of the only
    content that is wanted, None for any.
    """

    key: str
    bytes: int
    version_id: str | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceJob:
    """A job.

    model: key of the model's artefact in the stack's bucket; card: its model card, as JSON; bucket:
    that of the images, source: the prefix of their keys; images: their number; manifest: address of
    the S3 Inventory that lists them, "" where the bucket was listed.
    """

    classifier: str
    job_id: str
    model: str
    card: Mapping[str, Any]
    bucket: str
    source: str
    images: int
    manifest: str = ""

    @property
    def parts(self) -> int:
        """The number of parts."""
        return -(-self.images // IMAGES_PER_PART)

    @property
    def children(self) -> int:
        """The containers among which the parts are divided."""
        return -(-self.parts // PARTS_PER_CHILD)

    def parts_of(self, child: int) -> range:
        """The parts of one of the containers. Raises InvalidJob where there is no such one."""
        if not 0 <= child < self.children:
            raise InvalidJob(f"the job has {self.children} containers, there is no number {child}")
        return range(child, self.parts, self.children)

    def images_key(self, part: int) -> str:
        """The list of a part's images."""
        return f"{prefix(self.classifier, self.job_id)}images/{part:05}.jsonl.gz"

    def rows_key(self, part: int) -> str:
        """The rows of a part."""
        return f"{rows_prefix(self.classifier, self.job_id)}{part:05}.jsonl.gz"

    def to_json(self) -> bytes:
        """The job as it is stored."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read a stored job. Raises InvalidJob."""
        try:
            document = json.loads(text)
            if document.pop("schema") != SCHEMA:
                raise InvalidJob(f"it is no job of schema {SCHEMA}")
            job = cls(**document)
            named = is_classifier_name(job.classifier) and _JOB_ID.fullmatch(job.job_id)
            if not named or not 0 < job.images <= MOST_IMAGES:
                raise ValueError("its name or its number of images")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidJob(f"the job cannot be read: {error}") from error
        return job


def is_job_id(text: str) -> bool:
    """Whether a text can be a job's id."""
    return _JOB_ID.fullmatch(text) is not None


def prefix(classifier: str, job_id: str) -> str:
    """Where everything of a job is."""
    return f"{INFERENCE}{classifier}/{job_id}/"


def job_key(classifier: str, job_id: str) -> str:
    """The job itself."""
    return f"{prefix(classifier, job_id)}job.json"


def rows_prefix(classifier: str, job_id: str) -> str:
    """Where the rows of all parts are."""
    return f"{prefix(classifier, job_id)}rows/"


def to_lines(documents: Iterable[Any]) -> bytes:
    """JSON Lines, compressed; the same documents give the same bytes."""
    lines = (json.dumps(one, ensure_ascii=False, separators=(",", ":")) + "\n" for one in documents)
    return gzip.compress("".join(lines).encode(), mtime=0)


def from_lines(data: bytes) -> Iterator[Any]:
    """The documents of `to_lines`."""
    for line in gzip.decompress(data).split(b"\n"):
        if line:
            yield json.loads(line)
