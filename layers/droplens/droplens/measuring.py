"""How good a candidate is: validation records sent through the endpoint that will serve."""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import quantiles

from droplens.card import Measurement
from droplens.confidence import Z95_ONE_SIDED, wilson
from droplens.errors import UserError
from droplens.packed import PackedDataset
from droplens.pictures import Preprocessing, prepare
from droplens.recordio import parse_record, read_index
from droplens.result import best_first
from droplens.storage import Bucket

SAMPLE = 300
CONCURRENCY = 4
CONFIDENT_PRECISION = 0.95


@dataclass(frozen=True, slots=True)
class Judged:
    """One validation picture: was the best answer right, was the truth in the first five,
    how probable was the best answer, and how long did the call take (seconds)."""

    right: bool
    in_top5: bool
    probability: float
    seconds: float


def measure(
    bucket: Bucket,
    dataset: PackedDataset,
    preprocessing: Preprocessing,
    ask: Callable[[bytes], list[float]],
    seed: str,
) -> tuple[Measurement, float | None]:
    """Send a sample of the validation records through `ask`.

    ask: one prepared JPEG to the candidate's probabilities, in class order.
    seed: chooses the sample, so that a repeated measurement sees the same pictures.
    Returns the measurement and the probability from which answers count as confident.
    Raises UserError where there is nothing to measure on.
    """
    if dataset.validation == 0:
        raise UserError(
            "measure.no_validation", "the dataset has no validation pictures: nothing to measure"
        )
    key = f"{dataset.prefix}validation/validation.rec"
    spans = _record_spans(bucket, dataset)
    chosen = sorted(random.Random(seed).sample(spans, min(SAMPLE, len(spans))))

    def judge(span: tuple[int, int]) -> Judged:
        record = parse_record(bucket.read_range(key, *span))
        body, _ = prepare(record.payload, preprocessing)
        began = time.perf_counter()
        answer = ask(body)
        seconds = time.perf_counter() - began
        return judged(answer, int(record.label), seconds)

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        answers = list(pool.map(judge, chosen))
    return summarise(answers, len(spans)), confident_from(answers)


def judged(probabilities: Sequence[float], truth: int, seconds: float) -> Judged:
    """Compare one answer with the truth, in the order that results have."""
    order = best_first(probabilities)
    return Judged(order[0] == truth, truth in order[:5], probabilities[order[0]], seconds)


def summarise(answers: Sequence[Judged], available: int) -> Measurement:
    """Shares and latencies of the sample."""
    times = [answer.seconds * 1000 for answer in answers]
    cuts = quantiles(times, n=20, method="inclusive") if len(times) > 1 else times * 19
    return Measurement(
        pictures=len(answers),
        available=available,
        accuracy=sum(answer.right for answer in answers) / len(answers),
        top5=sum(answer.in_top5 for answer in answers) / len(answers),
        latency_ms_p50=round(cuts[9], 2),
        latency_ms_p95=round(cuts[18], 2),
    )


def confident_from(answers: Sequence[Judged]) -> float | None:
    """The lowest probability from which answers can be relied on.

    That is: of the answers at or above it, a share of at least CONFIDENT_PRECISION is right, also
    when the sample's luck is allowed for (the one-sided 95 % lower bound of that share). None
    where no probability gives that, as on fewer than 52 pictures, however many were right.
    """
    threshold = None
    right = 0
    ordered = sorted(answers, key=lambda answer: -answer.probability)
    for count, answer in enumerate(ordered, start=1):
        right += answer.right
        last_of_ties = count == len(ordered) or ordered[count].probability < answer.probability
        if last_of_ties and wilson(right, count, Z95_ONE_SIDED)[0] >= CONFIDENT_PRECISION:
            threshold = answer.probability
    return threshold


def _record_spans(bucket: Bucket, dataset: PackedDataset) -> list[tuple[int, int]]:
    """First byte and end of each validation record."""
    channel = f"{dataset.prefix}validation/validation"
    index, _ = bucket.read(f"{channel}.idx")
    offsets = [offset for _, offset in read_index(index.decode())]
    size = bucket.head(f"{channel}.rec").bytes
    return list(zip(offsets, [*offsets[1:], size], strict=True))
