"""Predictions of a candidate for evaluation records, through the endpoint that will serve.

These are the validation records and, where the dataset has a test split of its own, the test
records, which are kept apart: nothing is decided by them or fitted on them. Predictions are stored
in the bucket in parts of a hundred. An invocation that evaluates the same run again, after a
timeout or a failed call, continues with the next part.
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
from droplens.domain.result import Response
from droplens.domain.run import RunKey
from droplens.evaluation.evaluation import Prediction
from droplens.imaging.prepare import Preprocessing, prepare
from droplens.records.manifest import PackedDataset
from droplens.records.recordio import parse_record, read_index

# With so many independent predictions the 95 % interval of an accuracy of 90 % is +-1 point.
SAMPLE = 4000
PART = 100
CONCURRENCY = 4
VALIDATION, TEST = "validation", "test"


class OutOfTime(Exception):
    """Predictions are missing, and this invocation has no time left: continue in another."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The predictions for each channel's records; test: empty where there are none."""

    validation: list[Prediction]
    test: list[Prediction]


@dataclass(frozen=True, slots=True)
class Entry:
    """A record: its id, class, file name, and byte range [start, end) in the record file."""

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
    predict_one: Callable[[bytes], Response],
    may_go_on: Callable[[], bool],
) -> Measured:
    """Predict a sample of each channel's records by `predict_one`, or all up to SAMPLE.

    predict_one: returns the candidate's response for one prepared JPEG.
    may_go_on: called after each part of PART images, so that every attempt makes progress.
    Raises UserError where there are no validation records, and OutOfTime.
    """
    if dataset.validation == 0:
        raise UserError(
            "measure.no_validation", "the dataset has no validation pictures: nothing to measure"
        )

    def predict(channel: str, entry: Entry) -> Prediction:
        records = f"{dataset.prefix}{channel}/{channel}.rec"
        payload = parse_record(bucket.read_range(records, entry.start, entry.end)).payload
        body, _ = prepare(payload, preprocessing)
        began = time.perf_counter()
        response = predict_one(body)
        return Prediction(
            record=entry.record,
            name=entry.name,
            sha256=hashlib.sha256(payload).hexdigest(),
            truth=entry.label,
            seconds=time.perf_counter() - began,
            probabilities=response.probabilities,
            novelty=response.novelty,
        )

    found: dict[str, list[Prediction]] = {VALIDATION: [], TEST: []}
    has_predicted = False
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        for channel in (VALIDATION, TEST) if dataset.test else (VALIDATION,):
            chosen = sample(entries(bucket, dataset, channel), SAMPLE)
            for number, part in enumerate(_parts(chosen)):
                key = layout.predictions_key(run.classifier, run.run_id, number, channel)
                body = _read(bucket, key)
                if body is None:
                    if has_predicted and not may_go_on():
                        raise OutOfTime
                    has_predicted = True
                    predictions = pool.map(partial(predict, channel), part)
                    body = "\n".join(map(_line, predictions)).encode()
                    if not bucket.write_json(key, body):
                        body = bucket.read(key)[0]  # another invocation was first: use its part
                found[channel] += map(_prediction, body.splitlines())
    return Measured(found[VALIDATION], found[TEST])


def entries(bucket: Bucket, dataset: PackedDataset, channel: str = VALIDATION) -> list[Entry]:
    """The records of a channel, from the index and the list next to the record file."""
    stem = f"{dataset.prefix}{channel}/{channel}"
    index = read_index(bucket.read(f"{stem}.idx")[0].decode())
    ends = [*(offset for _, offset in index[1:]), bucket.head(f"{stem}.rec").bytes]
    listed = {}
    # Not splitlines(), which also splits at other separators, which a name may contain.
    for line in bucket.read(f"{stem}.lst")[0].decode().rstrip("\n").split("\n"):
        record, label, name = line.split("\t")
        listed[int(record)] = (int(float(label)), name)
    return [
        Entry(record, *listed[record], start, end)
        for (record, start), end in zip(index, ends, strict=True)
    ]


def sample(records: Sequence[Entry], most: int) -> list[Entry]:
    """All records, or a stratified sample of about `most`, with at least one of each class.

    Chosen by the hash of names, so that models of two similar datasets share many of them.
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


def _line(prediction: Prediction) -> str:
    document: dict[str, Any] = {
        "record": prediction.record,
        "name": prediction.name,
        "sha256": prediction.sha256,
        "truth": prediction.truth,
        "seconds": round(prediction.seconds, 6),
        # Six significant digits, also of small values: the true class may have one.
        "probabilities": [float(f"{value:.6g}") for value in prediction.probabilities],
        "novelty": prediction.novelty,
    }
    return json.dumps(document, separators=(",", ":"))


def _prediction(line: bytes) -> Prediction:
    document = json.loads(line)
    # An array has a third of a list's memory, and there may be millions of numbers.
    return Prediction(**{**document, "probabilities": array("d", document["probabilities"])})
