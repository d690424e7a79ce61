"""How good a candidate is: records sent through the endpoint that will serve.

Those are the validation records and, where the dataset brought a test split of its own, the test
records, which are kept apart: nothing is decided by them or fitted on them. Answers are kept in the
bucket by the hundred as they come. Whoever measures the same run again, because time ran out or a
call failed, goes on from there.
"""

import hashlib
import json
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from droplens.aws.s3 import Bucket
from droplens.domain import layout
from droplens.domain.errors import ObjectMissing, UserError
from droplens.domain.run import RunKey
from droplens.evaluation.evaluation import Prediction
from droplens.imaging.prepare import Preprocessing, prepare
from droplens.records.manifest import PackedDataset
from droplens.records.recordio import parse_record, read_index

# Of so many independent answers a share of 90 % is known to within one point.
SAMPLE = 4000
PART = 100
CONCURRENCY = 4
VALIDATION, TEST = "validation", "test"


class OutOfTime(Exception):
    """Answers are missing, and this invocation has no time for more: go on in another."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the endpoint predicted of each channel's records; test: empty where there are none."""

    validation: list[Prediction]
    test: list[Prediction]


@dataclass(frozen=True, slots=True)
class Entry:
    """A record: its id, class, image's name, and first byte and end in the file."""

    record: int
    label: int
    name: str
    start: int
    end: int


def measure(
    bucket: Bucket,
    run: RunKey,
    dataset: PackedDataset,
    preprocessing: Preprocessing,
    ask: Callable[[bytes], list[float]],
    may_go_on: Callable[[], bool],
) -> Measured:
    """Send a sample of each channel's records through `ask`, or all if they are not many.

    ask: one prepared JPEG to the candidate's probabilities, in class order.
    may_go_on: asked after each part of PART images, so that every attempt gets ahead.
    Raises UserError where there is nothing to measure on, and OutOfTime.
    """
    if dataset.validation == 0:
        raise UserError(
            "measure.no_validation", "the dataset has no validation pictures: nothing to measure"
        )

    def answer(channel: str, entry: Entry) -> Prediction:
        records = f"{dataset.prefix}{channel}/{channel}.rec"
        payload = parse_record(bucket.read_range(records, entry.start, entry.end)).payload
        body, _ = prepare(payload, preprocessing)
        began = time.perf_counter()
        probabilities = ask(body)
        return Prediction(
            record=entry.record,
            name=entry.name,
            sha256=hashlib.sha256(payload).hexdigest(),
            truth=entry.label,
            seconds=time.perf_counter() - began,
            probabilities=probabilities,
        )

    found: dict[str, list[Prediction]] = {VALIDATION: [], TEST: []}
    has_asked = False
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        for channel in (VALIDATION, TEST) if dataset.test else (VALIDATION,):
            chosen = sample(entries(bucket, dataset, channel), SAMPLE)
            for number, part in enumerate(_parts(chosen)):
                key = layout.answers_key(run.classifier, run.run_id, number, channel)
                body = _read(bucket, key)
                if body is None:
                    if has_asked and not may_go_on():
                        raise OutOfTime
                    has_asked = True
                    answers = pool.map(partial(answer, channel), part)
                    body = "\n".join(map(_line, answers)).encode()
                    if not bucket.write_json(key, body):
                        body = bucket.read(key)[0]  # another invocation was first: take its own
                found[channel] += map(_answer, body.splitlines())
    return Measured(found[VALIDATION], found[TEST])


def entries(bucket: Bucket, dataset: PackedDataset, channel: str = VALIDATION) -> list[Entry]:
    """The records of a channel, as the index and the list beside them tell."""
    stem = f"{dataset.prefix}{channel}/{channel}"
    index = read_index(bucket.read(f"{stem}.idx")[0].decode())
    ends = [*(offset for _, offset in index[1:]), bucket.head(f"{stem}.rec").bytes]
    listed = {}
    # Not splitlines(), which would also cut at the odd separators that a name may hold.
    for line in bucket.read(f"{stem}.lst")[0].decode().rstrip("\n").split("\n"):
        record, label, name = line.split("\t")
        listed[int(record)] = (int(float(label)), name)
    return [
        Entry(record, *listed[record], start, end)
        for (record, start), end in zip(index, ends, strict=True)
    ]


def sample(records: Sequence[Entry], most: int) -> list[Entry]:
    """All records, or about `most` of them: the same share of every class, at least one of each.

    Names decide which, so that the models of two datasets are measured on what both hold.
    """
    if len(records) <= most:
        return list(records)
    classes: defaultdict[int, list[Entry]] = defaultdict(list)
    for record in records:
        classes[record.label].append(record)
    chosen = []
    for members in classes.values():
        count = max(1, round(len(members) * most / len(records)))
        members.sort(key=lambda entry: hashlib.sha256(entry.name.encode()).digest())
        chosen += members[:count]
    return sorted(chosen, key=lambda entry: entry.record)


def _parts(chosen: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    for start in range(0, len(chosen), PART):
        yield chosen[start : start + PART]


def _read(bucket: Bucket, key: str) -> bytes | None:
    try:
        return bucket.read(key)[0]
    except ObjectMissing:
        return None


def _line(answer: Prediction) -> str:
    document: dict[str, Any] = {
        "record": answer.record,
        "name": answer.name,
        "sha256": answer.sha256,
        "truth": answer.truth,
        "seconds": round(answer.seconds, 6),
        # Six digits, also of the least probable: the truth may be among them.
        "probabilities": [float(f"{value:.6g}") for value in answer.probabilities],
    }
    return json.dumps(document, separators=(",", ":"))


def _answer(line: bytes) -> Prediction:
    document = json.loads(line)
    # A third of a list's memory: there may be millions of numbers.
    return Prediction(**{**document, "probabilities": array("d", document["probabilities"])})
